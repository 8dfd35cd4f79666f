// SPDX-License-Identifier: Apache-2.0

/// A thread that carries out jobs one after the other: a device's control lane or data lane, or one direction of a
/// channel.
public final class Lane: Sendable {
  private let jobs = BlockingQueue<@Sendable () -> Void>()
  private let thread: BlockingThread

  /// A thread with nothing to do yet.
  /// - Parameter name: at most 15 bytes.
  public init(name: String) throws(SystemError) {
    thread = try BlockingThread(name: name) { [jobs] in
      while let job = jobs.take() { job() }
    }
  }

  deinit { jobs.close() }

  /// Adds a job behind those that wait already.
  public func put(_ job: @escaping @Sendable () -> Void) { jobs.put(job) }

  /// The same where somebody waits for it.
  /// - Returns: whether it will be done: not where the lane was given up before.
  public func offer(_ job: @escaping @Sendable () -> Void) -> Bool { jobs.offer(job) }

  /// Takes no more jobs, and leaves the thread to end by itself.
  public func abandon() { jobs.close() }

  /// Waits until every job is done, and ends the thread. A lane that is never finished, because it is in a call that
  /// does not return, ends by itself after that call.
  public func finish() {
    jobs.close()
    thread.join()
  }
}
