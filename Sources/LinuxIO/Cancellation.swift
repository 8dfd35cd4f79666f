// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc

/// Ends waits from another thread: now, and every later one.
public struct Cancellation: ~Copyable, Sendable {
  private let descriptor: Descriptor

  /// One that nobody has used yet. Fails where no descriptor can be had.
  public init() throws(SystemError) {
    let number = vf_eventfd()
    let error = errno
    if number < 0 { throw SystemError("making", "an event descriptor", errno: error) }
    descriptor = Descriptor(owning: number, subject: "a cancellation")
  }

  /// Makes waits end with ECANCELED.
  public func cancel() {
    let one: [UInt8] = [1, 0, 0, 0, 0, 0, 0, 0]
    _ = try? descriptor.write(one.span)
  }

  /// What a descriptor is waited for.
  public enum Direction: Sendable {
    /// Something can be read, or the other end is gone.
    case read
    /// Something can be written, or the other end is gone.
    case write
  }

  /// Waits until `descriptor` is ready.
  ///
  /// Fails with ECANCELED once ``cancel()`` was called, and with ETIMEDOUT at the deadline.
  /// - Parameter deadline: microseconds of the monotonic clock; nil waits for ever.
  public func wait(
    for direction: Direction, on other: borrowing Descriptor, until deadline: UInt64? = nil
  ) throws(SystemError) {
    var polled = [
      pollfd(fd: other.rawValue, events: Int16(direction == .read ? POLLIN : POLLOUT), revents: 0),
      pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0),
    ]
    while true {
      let result = unsafe poll(&polled, 2, Self.milliseconds(until: deadline))
      let error = errno
      if result < 0, error != EINTR { throw SystemError("waiting for", other.subject, errno: error) }
      if result > 0 { break }
      if let deadline, deadline <= monotonicMicroseconds() {
        throw SystemError("waiting for", other.subject, errno: ETIMEDOUT)
      }
    }
    if polled[1].revents != 0 { throw SystemError("waiting for", other.subject, errno: ECANCELED) }
  }

  /// Waits until the deadline.
  /// - Returns: false where ``cancel()`` was called before, or is meanwhile.
  public func pause(until deadline: UInt64) -> Bool {
    var polled = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
    while true {
      if unsafe poll(&polled, 1, Self.milliseconds(until: deadline)) > 0 { return false }
      if deadline <= monotonicMicroseconds() { return true }
    }
  }

  private static func milliseconds(until deadline: UInt64?) -> Int32 {
    guard let deadline else { return -1 }
    let now = monotonicMicroseconds()
    return deadline > now ? Int32(min((deadline - now + 999) / 1000, 1_000_000)) : 0
  }
}
