// SPDX-License-Identifier: Apache-2.0

/// Numbers that look random and are the same for the same seed: a counter in steps of an odd constant, each step mixed.
public struct SeededGenerator: Hashable, Sendable {
  private var counter: UInt64

  /// - Parameter seed: any number.
  public init(seed: UInt64) { counter = seed }

  /// The next number.
  public mutating func next() -> UInt64 {
    counter &+= 0x9e37_79b9_7f4a_7c15
    return Self.mixed(counter)
  }

  /// The next number from 0 up to, and without, `bound`, which is at least 1. The slight bias does not matter here.
  public mutating func next(below bound: Int) -> Int { Int(next() % UInt64(bound)) }

  /// Spreads every bit of a number over all 64.
  static func mixed(_ value: UInt64) -> UInt64 {
    var bits = value
    bits = (bits ^ (bits >> 30)) &* 0xbf58_476d_1ce4_e5b9
    bits = (bits ^ (bits >> 27)) &* 0x94d0_49bb_1331_11eb
    return bits ^ (bits >> 31)
  }
}

/// A running digest of numbers, in their order.
public struct RunDigest: Hashable, Sendable {
  /// The digest so far.
  public private(set) var value: UInt64 = 0

  /// The digest of nothing.
  public init() {}

  /// Adds a number.
  public mutating func add(_ number: UInt64) {
    value = SeededGenerator.mixed(value &+ 0x632b_e59b_d9b4_e019) ^ SeededGenerator.mixed(number &+ 1)
  }
}
