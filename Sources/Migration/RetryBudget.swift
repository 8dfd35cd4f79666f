// SPDX-License-Identifier: Apache-2.0

/// How long a peer's reliable connection puts up with silence (DA3), by what its queue pair is set to.
///
/// The InfiniBand specification has a queue pair's Local ACK Timeout in 5 bits: 4.096 us * 2^timeout, and 0 for never. A
/// conforming time-out comes after that and not later than after four times as much. `retry_cnt` has 3 bits. Silence is
/// counted from the first packet that has no answer: what a device was late with before it stopped is a part of it.
public struct RetryBudget: Hashable, Sendable {
  /// The values that a queue pair's time-out may have; 0 is no time-out at all.
  public static let timeouts = 0...31
  /// The values that a queue pair's retry count may have.
  public static let retryCounts = 0...RetransmissionTimeouts.mostRetries
  /// What a conforming time-out may last at most, as a multiple of the shortest.
  public static let longestFactor: UInt64 = 4
  /// What is added to a downtime, in percent, where nobody says otherwise: for what a device was late with before.
  public static let usualMargin: UInt64 = 50

  public let scheme: RetransmissionScheme
  /// As `ibv_modify_qp` takes it, 0 to 31.
  public let timeout: Int
  /// As `ibv_modify_qp` takes it (`retry_cnt`), 0 to 7.
  public let retries: Int

  /// nil where a value is none that a queue pair can have.
  public init?(scheme: RetransmissionScheme, timeout: Int, retries: Int) {
    guard Self.timeouts.contains(timeout), Self.retryCounts.contains(retries) else { return nil }
    self.scheme = scheme
    self.timeout = timeout
    self.retries = retries
  }

  /// Nanoseconds of the time-out that a value stands for; nil for 0, which is for ever.
  public static func nanoseconds(ofTimeout timeout: Int) -> UInt64? {
    timeout == 0 ? nil : 4096 << UInt64(timeout)
  }

  /// Nanoseconds of the queue pair's time-out; nil where it has none.
  public var timeoutNanoseconds: UInt64? { Self.nanoseconds(ofTimeout: timeout) }

  /// The time-outs, each as short as may be; nil where there is none. What doubles does so up to the longest time-out that
  /// there is.
  public var timeouts: RetransmissionTimeouts? {
    timeoutNanoseconds.map {
      RetransmissionTimeouts(
        scheme: scheme, firstNanoseconds: $0, limitNanoseconds: 4096 << UInt64(Self.timeouts.upperBound),
        retries: retries)
    }
  }

  /// Nanoseconds of silence that break no connection, whatever its NIC makes of the settings; nil where it never breaks.
  ///
  /// Fixed: the last retransmission is sent after so much, and is heard. Adaptive: NVIDIA's documents its time-outs to begin
  /// below the one that was set, to double up to that, and to end with time-out times retries. So none is longer than the
  /// one that was set, and the last retransmission is not further from the end than that.
  public var toleratedNanoseconds: UInt64? {
    switch scheme {
    case .fixed: timeouts?.untilLastRetransmission
    case .exponential: timeoutNanoseconds.map { $0 * UInt64(max(0, retries - 1)) }
    }
  }

  /// Nanoseconds of silence after which a connection has failed whose NIC keeps to its settings exactly: with time-outs that
  /// double from the one that was set, where they are adaptive. nil where it never does.
  public var nominalNanoseconds: UInt64? { timeouts?.untilError }

  /// Nanoseconds of silence that no conforming connection which waits for an answer outlives; nil where it does for ever.
  public var longestNanoseconds: UInt64? { nominalNanoseconds.map { $0 * Self.longestFactor } }

  /// The smallest setting with so many retries that surely tolerates a silence; nil where none does. It is never 0: without
  /// time-outs what is lost in the silence is not sent again.
  public static func outlasting(
    nanoseconds: UInt64, scheme: RetransmissionScheme, retries: Int
  ) -> RetryBudget? {
    timeouts.dropFirst().lazy.compactMap { RetryBudget(scheme: scheme, timeout: $0, retries: retries) }
      .first { ($0.toleratedNanoseconds ?? 0) >= nanoseconds }
  }
}
