// SPDX-License-Identifier: Apache-2.0
public import Migration

/// How long a reliable connection goes on without an answer (DA3).
public struct RetransmissionSettings: Hashable, Sendable {
  /// The most retries that can be asked for: 3 bits.
  public static let mostRetries = RetransmissionTimeouts.mostRetries

  public var kind = RetransmissionScheme.exponential
  /// Microseconds of the first time-out, at least 1.
  public var baseMicroseconds: UInt32 = 4_000
  /// Microseconds that a doubling time-out does not exceed.
  public var limitMicroseconds: UInt32 = 1_000_000
  /// Retransmissions without an answer before the connection fails: 0 to 7.
  public var retries = 7
  /// Retries because the responder had posted no receive: 0 to 6, and 7 for ever.
  public var receiverNotReadyRetries = 7

  /// The defaults: 4 ms, doubled up to a second, seven times.
  public init() {}

  /// Whether every value is one that a connection can have.
  public var isValid: Bool {
    baseMicroseconds > 0 && limitMicroseconds >= baseMicroseconds && 0...Self.mostRetries ~= retries
      && 0...Self.mostRetries ~= receiverNotReadyRetries
  }

  private var timeouts: RetransmissionTimeouts {
    RetransmissionTimeouts(
      scheme: kind, firstNanoseconds: UInt64(baseMicroseconds) * 1000,
      limitNanoseconds: UInt64(limitMicroseconds) * 1000, retries: retries)
  }

  /// Microseconds to wait for an answer after that many retransmissions.
  public func timeout(after retransmissions: Int) -> UInt64 { timeouts.timeout(after: retransmissions) / 1000 }

  /// Microseconds from the last sign of progress to the error, where nothing is heard in between: what a stop has to
  /// stay below so that no connection breaks.
  public var toleranceMicroseconds: UInt64 { timeouts.untilError / 1000 }

  /// Microseconds from the last sign of progress to the last retransmission: a stop that is over before it breaks nothing.
  public var lastRetransmissionMicroseconds: UInt64 { timeouts.untilLastRetransmission / 1000 }
}
