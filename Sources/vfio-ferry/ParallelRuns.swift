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

  /// What `play` gives for each number below `count`, in their order, however the runs end. How many have ended is shown on a
  /// terminal.
  /// - Parameter name: the threads', at most 15 bytes.
  static func results<Result: Sendable>(
    of count: Int, name: String, _ console: Console, _ play: @escaping @Sendable (Int) -> Result
  ) throws(CommandFailure) -> [Result] {
    let desk = Desk<Result>(count: count)
    try each(below: count, name: name) { number in
      let ended = desk.put(play(number), number)
      if console.showsProgress { console.err("\r\u{1b}[K\(ended) of \(count) runs") }
    }
    if console.showsProgress { console.err("\r\u{1b}[K") }
    return desk.results
  }

  /// Where threads hand in their results.
  private final class Desk<Result: Sendable>: Sendable {
    private let state: Mutex<(results: [Result?], ended: Int)>

    init(count: Int) { state = Mutex((Array(repeating: nil, count: count), 0)) }

    var results: [Result] { state.withLock { $0.results.compactMap(\.self) } }

    /// - Returns: how many there are now.
    func put(_ result: Result, _ number: Int) -> Int {
      state.withLock {
        $0.results[number] = result
        $0.ended += 1
        return $0.ended
      }
    }
  }
}
