// SPDX-License-Identifier: Apache-2.0

/// How many durations there were, by how long they were. Adding one is a few comparisons.
public struct DurationHistogram: Hashable, Sendable {
  /// The upper ends of the buckets, in microseconds: each bucket has what is no longer than its end.
  public static let bounds: [UInt64] = [
    100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
  ]

  /// How many are in each bucket, and not in the one before.
  public private(set) var counts = [UInt64](repeating: 0, count: bounds.count)
  /// How many there are, those beyond the last bucket too.
  public private(set) var count: UInt64 = 0
  /// All of them together, in microseconds.
  public private(set) var sum: UInt64 = 0

  /// One of nothing.
  public init() {}

  /// Counts a duration, in microseconds.
  public mutating func add(_ microseconds: UInt64) {
    if let place = Self.bounds.firstIndex(where: { microseconds <= $0 }) { counts[place] += 1 }
    count += 1
    sum &+= microseconds
  }
}
