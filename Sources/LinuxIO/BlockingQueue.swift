// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// A queue between threads: any may put, and one thread takes and waits.
///
/// Waiting is by the monotonic clock and blocks a thread, so this is nothing for Swift's cooperative pool.
@safe
public final class BlockingQueue<Element: Sendable>: @unchecked Sendable {
  // Unchecked because the compiler can't see that `elements` and `isClosed` are touched under `lock` only. Mutex has no
  // condition to wait on, so the lock is pthread's.
  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let changed: UnsafeMutablePointer<pthread_cond_t>
  private var elements: [Element] = []
  private var head = 0
  private var isClosed = false

  /// An empty queue.
  public init() {
    unsafe lock = .allocate(capacity: 1)
    unsafe changed = .allocate(capacity: 1)
    unsafe pthread_mutex_init(lock, nil)
    var attributes = pthread_condattr_t()
    unsafe pthread_condattr_init(&attributes)
    unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    unsafe pthread_cond_init(changed, &attributes)
    unsafe pthread_condattr_destroy(&attributes)
  }

  deinit {
    unsafe pthread_cond_destroy(changed)
    unsafe pthread_mutex_destroy(lock)
    unsafe changed.deallocate()
    unsafe lock.deallocate()
  }

  /// Adds an element at the end; one that comes after ``close()`` is dropped.
  public func put(_ element: Element) { _ = offer(element) }

  /// The same where it matters whether anybody takes it.
  /// - Returns: whether it was added.
  public func offer(_ element: Element) -> Bool {
    unsafe pthread_mutex_lock(lock)
    let isOpen = !isClosed
    if isOpen { elements.append(element) }
    unsafe pthread_mutex_unlock(lock)
    if isOpen { unsafe pthread_cond_signal(changed) }
    return isOpen
  }

  /// Ends the queue: what is in it can still be taken, then every taker gets nil.
  public func close() {
    unsafe pthread_mutex_lock(lock)
    isClosed = true
    unsafe pthread_mutex_unlock(lock)
    unsafe pthread_cond_broadcast(changed)
  }

  /// Takes the oldest element, waiting for one.
  /// - Parameter deadline: microseconds of the monotonic clock at which to stop waiting; nil waits for ever.
  /// - Returns: nil where there is none at the deadline, or once the queue is closed and empty.
  public func take(until deadline: UInt64? = nil) -> Element? {
    unsafe pthread_mutex_lock(lock)
    defer { unsafe pthread_mutex_unlock(lock) }
    while head == elements.count, !isClosed {
      guard let deadline else {
        unsafe pthread_cond_wait(changed, lock)
        continue
      }
      var time = timespec(tv_sec: Int(deadline / 1_000_000), tv_nsec: Int(deadline % 1_000_000) * 1000)
      if unsafe pthread_cond_timedwait(changed, lock, &time) == ETIMEDOUT { break }
    }
    guard head < elements.count else { return nil }
    let element = elements[head]
    head += 1
    // Taken elements are let go in one go now and then: a queue is short, and shifting it each time is not free.
    if head == elements.count || head >= 64 {
      elements.removeFirst(head)
      head = 0
    }
    return element
  }
}

/// The monotonic clock, in microseconds.
public func monotonicMicroseconds() -> UInt64 {
  var time = timespec()
  unsafe clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000 + UInt64(time.tv_nsec) / 1000
}
