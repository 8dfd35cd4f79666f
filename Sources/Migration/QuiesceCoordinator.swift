// SPDX-License-Identifier: Apache-2.0

/// How a group is brought to a stop, as far as its caller chooses.
public struct QuiesceConfiguration: Hashable, Sendable {
  /// The VM's vCPUs do not run, and nobody else touches the devices' regions. As long as this was not said, here or by
  /// ``SessionEvent/vcpusStopped``, no device is asked to stop, or for a P2P state if it was not found in one.
  public var vcpusAreStopped = false
  /// Microseconds that a step may take until the devices that have not answered are reported as hung. Nothing is done
  /// to them: a driver can't be interrupted.
  public var stepLimit: UInt64 = 5_000_000
  /// Between the steps to a stop, read the configuration space of every device. `docs/quiescing.md` says when that is
  /// of use.
  public var flushes = false

  /// The defaults.
  public init() {}
}

/// Takes the devices of a group along the steps of their plan: all devices of a step at once, a barrier, then the next.
/// The decisions only; what it wants done are effects.
///
/// Its caller hands it every answer and asks it to ``proceed(at:)`` after each, until something fails; then it waits until
/// everything under way has been answered, and asks for the way back, ``start(towards:isWayBack:leavingData:at:)``.
struct QuiesceCoordinator: Sendable {
  let plan: QuiescePlan
  /// Moves the devices; sessions use it for requests that are no part of a way.
  var mover: GroupMover
  private let configuration: QuiesceConfiguration
  private var vcpusAreStopped: Bool

  /// The step that is being walked; nil where the group rests.
  private(set) var step: GroupStep?
  private var remaining: [GroupStep] = []
  private var goals: [MigrationState] = []
  private var leavingData = GroupMover.Direction.back
  private var isWayBack = false
  private var stepBegan = MonotonicTime(microseconds: 0)
  private var arcs: [ArcReport] = []
  /// The steps that ended so far, in order; those in which no device had anything to do are left out.
  private(set) var reports: [StepReport] = []

  init(
    devices: [SessionDevice], plan: QuiescePlan, resetAllowed: Bool,
    configuration: QuiesceConfiguration = QuiesceConfiguration()
  ) {
    precondition(devices.map(\.features) == plan.devices.map(\.features), "the plan is for other devices")
    self.plan = plan
    self.configuration = configuration
    vcpusAreStopped = configuration.vcpusAreStopped
    mover = GroupMover(devices: devices, resetAllowed: resetAllowed, stepLimit: configuration.stepLimit)
  }

  /// Whether the way that was begun has been walked to its end.
  var isAtRest: Bool { step == nil && remaining.isEmpty && mover.isSettled }

  // MARK: Ways

  /// The devices with a target enter pre-copy.
  mutating func enterPreCopy(_ targets: [MigrationState?], at now: MonotonicTime) -> [SessionEffect] {
    begin(.enterPreCopy, direction: .forward, targets: targets, at: now)
  }

  /// Begins the way to a stop: all devices end in `goal`, STOP_COPY or RESUMING.
  ///
  /// It does not begin before the vCPUs have stopped: where nobody has said so yet, that is asked for.
  mutating func stop(towards goal: MigrationState, at now: MonotonicTime) -> [SessionEffect] {
    precondition(isAtRest, "a way begins where another has not ended")
    goals = plan.devices.map { _ in goal }
    // What the devices said while the guest ran may have changed since: it may have reset one, or touched one in a P2P state.
    remaining = vcpusAreStopped && configuration.vcpusAreStopped ? [] : [.look]
    for step in plan.stopSteps {
      remaining.append(.stop(step))
      // What a device sent before it stopped doing so travels upwards ahead of its first answer, and downwards ahead of
      // the next request to its target: two rounds, one after the other.
      if configuration.flushes, step != .stopAll { remaining += [.flush, .flush] }
    }
    return vcpusAreStopped ? proceed(at: now) : [.note(.phase("waiting for the vCPUs")), .stopVCPUs]
  }

  /// Nothing runs any more that could touch the devices.
  mutating func noteVCPUsStopped() { vcpusAreStopped = true }

  /// Begins the way to running, from wherever the devices are.
  /// - Parameters:
  ///   - goals: where each device should end: RUNNING, RUNNING_P2P or STOP.
  ///   - isWayBack: whether that is because of a fault.
  ///   - leavingData: `forward` where a device that does not leave its data session in the ordinary way is a fault for
  ///     the caller to deal with; `back` where it climbs its ``RecoveryLadder``.
  mutating func start(
    towards goals: [MigrationState], isWayBack: Bool, leavingData: GroupMover.Direction = .back, at now: MonotonicTime
  ) -> [SessionEffect] {
    precondition(mover.isSettled, "a way begins while a device has not answered")
    // A step that a fault has broken off.
    let report = closeStep(at: now)
    self.goals = goals
    self.isWayBack = isWayBack
    self.leavingData = leavingData
    remaining = plan.startSteps.map { .start($0) }
    return report + proceed(at: now)
  }

