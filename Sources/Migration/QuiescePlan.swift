// SPDX-License-Identifier: Apache-2.0

/// In which order the devices of one VM come to a consistent stop, and run again (DA12). `docs/quiescing.md` has the
/// argument why the order is right, and what it rests on.
///
/// A device without P2P states starts transfers until it is stopped. So first every device that has a P2P state enters
/// it, where it still answers the others; then the devices without are stopped, one level at a time, those that start
/// transfers before those that they start them to; then the rest. Running again is the reverse of that, and so is the
/// way back. A plan is made before anything is touched, or refused.
public struct QuiescePlan: Hashable, Sendable {
  /// A device as far as a plan needs to know it.
  public struct Device: Hashable, Sendable {
    /// What messages call it.
    public var name: String
    /// What its driver supports.
    public var features: MigrationFeatures

    /// A device of that name with these features.
    public init(name: String, features: MigrationFeatures) {
      self.name = name
      self.features = features
    }
  }

  /// The devices, in the group's order.
  public let devices: [Device]
  /// Who of them can start transfers to whom.
  public let reachability: Reachability
  /// The quiesce domains: sets of devices that are connected by links, directly or through others, each in the
  /// group's order. Between domains no order is needed; they go through the same steps together.
  public let domains: [[Int]]
  /// For a device without P2P states, in which round it is stopped, from 0; nil for the others.
  public let levels: [Int?]
  /// How many rounds the devices without P2P states take.
  public let levelCount: Int

  /// A plan for these devices.
  /// - Throws: where no order is right.
  public init(devices: [Device], reachability: Reachability) throws(QuiesceRefusal) {
    precondition(devices.count == reachability.count, "the relation is about other devices")
    self.devices = devices
    self.reachability = reachability
    domains = Self.domains(of: reachability)
    var levels = [Int?](repeating: nil, count: devices.count)
    var unplaced = devices.indices.filter { !devices[$0].features.contains(.p2p) }
    var level = 0
    while !unplaced.isEmpty {
      // Nobody who still runs without a P2P state may start transfers to a device that stops now.
      let next = unplaced.filter { target in !unplaced.contains { reachability.reaches($0, target) } }
      if next.isEmpty { throw QuiesceRefusal(devices: devices, among: unplaced, reachability: reachability) }
      for device in next { levels[device] = level }
      unplaced.removeAll { levels[$0] != nil }
      level += 1
    }
    self.levels = levels
    levelCount = level
  }

  /// A plan for these devices of a session.
  /// - Throws: where no order is right.
  public init(devices: [SessionDevice], reachability: Reachability) throws(QuiesceRefusal) {
    try self.init(
      devices: devices.map { Device(name: $0.name, features: $0.features) }, reachability: reachability)
  }

  private static func domains(of reachability: Reachability) -> [[Int]] {
    var domains: [[Int]] = []
    var placed = [Bool](repeating: false, count: reachability.count)
    for first in 0..<reachability.count where !placed[first] {
      placed[first] = true
      var domain = [first]
      var next = 0
      while next < domain.count {
        let device = domain[next]
        next += 1
        for other in 0..<reachability.count
        where !placed[other] && (reachability.reaches(device, other) || reachability.reaches(other, device)) {
          placed[other] = true
          domain.append(other)
        }
      }
      domains.append(domain.sorted())
    }
    return domains
  }

  // MARK: Steps

  /// A step on the way to a stop. All devices of a step move at once, and none begins a step before the last one has
  /// ended the step before it.
  public enum StopStep: Hashable, Sendable {
    /// Every device that can stops starting transfers to others: Suspend-Active in the paper.
    case endPeerTransfers
    /// The devices without P2P states that have this level stop.
    case stopOthers(level: Int)
    /// All others stop: Suspend-Passive in the paper.
    case stopAll
  }

  /// A step on the way to running.
  public enum StartStep: Hashable, Sendable {
    /// Data sessions end: from STOP_COPY and RESUMING to STOP.
    case leaveData
    /// Every device that can answers others again but starts nothing: Resume-Passive in the paper.
    case answerPeers
    /// The devices without P2P states that have this level run.
    case startOthers(level: Int)
    /// All others run: Resume-Active in the paper.
    case startAll
  }

  /// The steps to a stop, in order.
  public var stopSteps: [StopStep] {
    [.endPeerTransfers] + (0..<levelCount).map { .stopOthers(level: $0) } + [.stopAll]
  }

  /// The steps to running, in order: those to a stop in reverse, once the data sessions have ended.
  public var startSteps: [StartStep] {
    [.leaveData, .answerPeers] + (0..<levelCount).reversed().map { .startOthers(level: $0) } + [.startAll]
  }

  /// The state for a device to reach in a step towards `goal` (STOP, STOP_COPY or RESUMING); nil where it has nothing
  /// to do.
  public func target(
    _ step: StopStep, device: Int, from state: MigrationState, goal: MigrationState
  ) -> MigrationState? {
    switch step {
    case .endPeerTransfers:
      guard levels[device] == nil else { return nil }
      return state == .running ? .runningP2P : state == .preCopy ? .preCopyP2P : nil
    case .stopOthers(let level):
      guard levels[device] == level, state.mayWriteMemory else { return nil }
      // Leaving PRE_COPY for anything but STOP_COPY would lose the data session.
      return state == .preCopy && goal == .stopCopy ? .stopCopy : .stop
    case .stopAll:
      return state == goal ? nil : goal
    }
  }

  /// The state for a device to reach in a step towards `goal` (RUNNING, RUNNING_P2P or STOP); nil where it has nothing
  /// to do. STOP is a goal for a device that has stopped already: these steps stop none in the right order.
  public func target(
    _ step: StartStep, device: Int, from state: MigrationState, goal: MigrationState
  ) -> MigrationState? {
    switch step {
    case .leaveData:
      return state == .stopCopy || state == .resuming ? .stop : nil
    case .answerPeers:
      guard levels[device] == nil else { return nil }
      if goal == .stop { return state == .preCopyP2P ? .runningP2P : nil }
      return state == .stop || state == .preCopyP2P ? .runningP2P : nil
    case .startOthers(let level):
      return levels[device] == level && state != goal ? goal : nil
    case .startAll:
      return state != goal ? goal : nil
    }
  }
}

extension QuiescePlan.StopStep: CustomStringConvertible {
  /// As users read it.
  public var description: String {
    switch self {
    case .endPeerTransfers: "ending peer transfers"
    case .stopOthers(let level): "stopping devices without P2P states, round \(level + 1)"
    case .stopAll: "stopping all"
    }
  }
}

extension QuiescePlan.StartStep: CustomStringConvertible {
  /// As users read it.
  public var description: String {
    switch self {
    case .leaveData: "closing data sessions"
    case .answerPeers: "answering peers"
    case .startOthers(let level): "starting devices without P2P states of round \(level + 1)"
    case .startAll: "starting all"
    }
  }
}
