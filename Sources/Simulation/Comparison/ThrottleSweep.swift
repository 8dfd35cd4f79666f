// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// One guest whose NIC writes to its memory ever faster, moved over a link of 16 Gbit/s in three ways: what comes in to the NIC
/// is limited where rounds don't get smaller (DA9), or it never is; and then either the move is given up or the guest is
/// stopped all the same.
public struct ThrottleSweep: Sendable {
  /// One run of a sweep.
  public struct Run: Hashable, Sendable {
    /// Gbit/s that the NIC writes to guest memory.
    public let gigabits: UInt64
    /// The way of the move.
    public let way: ThrottleSweepWay
    /// Bytes of the guest's memory.
    public let guestBytes: UInt64
  }

  /// The rates of the NIC in Gbit/s, in their order.
  public let rates: [UInt64]
  /// Bytes of the guest's memory.
  public let guestBytes: UInt64

  /// - Parameters:
  ///   - rates: of the NIC, in Gbit/s.
  ///   - guestBytes: bytes of the guest's memory. Those of a smaller guest are fewer in all respects: what its NIC writes to,
  ///     the NIC's image, and the time for which it may stand still.
  public init(
    rates: [UInt64] = [2, 4, 8, 12, 14, 15, 16, 17, 18, 20, 24, 28, 32], guestBytes: UInt64 = 100_000_000_000
  ) {
    self.rates = rates
    self.guestBytes = guestBytes
  }

  /// The runs that it takes, those of fast NICs first: they take longest, and so threads that take runs in turn end together.
  public var runs: [Run] {
    rates.sorted(by: >).flatMap { rate in
      ThrottleSweepWay.allCases.map { Run(gigabits: rate, way: $0, guestBytes: guestBytes) }
    }
  }

  /// The rows that runs give, in the order of rates and ways.
  /// - Parameter results: of each run, in the order of ``runs``.
  public func rows(_ results: [ThrottleSweepResult]) -> [ThrottleSweepRow] {
    let known = Dictionary(uniqueKeysWithValues: zip(runs, results))
    return rates.flatMap { rate in
      ThrottleSweepWay.allCases.compactMap { way in
        known[Run(gigabits: rate, way: way, guestBytes: guestBytes)].map {
          ThrottleSweepRow(gigabits: rate, way: way, result: $0)
        }
      }
    }
  }

  /// The link's rate, in Gbit/s.
  public static let linkGigabits: UInt64 = 16
  /// Bytes of a gigabit.
  public static let bytesOfGigabit: UInt64 = 125_000_000
  /// Bytes of a page of the guest.
  public static let pageBytes = 4096

  /// Bytes that the NIC of such a guest writes to, each page as often as any other.
  public static func workingSetBytes(guestBytes: UInt64) -> UInt64 { guestBytes * 16 / 100 }

  /// Bytes of the NIC's image.
  public static func imageBytes(guestBytes: UInt64) -> UInt64 { guestBytes * 64 / 100_000 }

  /// Microseconds for which such a guest may stand still: 300,000 for 100 GB.
  public static func downtimeLimit(guestBytes: UInt64) -> UInt64 { guestBytes * 3 / 1_000_000 }
}

/// What is done about a NIC that writes faster than can be sent.
public enum ThrottleSweepWay: String, CaseIterable, Hashable, Sendable {
  /// Nothing: the move is given up.
  case giveUp = "give-up"
  /// Nothing: the guest is stopped, for however long it takes.
  case force
  /// What comes in to it is limited (DA9). Where that does not help either, the move is given up.
  case throttle

  var isThrottled: Bool { self == .throttle }
  var lastResort: PreCopyConfiguration.LastResort { self == .force ? .force : .giveUp }
}
