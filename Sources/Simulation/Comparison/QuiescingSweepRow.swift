// SPDX-License-Identifier: Apache-2.0

/// What came of a run of a sweep.
public struct QuiescingSweepResult: Hashable, Sendable {
  /// Microseconds from when the vCPUs had stopped until the NIC was in its P2P state; 0 without a move.
  public var quiescingMicroseconds: UInt64 = 0
  /// Microseconds for which the machine stood still; 0 without a move.
  public var downtimeMicroseconds: UInt64 = 0
  /// Packets that were sent again, by peers and by the NIC on both hosts.
  public var sentAgain = 0
  /// Connections that ended with an error.
  public var broken = 0
  /// Microseconds of the longest time in which a peer had no answer on any connection.
  public var longestSilence: UInt64 = 0
  /// Microseconds of the longest round trip.
  public var longestRoundTrip: UInt64 = 0
  /// Bytes of the NIC's image; all are read after the stop.
  public var imageBytes: UInt64 = 0
  /// What is not as it has to be, in words; nil where all is well.
  public var problem: String?

  /// The result of a run in which nothing happened.
  public init() {}
}

/// A line of a sweep's table.
public struct QuiescingSweepRow: Hashable, Sendable {
  /// Queue pairs of the NIC.
  public let queuePairs: Int
  /// How it was moved.
  public let way: QuiescingSweepWay
  /// What came of it.
  public let result: QuiescingSweepResult
  /// What comes of the same world without a move.
  public let still: QuiescingSweepResult

  /// A line of that.
  public init(
    queuePairs: Int, way: QuiescingSweepWay, result: QuiescingSweepResult, still: QuiescingSweepResult
  ) {
    self.queuePairs = queuePairs
    self.way = way
    self.result = result
    self.still = still
  }

  /// Packets that the move made somebody send again.
  public var sentInVain: Int { max(0, result.sentAgain - still.sentAgain) }

  /// What is not as it has to be, in words; nil where all is well. A world in which connections break without a move says
  /// nothing about moves.
  public var problem: String? {
    if let problem = result.problem ?? still.problem { return problem }
    return still.broken > 0 ? "\(still.broken) connections break without a move" : nil
  }
}
