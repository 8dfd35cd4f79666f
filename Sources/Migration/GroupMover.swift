// SPDX-License-Identifier: Apache-2.0

/// Moves all devices of a group at once, each to a target of its own, one arc at a time; a barrier for its caller.
///
/// Going forward, a device that fails stops where it is, no device begins another arc, and the caller learns once the
/// last one has answered. Going back, each failed device climbs its ``RecoveryLadder``.
struct GroupMover: Sendable {
  enum Direction: Sendable { case forward, back }

  struct Member: Sendable {
    let graph: StateGraph
    var state: MigrationState?
    var ladder: RecoveryLadder
    var target: MigrationState?
    var request: ControlRequest?
    var since = MonotonicTime(microseconds: 0)
    var wasReset = false
    var isHung = false
    var hangNoted = false
    /// The ladder has nothing left, or the device is hung: it stays where it is.
    var isGivenUp = false
  }

  /// What a handled answer leads to.
  struct Step {
    var effects: [SessionEffect] = []
    var faults: [SessionFault] = []
    /// Data sessions that opened although the graph has none there: the device was reset behind our back.
    var unexpectedSession: Int?
  }

  private(set) var members: [Member]
  private(set) var direction = Direction.forward
  private var forwardFailed = false
  private let hangLimit: UInt64

  init(devices: [SessionDevice], resetAllowed: Bool, hangLimit: UInt64) {
    members = devices.map { device in
      let graph = StateGraph(features: device.features)
      return Member(
        graph: graph, state: device.state, ladder: RecoveryLadder(graph: graph, resetAllowed: resetAllowed))
    }
    self.hangLimit = hangLimit
  }

  /// Whether no request is under way.
  var isSettled: Bool { members.allSatisfy { $0.request == nil } }

  func isBusy(_ device: Int) -> Bool { members[device].request != nil }

  /// Begins a step: the members with a target move, the others stay.
  mutating func begin(
    _ direction: Direction, targets: [MigrationState?], at now: MonotonicTime
  ) -> [SessionEffect] {
    precondition(isSettled, "a step begins before the one before it has ended")
    self.direction = direction
    forwardFailed = false
    var effects: [SessionEffect] = []
    for index in members.indices {
      members[index].target = members[index].isGivenUp ? nil : targets[index]
      effects += advance(index, at: now)
    }
    return effects
  }

  /// A single request outside of any step, on a device that has none under way.
  mutating func ask(_ device: Int, _ request: ControlRequest, at now: MonotonicTime) -> SessionEffect {
    precondition(members[device].request == nil, "a device has one control request at a time")
    members[device].request = request
    members[device].since = now
    members[device].hangNoted = false
    return .control(device: device, request)
  }

  /// Empties one device and takes it back to `target`, forward, while the others stay.
  mutating func restart(_ device: Int, to target: MigrationState, at now: MonotonicTime) -> SessionEffect {
    direction = .forward
    members[device].target = target
    return ask(device, .reset, at: now)
  }

  /// What is in the device is worth nothing: on the way back it is reset.
  mutating func demandReset(_ device: Int) { members[device].ladder.demandReset() }

  private mutating func advance(_ index: Int, at now: MonotonicTime) -> [SessionEffect] {
    guard let target = members[index].target, members[index].request == nil else { return [] }
    guard let state = members[index].state else { return [ask(index, .readState, at: now)] }
    if direction == .forward {
      guard !forwardFailed, let next = members[index].graph.path(from: state, to: target)?.first else {
        members[index].target = nil
        return []
      }
      return [ask(index, .setState(next), at: now)]
    }
    switch members[index].ladder.next(from: state, to: target) {
    case .arrived:
      members[index].target = nil
      return []
    case .request(let next): return [ask(index, .setState(next), at: now)]
    case .reset: return [ask(index, .reset, at: now)]
    case .report:
      members[index].target = nil
      members[index].isGivenUp = true
      return []
    }
  }

  /// Takes the end of a state request, a state reading or a reset.
  mutating func handle(
    _ device: Int, _ request: ControlRequest, _ result: Result<ControlAnswer, DeviceError>, at now: MonotonicTime
  ) -> Step {
    var step = Step()
    guard members[device].request == request else { return step }
    members[device].request = nil
    let before = members[device].state
    switch (request, result) {
    case (.setState(let state), .success(let answer)):
      if case .moved(let openedData) = answer, openedData, let before,
        !members[device].graph.opensData(from: before, to: state)
      {
        step.unexpectedSession = device
      }
      members[device].state = state
      step.effects.append(
        .note(.arc(device: device, from: before, to: state, begin: members[device].since, end: now, nil)))
    case (.setState(let state), .failure(let error)):
      step.effects.append(
        .note(.arc(device: device, from: before, to: state, begin: members[device].since, end: now, error)))
      step.faults.append(.device(device, error))
      members[device].ladder.noteFailure(of: state, recovering: direction == .back)
      if direction == .forward { forwardFailed = true }
      // Only a fresh reading tells where the device is now.
      members[device].state = nil
      step.effects.append(ask(device, .readState, at: now))
      return step
    case (.readState, .success(.state(let state))):
      members[device].state = state
      if direction == .forward, forwardFailed { members[device].target = nil }
    case (.reset, .success):
      members[device].state = .running
      members[device].wasReset = true
      members[device].ladder.noteReset()
      step.effects.append(.note(.reset(device: device)))
    case (_, .failure(let error)):
      step.faults.append(.device(device, error))
      members[device].state = nil
      if direction == .forward {
        forwardFailed = true
        members[device].target = nil
      } else if request == .readState, case .reset = members[device].ladder.next(from: .error, to: .running) {
        step.effects.append(ask(device, .reset, at: now))
        return step
      } else {
        members[device].target = nil
        members[device].isGivenUp = true
      }
    default:
      break
    }
    step.effects += advance(device, at: now)
    return step
  }

  /// Takes note that something outside ended a request that is none of the mover's (pre-copy info, size).
  mutating func release(_ device: Int) { members[device].request = nil }

  /// The guest or a reset put the device into this state.
  mutating func observe(_ device: Int, state: MigrationState) { members[device].state = state }

  /// When the next device counts as hung.
  var deadline: MonotonicTime? {
    members.filter { $0.request != nil && !$0.hangNoted }.map { $0.since.adding(microseconds: hangLimit) }.min()
  }

  /// Notes for devices that have not answered for too long, once for each request.
  mutating func noteHangs(at now: MonotonicTime) -> [SessionEffect] {
    var effects: [SessionEffect] = []
    for index in members.indices {
      guard let request = members[index].request, !members[index].hangNoted else { continue }
      let waited = now.microseconds(since: members[index].since)
      guard waited >= hangLimit else { continue }
      members[index].hangNoted = true
      effects.append(.note(.hung(device: index, request, microseconds: waited)))
    }
    return effects
  }

  /// Declares the devices dead that were reported as hung; what they answer later is ignored.
  mutating func giveUpHung() {
    for index in members.indices where members[index].hangNoted && members[index].request != nil {
      members[index].request = nil
      members[index].target = nil
      members[index].state = nil
      members[index].isHung = true
      members[index].isGivenUp = true
    }
  }
}
