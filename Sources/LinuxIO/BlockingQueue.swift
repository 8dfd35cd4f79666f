// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// A queue between threads: any may put, and one thread takes and waits.
///
/// A taker that can do nothing with the first of several elements may wait for all of them, and is woken once.
///
/// Waiting is by the monotonic clock and blocks a thread, so this is nothing for Swift's cooperative pool.
@safe
public final class BlockingQueue<Element: Sendable>: @unchecked Sendable {
  // Unchecked because the compiler can't see that `elements` and `isClosed` are touched under `lock` only. Mutex has no
  // condition to wait on, so the lock is pthread's.
  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let changed: UnsafeMutablePointer<pthread_cond_t>
  private var elements: [(element: Element, isUrgent: Bool)] = []
  private var head = 0
  private var urgent = 0
  /// How many elements the taker that waits is waiting for.
  private var wanted = 1
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
  /// - Parameter isUrgent: whether it wakes a taker that waits for more than one.
  public func put(_ element: Element, isUrgent: Bool = true) { _ = offer(element, isUrgent: isUrgent) }

  /// The same where it matters whether anybody takes it.
  /// - Returns: whether it was added.
  public func offer(_ element: Element, isUrgent: Bool = true) -> Bool {
    unsafe pthread_mutex_lock(lock)
    let isOpen = !isClosed
    if isOpen {
      elements.append((element, isUrgent))
      urgent += isUrgent ? 1 : 0
    }
    let suffices = isReady(wanted)
    unsafe pthread_mutex_unlock(lock)
    if suffices { unsafe pthread_cond_signal(changed) }
    return isOpen
  }

  private func isReady(_ count: Int) -> Bool { urgent > 0 || elements.count - head >= count }

  /// Ends the queue: what is in it can still be taken, then every taker gets nil.
  public func close() {
    unsafe pthread_mutex_lock(lock)
    isClosed = true
    unsafe pthread_mutex_unlock(lock)
    unsafe pthread_cond_broadcast(changed)
  }

  /// Takes the oldest element, waiting for one.
  /// - Parameters:
  ///   - deadline: microseconds of the monotonic clock at which to stop waiting; nil waits for ever.
  ///   - count: with fewer elements than this, none of them urgent, wait on until the deadline.
  /// - Returns: nil where there is none at the deadline, or once the queue is closed and empty.
  public func take(until deadline: UInt64? = nil, atLeast count: Int = 1) -> Element? {
    unsafe pthread_mutex_lock(lock)
    defer { unsafe pthread_mutex_unlock(lock) }
    wanted = max(1, count)
    while !isReady(wanted), !isClosed {
      guard let deadline else {
        unsafe pthread_cond_wait(changed, lock)
        continue
      }
      var time = timespec(tv_sec: Int(deadline / 1_000_000), tv_nsec: Int(deadline % 1_000_000) * 1000)
      if unsafe pthread_cond_timedwait(changed, lock, &time) == ETIMEDOUT { break }
    }
    guard head < elements.count else { return nil }
    let (element, isUrgent) = elements[head]
    urgent -= isUrgent ? 1 : 0
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
