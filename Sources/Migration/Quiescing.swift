// SPDX-License-Identifier: Apache-2.0

/// In which order the devices of a group stop and start (DA12): the steps, one barrier after each.
///
/// All devices of a step move at once, and no device begins a step before the last one has ended the step before it.
/// Stopping: first every device that has a P2P state enters it, then the devices without one are stopped, then the
/// rest. Starting runs in reverse, and so does the way back.
public enum Quiescing {
  /// A step on the way to a stop.
  public enum StopStep: CaseIterable, Hashable, Sendable {
    /// Every device that can stops starting transfers to others: Suspend-Active in the paper.
    case endPeerTransfers
    /// The devices without P2P states stop.
    case stopOthers
    /// All others stop: Suspend-Passive in the paper.
    case stopAll
  }

  /// A step on the way back to running.
  public enum StartStep: CaseIterable, Hashable, Sendable {
    /// Data sessions end: from STOP_COPY and RESUMING to STOP.
    case leaveData
    /// Every device that can answers others again but starts nothing: Resume-Passive in the paper.
    case answerPeers
    /// The devices without P2P states run.
    case startOthers
    /// All others run: Resume-Active in the paper.
    case startAll
  }

  /// The state for a device to reach in a step towards `goal` (STOP, STOP_COPY or RESUMING); nil where it
  /// has nothing to do.
  public static func target(
    _ step: StopStep, graph: StateGraph, from state: MigrationState, goal: MigrationState
  ) -> MigrationState? {
    let hasP2P = graph.contains(.runningP2P)
    switch step {
    case .endPeerTransfers:
      guard hasP2P else { return nil }
      return state == .running ? .runningP2P : state == .preCopy ? .preCopyP2P : nil
    case .stopOthers:
      guard !hasP2P, state.mayWriteMemory else { return nil }
      // Leaving PRE_COPY for anything but STOP_COPY would lose the data session.
      return state == .preCopy && goal == .stopCopy ? .stopCopy : .stop
    case .stopAll:
      return state == goal ? nil : goal
    }
  }

  /// The state for a device to reach in a step towards `goal` (RUNNING, RUNNING_P2P or STOP); nil where it
  /// has nothing to do.
  public static func target(
    _ step: StartStep, graph: StateGraph, from state: MigrationState, goal: MigrationState
  ) -> MigrationState? {
    let hasP2P = graph.contains(.runningP2P)
    switch step {
    case .leaveData:
      return state == .stopCopy || state == .resuming ? .stop : nil
    case .answerPeers:
      guard hasP2P else { return nil }
      if goal == .stop { return state == .preCopyP2P ? .runningP2P : nil }
      return state == .stop || state == .preCopyP2P ? .runningP2P : nil
    case .startOthers:
      return !hasP2P && state != goal ? goal : nil
    case .startAll:
      return state != goal ? goal : nil
    }
  }

  /// Why a group can't be quiesced, in words for a person; nil where it can.
  ///
  /// A device without P2P states starts transfers until it is stopped. One such device in a group is stopped while all
  /// others still answer it; between two of them, either order lets one write to a device that has stopped.
  public static func refusal(devices: [SessionDevice]) -> String? {
    let without = devices.filter { !$0.features.contains(.p2p) }
    guard devices.count > 1, without.count > 1 else { return nil }
    return "\(without.map(\.name).joined(separator: " and ")) have no P2P states: whichever stops last could still "
      + "write to one that has stopped; move such devices in streams of their own if they never talk to each other"
  }
}

extension Quiescing.StopStep {
  /// What a person who watches reads.
  var phaseName: String {
    switch self {
    case .endPeerTransfers: "ending peer transfers"
    case .stopOthers: "stopping devices without P2P states"
    case .stopAll: "stopping all"
    }
  }
}

extension Quiescing.StartStep {
  /// What a person who watches reads.
  var phaseName: String {
    switch self {
    case .leaveData: "closing data sessions"
    case .answerPeers: "answering peers"
    case .startOthers: "starting devices without P2P states"
    case .startAll: "starting all"
    }
  }
}