  /// Goes on to the next step once the barrier has been reached. To be called after every event, while nothing failed.
  mutating func proceed(at now: MonotonicTime) -> [SessionEffect] {
    var effects: [SessionEffect] = []
    while mover.isSettled {
      effects += closeStep(at: now)
      guard let next = remaining.first else { return effects }
      if next.isTowardsStop, !vcpusAreStopped { return effects }
      remaining.removeFirst()
      switch next {
      case .enterPreCopy: preconditionFailure("pre-copy is no part of a way")
      case .look: effects += open(next, at: now) + askAll(.readState, at: now)
      case .stop(let step):
        effects += begin(next, direction: .forward, targets: targets(step), at: now)
      case .flush: effects += open(next, at: now) + askAll(.flush, at: now)
      case .start(let step):
        let direction = step == .leaveData ? leavingData : .back
        effects += begin(next, direction: direction, targets: targets(step), at: now)
      }
    }
    return effects
  }

  private func targets(_ step: QuiescePlan.StopStep) -> [MigrationState?] {
    mover.members.indices.map { index in
      mover.members[index].state.flatMap { plan.target(step, device: index, from: $0, goal: goals[index]) }
    }
  }

  private func targets(_ step: QuiescePlan.StartStep) -> [MigrationState?] {
    mover.members.indices.map { index in
      let member = mover.members[index]
      // A device that does not say where it is can only be reset, where that is allowed; then it joins the others.
      guard let state = member.state else { return step == .leaveData ? .stop : goals[index] }
      if step == .leaveData {
        if member.ladder.mustReset { return .running }
        if member.ladder.mustPassStop { return .stop }
      }
      // A device that was found in STOP and that its guest has let run since: these steps stop none in the right order.
      if goals[index] == .stop, state.mayWriteMemory, !member.wasReset { return nil }
      return plan.target(step, device: index, from: state, goal: goals[index])
    }
  }

  private mutating func begin(
    _ step: GroupStep, direction: GroupMover.Direction, targets: [MigrationState?], at now: MonotonicTime
  ) -> [SessionEffect] {
    let effects = mover.begin(direction, targets: targets, resetSuffices: step == .start(.leaveData), at: now)
    // A step in which no device has anything to do is not worth a word.
    return effects.isEmpty ? [] : open(step, at: now) + effects
  }

  private mutating func askAll(_ request: ControlRequest, at now: MonotonicTime) -> [SessionEffect] {
    mover.beginQuestions(at: now)
    return mover.members.indices.filter { !mover.members[$0].isGivenUp }.map { mover.ask($0, request, at: now) }
  }

  private mutating func open(_ step: GroupStep, at now: MonotonicTime) -> [SessionEffect] {
    self.step = step
    stepBegan = now
    arcs = []
    return [.note(.phase("\(step)"))]
  }

  private mutating func closeStep(at now: MonotonicTime) -> [SessionEffect] {
    guard let step else { return [] }
    self.step = nil
    let report = StepReport(step: step, isWayBack: isWayBack, began: stepBegan, ended: now, arcs: arcs)
    reports.append(report)
    return [.note(.stepEnded(report))]
  }

  // MARK: Answers

  /// Whether a device may still be in a data session that it should leave on the way to running.
  var isLeavingData: Bool { step == .start(.leaveData) || remaining.contains(.start(.leaveData)) }

  /// Takes the end of a state request, a state reading, a flush or a reset.
  mutating func handle(
    _ device: Int, _ request: ControlRequest, _ result: Result<ControlAnswer, DeviceError>, _ times: RequestTimes,
    at now: MonotonicTime
  ) -> GroupMover.Step {
    var answered = mover.handle(device, request, result, times, at: now)
    if step != nil, let arc = answered.arc { arcs.append(arc) }
    if step == .look, case .success(.state(let state)) = result, state == .error || state == .resuming {
      // No way to a stop leads from there.
      answered.faults.append(.device(device, DeviceError(.readState, .unexpectedState(state))))
      mover.halt()
    }
    return answered
  }

  // MARK: Devices that are given up

  /// Declares a device dead that has something to answer, whether it was reported as hung or not.
  /// - Parameter dataIsUnderWay: whether a read or a write of its data session is what it has not answered.
  /// - Returns: whether it has anything to answer, and was not given up before.
  mutating func declareDead(_ device: Int, dataIsUnderWay: Bool = false, at now: MonotonicTime) -> Bool {
    guard mover.members.indices.contains(device), !mover.members[device].isHung,
      mover.isBusy(device) || dataIsUnderWay
    else { return false }
    giveUp(device, at: now)
    return true
  }

  /// Declares the devices dead that were reported as hung.
  /// - Returns: whether there were any.
  mutating func giveUpHung(at now: MonotonicTime) -> Bool {
    let hung = mover.members.indices.filter { mover.members[$0].hangNoted && mover.isBusy($0) }
    for device in hung { giveUp(device, at: now) }
    return !hung.isEmpty
  }

  /// Leaves a device alone from now on; what it answers later is ignored.
  mutating func giveUp(_ device: Int, at now: MonotonicTime) {
    let member = mover.members[device]
    if step != nil, case .setState(let state) = member.request {
      arcs.append(
        ArcReport(
          device: device, from: member.state, to: state, times: RequestTimes(began: member.since, ended: now),
          error: DeviceError(.setState(state), .noAnswer)))
    }
    mover.giveUp(device)
  }

  /// Where every device is, for a session's outcome.
  func outcomes(of devices: [SessionDevice]) -> [DeviceOutcome] {
    zip(devices, mover.members).map { device, member in
      DeviceOutcome(name: device.name, state: member.state, wasReset: member.wasReset, isHung: member.isHung)
    }
  }
}
