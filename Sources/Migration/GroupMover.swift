// SPDX-License-Identifier: Apache-2.0

/// Moves all devices of a group at once, each to a target of its own, one arc at a time; a barrier for its caller.
///
/// Going forward, a device that fails stops where it is, no device begins another arc, and the caller learns once the
/// last one has answered. Going back, each failed device climbs its ``RecoveryLadder``.
struct GroupMover: Sendable {
  enum Direction: Sendable { case forward, back }

  struct Member: Sendable {
    let graph: StateGraph
    /// Where the device was last known to be; nil after a failure, until it has said where it is.
    var state: MigrationState?
    var ladder: RecoveryLadder
    var target: MigrationState?
    var request: ControlRequest?
    /// When the request was handed out.
    var since = MonotonicTime(microseconds: 0)
    /// When the device counts as hung.
    var due = MonotonicTime(microseconds: 0)
    var resets = 0
    var wasReset: Bool { resets > 0 }
    var isHung = false
    var hangNoted = false
    /// The ladder has nothing left, or the device is hung: it stays where it is.
    var isGivenUp = false
  }

  /// What a handled answer leads to.
  struct Step {
    var effects: [SessionEffect] = []
    var faults: [SessionFault] = []
    /// The arc that was made, or attempted.
    var arc: ArcReport?
    /// The request opened a data session.
    var openedData = false
    /// It did so although the graph has none there: the device was reset behind our back.
    var isUnexpectedSession = false
  }

  private(set) var members: [Member]
  private(set) var direction = Direction.forward
  private var isHalted = false
  private var resetSuffices = false
  private var stepBegan = MonotonicTime(microseconds: 0)
  private let stepLimit: UInt64

  /// - Parameter stepLimit: microseconds after which a device counts as hung.
  init(devices: [SessionDevice], resetAllowed: Bool, stepLimit: UInt64) {
    members = devices.map { device in
      let graph = StateGraph(features: device.features)
      return Member(
        graph: graph, state: device.state, ladder: RecoveryLadder(graph: graph, resetAllowed: resetAllowed))
    }
    self.stepLimit = stepLimit
  }

  // MARK: What is asked of the devices

  /// Whether no request is under way.
  var isSettled: Bool { members.allSatisfy { $0.request == nil } }

  func isBusy(_ device: Int) -> Bool { members[device].request != nil }

  /// Whether this answer is waited for. A device that was given up may answer late, and nobody listens any more.
  func expects(_ device: Int, _ request: ControlRequest) -> Bool { members[device].request == request }

  /// Begins a step: the members with a target move, the others stay.
  /// - Parameter resetSuffices: a device that has to be reset has nothing more to do in this step. It is empty, and in
  ///   RUNNING, until a later step takes it further.
  mutating func begin(
    _ direction: Direction, targets: [MigrationState?], resetSuffices: Bool = false, at now: MonotonicTime
  ) -> [SessionEffect] {
    precondition(isSettled, "a step begins before the one before it has ended")
    self.direction = direction
    self.resetSuffices = resetSuffices
    isHalted = false
    stepBegan = now
    var effects: [SessionEffect] = []
    for index in members.indices {
      members[index].target = members[index].isGivenUp ? nil : targets[index]
      effects += advance(index, at: now)
    }
    return effects
  }

  /// Something failed elsewhere: on the way forward no device begins another arc.
  mutating func halt() {
    if direction == .forward { isHalted = true }
  }

  /// A single request, on a device that has none under way.
  mutating func ask(_ device: Int, _ request: ControlRequest, at now: MonotonicTime) -> SessionEffect {
    precondition(members[device].request == nil, "a device has one control request at a time")
    members[device].request = request
    members[device].since = now
    // The limit is the step's, unless the device has outlived it before.
    let stepIsDue = stepBegan.adding(microseconds: stepLimit)
    let isInStep = members[device].target != nil && now < stepIsDue
    members[device].due = isInStep ? stepIsDue : now.adding(microseconds: stepLimit)
    members[device].hangNoted = false
    return .control(device: device, request)
  }

  /// Begins a step of questions, for the limit that they have in common.
  mutating func beginQuestions(at now: MonotonicTime) {
    stepBegan = now
    isHalted = false
  }

  /// Asks every device where it is that has not said so since it failed. The order of the way back depends on it.
  mutating func look(at now: MonotonicTime) -> [SessionEffect] {
    members.indices.filter { members[$0].state == nil && !members[$0].isGivenUp }.map { ask($0, .readState, at: now) }
  }

  /// Empties one device and takes it back to `target`, forward, while the others stay.
  mutating func restart(_ device: Int, to target: MigrationState, at now: MonotonicTime) -> SessionEffect {
    direction = .forward
    stepBegan = now
    resetSuffices = false
    members[device].target = target
    return ask(device, .reset, at: now)
  }

