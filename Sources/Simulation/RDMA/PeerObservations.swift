// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What the applications of a peer saw.
struct PeerObservations: Hashable, Sendable {
  /// A connection that ended with an error.
  struct Failure: Hashable, Sendable {
    let connection: Int
    let status: RDMACompletion.Status
    let time: MonotonicTime
  }

  /// An answer that was not what it had to be: wrong, twice, or out of its order.
  struct Mismatch: Hashable, Sendable {
    let connection: Int
    let request: UInt32
    let time: MonotonicTime
  }

  /// A request, from its doorbell to its answer.
  struct RoundTrip: Hashable, Sendable {
    let end: MonotonicTime
    let microseconds: UInt64
  }

  private(set) var failures: [Failure] = []
  private(set) var mismatches: [Mismatch] = []
  /// Requests that were answered.
  private(set) var answered = 0
  /// Connections that failed, or have nothing more to do.
  var idleConnections = 0
  private(set) var longestRoundTrip: UInt64 = 0
  private(set) var roundTripSum: UInt64 = 0
  /// Where the script wants them.
  private(set) var roundTrips: [RoundTrip] = []
  private var lastAnswer = MonotonicTime(microseconds: 0)
  private(set) var longestPause: UInt64 = 0

  /// The longest time without any answer, up to now, in microseconds.
  func longestSilence(at now: MonotonicTime) -> UInt64 { max(longestPause, now.microseconds(since: lastAnswer)) }

  mutating func start(at now: MonotonicTime) { lastAnswer = now }

  mutating func answer(postedAt posted: MonotonicTime, at now: MonotonicTime, keep: Bool) {
    let microseconds = now.microseconds(since: posted)
    answered += 1
    longestRoundTrip = max(longestRoundTrip, microseconds)
    roundTripSum += microseconds
    longestPause = max(longestPause, now.microseconds(since: lastAnswer))
    lastAnswer = now
    if keep { roundTrips.append(RoundTrip(end: now, microseconds: microseconds)) }
  }

  mutating func fail(_ connection: Int, _ status: RDMACompletion.Status, at now: MonotonicTime) {
    idleConnections += 1
    failures.append(Failure(connection: connection, status: status, time: now))
  }

  mutating func mismatch(_ connection: Int, _ request: UInt32, at now: MonotonicTime) {
    mismatches.append(Mismatch(connection: connection, request: request, time: now))
  }
}
