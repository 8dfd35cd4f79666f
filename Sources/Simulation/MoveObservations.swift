// SPDX-License-Identifier: Apache-2.0
public import Migration

/// A device's state changed, in truth: not what a session believes.
public struct DeviceStateChange: Hashable, Sendable {
  /// When, on the virtual clock.
  public let time: MonotonicTime
  /// On which host.
  public let side: SimulatedSide
  /// The device's number.
  public let device: Int
  /// The state that it entered.
  public let state: MigrationState
}

/// The time from one moment of a move to another.
public struct MovePhase: Hashable, Sendable {
  /// What went on, in words: "vCPUs stop", "devices into P2P", and so on.
  public let name: String
  /// When it began and ended.
  public let begin: MonotonicTime
  public let end: MonotonicTime

  /// How long it took.
  public var microseconds: UInt64 { end.microseconds(since: begin) }
}

/// A request of a peer, from its doorbell to its answer.
public struct PeerRoundTrip: Hashable, Sendable {
  /// The peer's number.
  public let peer: Int
  /// When the answer came.
  public let end: MonotonicTime
  /// How long it took.
  public let microseconds: UInt64
}

/// What the peers of the virtual machine saw.
public struct PeerSummary: Hashable, Sendable {
  /// Connections of all peers.
  public let connections: Int
  /// Connections that ended with an error.
  public let broken: Int
  /// Answers that came, and those that were asked for.
  public let answered: Int
  public let wanted: Int
  /// Answers that were wrong, came twice or out of order.
  public let wrong: Int
  /// Microseconds of the mean and the longest round trip.
  public let meanRoundTrip: UInt64
  public let longestRoundTrip: UInt64
  /// Microseconds of the longest time in which a peer had no answer on any connection.
  public let longestSilence: UInt64
  /// Packets that were sent, and those that were sent again.
  public let packets: Int
  public let retransmitted: Int
}

/// How guest memory went over.
public struct MemorySummary: Hashable, Sendable {
  /// Pages of the guest.
  public let pages: Int
  /// Pages that were sent in each round; the first is everything, the last goes after the devices have stopped.
  public let rounds: [Int]
  /// Bytes on the channel.
  public let bytes: UInt64
}

/// Where a virtual machine runs.
public enum MachinePlace: Hashable, Sendable {
  /// On a host, its vCPUs running.
  case runs(SimulatedSide)
  /// Nowhere, for now.
  case stopped
  /// It was lost: the process that owned it was killed, or a device of it was emptied or is in ERROR.
  case lost
}
