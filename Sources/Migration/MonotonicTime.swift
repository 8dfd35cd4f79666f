// SPDX-License-Identifier: Apache-2.0

/// A moment on a clock that only goes forward: the host's monotonic clock, or a simulation's virtual one.
public struct MonotonicTime: Hashable, Comparable, Sendable {
  /// Microseconds since the clock's own beginning.
  public let microseconds: UInt64

  /// The moment that many microseconds after the clock's beginning.
  public init(microseconds: UInt64) { self.microseconds = microseconds }

  public static func < (left: MonotonicTime, right: MonotonicTime) -> Bool {
    left.microseconds < right.microseconds
  }

  /// The moment that many microseconds later; the last moment that can be told where it would be after that.
  public func adding(microseconds: UInt64) -> MonotonicTime {
    let (sum, overflow) = self.microseconds.addingReportingOverflow(microseconds)
    return MonotonicTime(microseconds: overflow ? .max : sum)
  }

  /// Microseconds from `earlier` to here; 0 where `earlier` is later.
  public func microseconds(since earlier: MonotonicTime) -> UInt64 {
    microseconds > earlier.microseconds ? microseconds - earlier.microseconds : 0
  }
}
