// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc

/// Wakes one thread that waits for descriptors: a bell that any thread rings, and that goes on until it is answered.
public final class Doorbell: Sendable {
  private let descriptor: Descriptor

  /// One that nobody has rung. Fails where no descriptor can be had.
  public init() throws(SystemError) {
    let number = vf_eventfd()
    let error = errno
    if number < 0 { throw SystemError("making", "an event descriptor", errno: error) }
    descriptor = Descriptor(owning: number, subject: "a doorbell")
  }

  /// Rings, from any thread.
  public func ring() {
    let one: InlineArray<8, UInt8> = [1, 0, 0, 0, 0, 0, 0, 0]
    _ = try? descriptor.write(one.span)
  }

  /// Has it ring no more, however often it was rung.
  public func answer() {
    var count: InlineArray<8, UInt8> = [0, 0, 0, 0, 0, 0, 0, 0]
    var span = count.mutableSpan
    _ = try? descriptor.read(into: &span)
  }

  /// What ``wait(for:writes:until:)`` has seen.
  public struct Seen: OptionSet, Hashable, Sendable {
    /// It was rung.
    public static let bell = Seen(rawValue: 1)
    /// The descriptor can be read, or its other end is gone.
    public static let input = Seen(rawValue: 2)
    /// The descriptor can be written.
    public static let room = Seen(rawValue: 4)

    /// The bits.
    public let rawValue: Int

    /// Those bits.
    public init(rawValue: Int) { self.rawValue = rawValue }
  }

  /// Waits until it is rung, or the descriptor can be read, or can be written where that is asked for.
  /// - Parameters:
  ///   - other: stays the caller's.
  ///   - writes: whether room is waited for.
  ///   - deadline: microseconds of the monotonic clock; nil waits for ever.
  /// - Returns: what there is; nothing at the deadline.
  public func wait(
    for other: borrowing Descriptor, writes: Bool, until deadline: UInt64? = nil
  ) throws(SystemError) -> Seen {
    let events = Int16(POLLIN) | (writes ? Int16(POLLOUT) : 0)
    var polled: InlineArray<2, pollfd> = [
      pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0),
      pollfd(fd: other.rawValue, events: events, revents: 0),
    ]
    while true {
      let left = deadline.map { Self.milliseconds(until: $0) } ?? -1
      var span = polled.mutableSpan
      let result = unsafe span.withUnsafeMutableBufferPointer { unsafe poll($0.baseAddress, 2, left) }
      let error = errno
      if result < 0, error != EINTR { throw SystemError("waiting for", other.subject, errno: error) }
      var seen: Seen = []
      if result > 0 {
        if polled[0].revents != 0 { seen.insert(.bell) }
        if polled[1].revents & ~Int16(POLLOUT) != 0 { seen.insert(.input) }
        if polled[1].revents & Int16(POLLOUT) != 0 { seen.insert(.room) }
      }
      if !seen.isEmpty || deadline.map({ $0 <= monotonicMicroseconds() }) ?? false { return seen }
    }
  }

  /// Until a deadline, as poll(2) takes it.
  private static func milliseconds(until deadline: UInt64) -> Int32 {
    let now = monotonicMicroseconds()
    return deadline > now ? Int32(min((deadline - now + 999) / 1000, 1_000_000)) : 0
  }
}
