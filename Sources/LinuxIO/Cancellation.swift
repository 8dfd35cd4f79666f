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
  /// Fails with ECANCELED once ``cancel()`` was called.
  public func wait(for direction: Direction, on other: borrowing Descriptor) throws(SystemError) {
    var polled = [
      pollfd(fd: other.rawValue, events: Int16(direction == .read ? POLLIN : POLLOUT), revents: 0),
      pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0),
    ]
    while true {
      let result = unsafe poll(&polled, 2, -1)
      let error = errno
      if result < 0, error != EINTR { throw SystemError("waiting for", other.subject, errno: error) }
      if result > 0 { break }
    }
    if polled[1].revents != 0 { throw SystemError("waiting for", other.subject, errno: ECANCELED) }
  }
}
