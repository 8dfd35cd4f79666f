// SPDX-License-Identifier: Apache-2.0
public import Migration

/// What a session said, and when.
public struct TimedNote: Hashable, Sendable {
  /// On the virtual clock.
  public let time: MonotonicTime
  /// Whose session.
  public let side: SimulatedSide
  /// What.
  public let note: SessionNote
}

/// One arc that a device made or failed to make.
public struct TimedArc: Hashable, Sendable {
  /// On which host.
  public let side: SimulatedSide
  /// Where it came from; nil where that was not known.
  public let from: MigrationState?
  /// What it was asked for.
  public let to: MigrationState
  /// When it was asked.
  public let begin: MonotonicTime
  /// When it answered.
  public let end: MonotonicTime
  /// Why it failed.
  public let error: DeviceError?
}

/// How a simulation ended.
public struct SimulationSummary: Sendable {
  /// One device of the group.
  public struct Device: Sendable {
    /// Its name on the source.
    public let name: String
    /// Bytes that its state has.
    public let stateBytes: Int
    /// Bytes of its image that the destination took in since the start or the last void.
    public let imageBytes: UInt64
    /// Of these, bytes that were read before the stop.
    public let preCopyBytes: UInt64
    /// How often its guest reset it.
    public let restarts: Int
    /// Its arcs on both hosts, in the order in which they ended.
    public let arcs: [TimedArc]
    /// The destination's device holds, bit for bit, what the source's held when it had stopped.
    public let isVerified: Bool
  }

  /// How the source's session ended; nil where it did not.
  public let source: SessionOutcome?
  /// How the destination's session ended; nil where it did not.
  public let destination: SessionOutcome?
  /// The devices, in order.
  public let devices: [Device]
  /// Bytes that went from source to destination, frames and all.
  public let streamBytes: UInt64
  /// Where each frame from source to destination begins, in bytes; the first with the preamble.
  public let frameOffsets: [UInt64]
  /// Microseconds from the start to the end of both sessions.
  public let totalMicroseconds: UInt64
  /// Microseconds from the first arc of the stop to the last device's running: on the destination where it succeeded,
  /// else back on the source. Nil where nothing stopped, or where nothing runs.
  public let downtimeMicroseconds: UInt64?
  /// Where the virtual machine runs in the end; where the scenario has a world.
  public var place: MachinePlace?
  /// What its peers saw.
  public var peers: PeerSummary?
  /// How its memory went over.
  public var memory: MemorySummary?
  /// What the source's pre-copy loop decided, in order; the last of them with the stop that it foretold, if it came to that.
  public var decisions: [PreCopyDecision] = []
  /// The parts of the time in which it was stopped, in order.
  public var stopPhases: [MovePhase] = []
  /// What the referee found, and the judge where one was asked; nothing, unless this program is wrong.
  public var violations: [String]
  /// A digest of everything that happened, in order: the same for the same scenario.
  public let runDigest: UInt64

  /// Both sessions succeeded, all devices hold what they should, and the referee found nothing.
  public var isVerified: Bool {
    guard let source, let destination, source.fault == nil, destination.fault == nil else { return false }
    return violations.isEmpty && devices.allSatisfy(\.isVerified)
  }
}
