// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxIO
internal import Synchronization

/// Work in many independent pieces, on all processors.
enum ParallelRuns {
  private final class Counter: Sendable {
    let next = Atomic(0)
  }

  /// Calls `body` with each number below `count`, on as many threads as there are processors, and waits for all of them.
  /// Small numbers come first.
  /// - Parameter name: the threads', at most 15 bytes.
  static func each(below count: Int, name: String, _ body: @escaping @Sendable (Int) -> Void) throws(CommandFailure) {
    let counter = Counter()
    let processors = max(1, min(count, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
    var threads: [BlockingThread] = []
    defer { for thread in threads { thread.join() } }
    do throws(SystemError) {
      for _ in 0..<processors {
        threads.append(
          try BlockingThread(name: name) {
            while true {
              let number = counter.next.add(1, ordering: .relaxed).oldValue
              if number >= count { return }
              body(number)
            }
          })
      }
    } catch {
      // A thread less is no reason to do nothing.
      if threads.isEmpty { throw .failed("\(error)") }
    }
  }
}
