// SPDX-License-Identifier: Apache-2.0

/// Which states a device has and which requests it takes: the migration protocol's graph as data.
///
/// A request to go from one state to another is either a single arc or a combination, which the kernel walks arc by
/// arc. The rules are those of `linux/vfio.h`: the shortest path, with no saving state inside it. A path that stays in
/// the saving group from its first state to its last is the one exception.
public struct StateGraph: Hashable, Sendable {
  /// One step that a driver takes as a whole.
  public struct Arc: Hashable, Sendable {
    /// Where it begins.
    public let from: MigrationState
    /// Where it ends.
    public let to: MigrationState

    /// The arc between these; whether a device has it, its graph tells.
    public init(_ from: MigrationState, _ to: MigrationState) {
      self.from = from
      self.to = to
    }
  }

  /// What the device's driver supports.
  public let features: MigrationFeatures

  /// - Parameter features: the driver's answer to `VFIO_DEVICE_FEATURE_MIGRATION`.
  public init(features: MigrationFeatures) {
    self.features = features
  }

  private struct Row {
    let arc: Arc
    let needs: MigrationFeatures
    let absent: MigrationFeatures

    init(
      _ from: MigrationState, _ to: MigrationState, needs: MigrationFeatures = [], absent: MigrationFeatures = []
    ) {
      arc = Arc(from, to)
      self.needs = needs
      self.absent = absent
    }
  }

  /// The table. A row counts for a device that has all of `needs` and none of `absent`.
  private static let table: [Row] = [
    Row(.running, .runningP2P, needs: .p2p),
    Row(.runningP2P, .running, needs: .p2p),
    Row(.runningP2P, .stop, needs: .p2p),
    Row(.stop, .runningP2P, needs: .p2p),
    Row(.running, .stop, absent: .p2p),
    Row(.stop, .running, absent: .p2p),
    Row(.stop, .stopCopy),
    Row(.stopCopy, .stop),
    Row(.stop, .resuming),
    Row(.resuming, .stop),
    Row(.running, .preCopy, needs: .preCopy),
    Row(.preCopy, .running, needs: .preCopy),
    Row(.runningP2P, .preCopyP2P, needs: [.p2p, .preCopy]),
    Row(.preCopyP2P, .runningP2P, needs: [.p2p, .preCopy]),
    Row(.preCopy, .preCopyP2P, needs: [.p2p, .preCopy]),
    Row(.preCopyP2P, .preCopy, needs: [.p2p, .preCopy]),
    Row(.preCopyP2P, .stopCopy, needs: [.p2p, .preCopy]),
    Row(.preCopy, .stopCopy, needs: .preCopy, absent: .p2p),
  ]

  /// The states that exist for this device, in the order of the kernel's numbers. ERROR always does.
  public var states: [MigrationState] {
    MigrationState.allCases.filter(contains)
  }

  /// Whether the device has this state.
  public func contains(_ state: MigrationState) -> Bool {
    switch state {
    case .error, .stop, .running, .stopCopy, .resuming: true
    case .runningP2P: features.contains(.p2p)
    case .preCopy: features.contains(.preCopy)
    case .preCopyP2P: features.isSuperset(of: [.p2p, .preCopy])
    }
  }

  /// The single arcs that exist for this device.
  public var arcs: [Arc] {
    Self.table.filter { features.isSuperset(of: $0.needs) && features.isDisjoint(with: $0.absent) }.map(\.arc)
  }

  /// The states that the kernel goes through for a request, the last one being `to`; empty when the device is there
  /// already, nil when the kernel refuses the request with EINVAL.
  public func path(from: MigrationState, to: MigrationState) -> [MigrationState]? {
    guard contains(from), contains(to), from != .error, to != .error else { return nil }
    // A finished image can't be followed by more pre-copy data on the same descriptor.
    if from == .stopCopy, to == .preCopy || to == .preCopyP2P { return nil }
    if from == to { return [] }
    let staysInSavingGroup = from.isSaving && to == .stopCopy
    let arcs = arcs
    var reached: [(state: MigrationState, path: [MigrationState])] = [(from, [])]
    var seen = [from]
    var next = 0
    while next < reached.count {
      let (state, path) = reached[next]
      next += 1
      for arc in arcs where arc.from == state && !seen.contains(arc.to) {
        if arc.to == to { return path + [to] }
        if arc.to.isSaving != staysInSavingGroup { continue }
        seen.append(arc.to)
        reached.append((arc.to, path + [arc.to]))
      }
    }
    return nil
  }

  /// The first state on that path: the one to ask for, arc by arc; nil where the device is there already, or where there
  /// is no path.
  func next(from: MigrationState, to: MigrationState) -> MigrationState? {
    Self.hops[Int(features.rawValue & 0b111)][Int(from.rawValue) * 8 + Int(to.rawValue)]
  }

  /// ``next(from:to:)`` of every pair of states, for every combination of the features that the graph depends on: a group
  /// asks for it with every arc.
  private static let hops: [[MigrationState?]] = (UInt64(0)..<8).map { features in
    let graph = StateGraph(features: MigrationFeatures(rawValue: features))
    let states = (0..<8).map { MigrationState(rawValue: UInt32($0)) }
    return states.flatMap { from in
      states.map { to in
        guard let from, let to else { return nil }
        return graph.path(from: from, to: to)?.first
      }
    }
  }

  /// Whether the kernel takes this request.
  public func allows(from: MigrationState, to: MigrationState) -> Bool {
    path(from: from, to: to) != nil
  }

  /// Whether the kernel returns a data descriptor with this request: on entry to the saving group or to RESUMING.
  public func opensData(from: MigrationState, to: MigrationState) -> Bool {
    to.hasDataDescriptor && from != to && !(from.isSaving && to.isSaving)
  }

  /// Where a device may be after a request failed or was interrupted: where it was, anywhere on the way, at the end of
  /// it (the kernel may fail to hand out the descriptor after the device has moved), or in ERROR.
  ///
  /// Only a fresh reading tells which; this is what that reading is checked against.
  public func possibleStates(afterFailed from: MigrationState, to: MigrationState) -> [MigrationState] {
    var possible = [from]
    possible += path(from: from, to: to) ?? []
    if !possible.contains(.error) { possible.append(.error) }
    return possible
  }

  /// Why a request is refused, in words for a person; nil when it is allowed.
  public func refusal(from: MigrationState, to: MigrationState) -> String? {
    if allows(from: from, to: to) { return nil }
    if to == .error { return "error is entered by a device that fails and can't be asked for" }
    if from == .error { return "a device in error answers only to a reset" }
    for state in [from, to] where !contains(state) {
      return "this device has no state \(state) (it supports \(features.names.joined(separator: ", ")))"
    }
    return "the migration graph has no path from \(from) to \(to): go through stop first"
  }
}
