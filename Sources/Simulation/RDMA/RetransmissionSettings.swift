// SPDX-License-Identifier: Apache-2.0

/// How long a reliable connection goes on without an answer (DA3).
public struct RetransmissionSettings: Hashable, Sendable {
  /// How the time-out changes from one retransmission to the next.
  public enum Kind: UInt8, Hashable, Sendable {
    /// It stays what it is.
    case fixed = 0
    /// It doubles, up to a limit.
    case exponential = 1
  }

  /// The most retries that can be asked for: 3 bits.
  public static let mostRetries = 7

  public var kind = Kind.exponential
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

  /// Microseconds to wait for an answer after that many retransmissions.
  public func timeout(after retransmissions: Int) -> UInt64 {
    guard kind == .exponential else { return UInt64(baseMicroseconds) }
    return min(UInt64(limitMicroseconds), UInt64(baseMicroseconds) << UInt64(min(retransmissions, 31)))
  }

  /// Microseconds from the last sign of progress to the error, where nothing is heard in between: what a stop has to
  /// stay below so that no connection breaks.
  public var toleranceMicroseconds: UInt64 { (0...retries).reduce(0) { $0 + timeout(after: $1) } }
}
