// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc
internal import Synchronization

/// A thread of its own for calls that block, which must stay off Swift's cooperative pool.
public final class BlockingThread: Sendable {
  /// Nil once it was joined.
  private let handle: Mutex<pthread_t?>

  private final class Body {
    let name: String
    let run: @Sendable () -> Void
    init(_ name: String, _ run: @escaping @Sendable () -> Void) {
      self.name = name
      self.run = run
    }
  }

  /// Starts the thread. Signals are blocked in it, because one thread of the program takes them all; but for SIGSYS, which
  /// tells a thread of its own system calls that are refused (``SystemCallFilter``).
  /// - Parameter name: at most 15 bytes, as `ps -L` shows it.
  public init(name: String, _ body: @escaping @Sendable () -> Void) throws(SystemError) {
    var handle = pthread_t()
    let boxed = unsafe Unmanaged.passRetained(Body(name, body))
    var all = sigset_t()
    var before = sigset_t()
    unsafe sigfillset(&all)
    unsafe sigdelset(&all, SIGSYS)
    unsafe pthread_sigmask(SIG_SETMASK, &all, &before)
    let result = unsafe pthread_create(
      &handle, nil,
      { argument in
        let body = unsafe Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue()
        unsafe vf_name_this_thread(body.name)
        body.run()
        return nil
      }, boxed.toOpaque())
    unsafe pthread_sigmask(SIG_SETMASK, &before, nil)
    if result != 0 {
      unsafe boxed.release()
      throw SystemError("starting", "the thread \(name)", errno: result)
    }
    self.handle = Mutex(handle)
  }

  /// A thread that nobody waits for goes on by itself, for example in a call that nothing can interrupt.
  deinit { if let handle = handle.withLock({ $0 }) { pthread_detach(handle) } }

  /// Waits until the thread has ended.
  public func join() {
    let handle = handle.withLock { handle in
      defer { handle = nil }
      return handle
    }
    if let handle { pthread_join(handle, nil) }
  }
}

/// A pause where there is nothing to wait for: for the eyes of a person who watches, and before a kernel is asked again
/// that was busy.
public enum Pause {
  /// Waits for this many milliseconds, at most 4,294,967.
  public static func milliseconds(_ count: UInt32) { usleep(count * 1000) }
}
