// SPDX-License-Identifier: Apache-2.0

/// How the time-out changes from one retransmission to the next (DA3).
public enum RetransmissionScheme: UInt8, CaseIterable, Hashable, Sendable {
  /// It stays what it is.
  case fixed = 0
  /// It doubles, up to a limit.
  case exponential = 1
}

/// When a reliable connection that hears nothing sends again, and when it gives up (DA3). The retry budget and the
/// simulated NIC both take it from here.
///
///     sent      again     again     again     error
///     |---------|---------|---------|---------|
///     timeout(after: 0)   …         timeout(after: retries)
public struct RetransmissionTimeouts: Hashable, Sendable {
  /// The most retransmissions that can be asked for: `retry_cnt` has 3 bits.
  public static let mostRetries = 7

  public var scheme: RetransmissionScheme
  /// Nanoseconds of the first time-out.
  public var firstNanoseconds: UInt64
  /// Nanoseconds that a doubling time-out does not exceed.
  public var limitNanoseconds: UInt64
  /// Retransmissions without an answer before the connection fails.
  public var retries: Int

  /// Time-outs; see the properties.
  public init(scheme: RetransmissionScheme, firstNanoseconds: UInt64, limitNanoseconds: UInt64, retries: Int) {
    self.scheme = scheme
    self.firstNanoseconds = firstNanoseconds
    self.limitNanoseconds = limitNanoseconds
    self.retries = retries
  }

  /// Nanoseconds to wait for an answer after that many retransmissions.
  public func timeout(after retransmissions: Int) -> UInt64 {
    guard scheme == .exponential else { return firstNanoseconds }
    let shift = UInt64(min(retransmissions, Self.mostRetries))
    // What is shifted out would be far above any limit.
    guard firstNanoseconds.leadingZeroBitCount > Int(shift) else { return limitNanoseconds }
    return min(limitNanoseconds, firstNanoseconds << shift)
  }

  /// Nanoseconds from the first packet that is not answered to the last retransmission: the other end has to hear that
  /// one, and so a silence that ends before it breaks nothing.
  public var untilLastRetransmission: UInt64 { (0..<retries).reduce(0) { $0 + timeout(after: $1) } }

  /// Nanoseconds from the first packet that is not answered to the error.
  public var untilError: UInt64 { untilLastRetransmission + timeout(after: retries) }
}
