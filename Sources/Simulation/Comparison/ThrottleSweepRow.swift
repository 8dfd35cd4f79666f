// SPDX-License-Identifier: Apache-2.0

/// What came of a run of a throttle sweep.
public struct ThrottleSweepResult: Hashable, Sendable {
  /// How it ended.
  public enum Ending: String, Hashable, Sendable {
    /// The guest runs on the destination, and the stop was decided because it would be short enough.
    case moved
    /// The guest runs on the destination, and was stopped although that would take too long.
    case forced
    /// The guest runs on the source.
    case gaveUp = "gave-up"
    /// Something else, which ``ThrottleSweepResult/problem`` tells.
    case failed
  }

  /// How it ended.
  public var ending = Ending.failed
  /// Readings of dirty pages before the stop; the first is everything.
  public var rounds = 0
  /// Microseconds from the start until both sides were done.
  public var totalMicroseconds: UInt64 = 0
  /// Microseconds for which the guest was going to stand still by the last forecast; nil where there was none.
  public var foretoldMicroseconds: UInt64?
  /// Microseconds for which it stood still; nil where it was not stopped.
  public var downtimeMicroseconds: UInt64?
  /// Bytes of guest memory on the channel.
  public var memoryBytes: UInt64 = 0
  /// The limits that were set one after the other, in bytes a second.
  public var limits: [UInt64] = []
  /// Microseconds from the first limit to the decision to stop or to give up; 0 without a limit.
  public var limitedMicroseconds: UInt64 = 0
  /// What is not as it has to be, in words; nil where all is well.
  public var problem: String?

  /// The result of a run in which nothing happened.
  public init() {}
}

/// A line of a throttle sweep's table.
public struct ThrottleSweepRow: Hashable, Sendable {
  /// Gbit/s that the NIC writes to guest memory where it is not limited.
  public let gigabits: UInt64
  /// How the guest was moved.
  public let way: ThrottleSweepWay
  /// What came of it.
  public let result: ThrottleSweepResult

  /// A line of that.
  public init(gigabits: UInt64, way: ThrottleSweepWay, result: ThrottleSweepResult) {
    self.gigabits = gigabits
    self.way = way
    self.result = result
  }
}