  /// What is in the device is worth nothing: on the way back it is reset.
  mutating func demandReset(_ device: Int) { members[device].ladder.demandReset() }

  private mutating func advance(_ index: Int, at now: MonotonicTime) -> [SessionEffect] {
    guard let target = members[index].target, members[index].request == nil else { return [] }
    if direction == .forward {
      guard !isHalted, let state = members[index].state,
        let next = members[index].graph.next(from: state, to: target)
      else {
        members[index].target = nil
        return []
      }
      return [ask(index, .setState(next), at: now)]
    }
    // A device that does not say where it is may be anywhere, so nothing but a reset is safe for the others.
    switch members[index].ladder.next(from: members[index].state ?? .error, to: target) {
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

  // MARK: What the devices answer

  /// Takes the end of a state request, a state reading, a flush or a reset.
  mutating func handle(
    _ device: Int, _ request: ControlRequest, _ result: Result<ControlAnswer, DeviceError>, _ times: RequestTimes,
    at now: MonotonicTime
  ) -> Step {
    var step = Step()
    guard expects(device, request) else { return step }
    members[device].request = nil
    let before = members[device].state
    switch (request, result) {
    case (.setState(let state), .success(let answer)):
      members[device].state = state
      step.openedData = answer == .moved(openedData: true)
      let arc = ArcReport(device: device, from: before, to: state, times: times)
      step.arc = arc
      step.effects.append(.note(.arc(arc)))
      if let before {
        let isExpected = members[device].graph.opensData(from: before, to: state)
        step.isUnexpectedSession = step.openedData && !isExpected
        if isExpected, !step.openedData {
          step.faults.append(.device(device, DeviceError(.setState(state), .noDataDescriptor)))
          halt()
        }
      }
    case (.setState(let state), .failure(let error)):
      let arc = ArcReport(device: device, from: before, to: state, times: times, error: error)
      step.arc = arc
      step.effects.append(.note(.arc(arc)))
      step.faults.append(.device(device, error))
      members[device].ladder.noteFailure(of: state, recovering: direction == .back)
      halt()
      // Only a fresh reading tells where the device is now.
      members[device].state = nil
      step.effects.append(ask(device, .readState, at: now))
      return step
    case (.readState, .success(.state(let state))):
      members[device].state = state
    case (.reset, .success):
      members[device].state = .running
      members[device].resets += 1
      members[device].ladder.noteReset()
      if resetSuffices { members[device].target = nil }
      step.effects.append(.note(.reset(device: device)))
    case (.flush, .failure(let error)):
      // The device is where it was; only the flush is missing.
      step.faults.append(.device(device, error))
      halt()
    case (_, .failure(let error)):
      step.faults.append(.device(device, error))
      members[device].state = nil
      halt()
      if request == .reset {
        step.effects.append(ask(device, .readState, at: now))
        return step
      }
    default:
      break
    }
    step.effects += advance(device, at: now)
    return step
  }

  /// Takes the end of a request that is none of the mover's: pre-copy info, size.
  mutating func release(_ device: Int) { members[device].request = nil }

  /// The device was read outside of any step; nil where that failed.
  mutating func observe(_ device: Int, state: MigrationState?) { members[device].state = state }

  /// How many answers have to come before there is anything to do, as long as none is a failure: all that are under way,
  /// where each is its device's last in the step.
  var quorum: Int {
    var underWay = 0
    for member in members {
      guard let request = member.request else { continue }
      switch request {
      case .setState(let state) where state == member.target: break
      case .flush, .readState: if member.target != nil { return 1 }
      default: return 1
      }
      underWay += 1
    }
    return max(1, underWay)
  }

  // MARK: Devices that do not answer

  /// When the next device counts as hung.
  var deadline: MonotonicTime? {
    var earliest: MonotonicTime?
    for member in members where member.request != nil && !member.hangNoted {
      earliest = earliest.map { min($0, member.due) } ?? member.due
    }
    return earliest
  }

  /// Notes for devices that have not answered for too long, once for each request.
  mutating func noteHangs(at now: MonotonicTime) -> [SessionEffect] {
    var effects: [SessionEffect] = []
    for index in members.indices {
      guard let request = members[index].request, !members[index].hangNoted else { continue }
      guard now >= members[index].due else { continue }
      members[index].hangNoted = true
      let waited = now.microseconds(since: members[index].since)
      effects.append(.note(.hung(device: index, request, microseconds: waited)))
    }
    return effects
  }

  /// Gives a device up: it is left alone from now on, and what it answers later is ignored.
  mutating func giveUp(_ device: Int) {
    if members[device].request != nil { members[device].state = nil }
    members[device].request = nil
    members[device].target = nil
    members[device].isHung = true
    members[device].isGivenUp = true
  }
}
