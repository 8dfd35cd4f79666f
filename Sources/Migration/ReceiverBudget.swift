// SPDX-License-Identifier: Apache-2.0

/// How long a peer puts up with a device that answers, and says that nothing was posted to receive into (RNR NAK).
///
/// A stopped device says nothing; one whose guest's vCPUs have stopped and which still runs, or runs again already, says
/// this. How long to wait then the guest's queue pair decides (`min_rnr_timer`, 5 bits, in every such answer), how often the
/// peer's (`rnr_retry`, 3 bits, 7 for ever).
public struct ReceiverBudget: Hashable, Sendable {
  /// The values that `min_rnr_timer` may have.
  public static let timers = 0...31
  /// The values that `rnr_retry` may have.
  public static let retryCounts = 0...forever
  /// The retry count that stands for no end.
  public static let forever = 7

  /// Tens of microseconds that each `min_rnr_timer` stands for, by the specification's table "Encoding for RNR NAK Timer
  /// Field".
  private static let tensOfMicroseconds: [UInt64] = [
    65_536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1_024, 1_536, 2_048, 3_072,
    4_096,
    6_144, 8_192, 12_288, 16_384, 24_576, 32_768, 49_152,
  ]

  /// As `ibv_modify_qp` takes it on the guest's side (`min_rnr_timer`).
  public let timer: Int
  /// As `ibv_modify_qp` takes it on the peer's side (`rnr_retry`).
  public let retries: Int

  /// nil where a value is none that a queue pair can have.
  public init?(timer: Int, retries: Int) {
    guard Self.timers.contains(timer), Self.retryCounts.contains(retries) else { return nil }
    self.timer = timer
    self.retries = retries
  }

  /// Nanoseconds that the peer waits at least before it sends again.
  public var timerNanoseconds: UInt64 { Self.tensOfMicroseconds[timer] * 10_000 }

  /// Nanoseconds in which nothing need be posted, and no connection breaks; nil for no limit.
  public var toleratedNanoseconds: UInt64? { retries == Self.forever ? nil : timerNanoseconds * UInt64(retries) }

  /// The shortest timer with so many retries that tolerates so long a time; nil where none does.
  public static func outlasting(nanoseconds: UInt64, retries: Int) -> ReceiverBudget? {
    timers.compactMap { ReceiverBudget(timer: $0, retries: retries) }
      .filter { $0.toleratedNanoseconds.map { $0 >= nanoseconds } ?? true }
      .min { $0.timerNanoseconds < $1.timerNanoseconds }
  }
}
