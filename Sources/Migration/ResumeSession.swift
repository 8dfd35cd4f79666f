// SPDX-License-Identifier: Apache-2.0

/// Lets a group of stopped devices run, in the steps of a ``QuiescePlan``, with no stream: after a hold, for example.
public struct ResumeSession: SessionMachine {
  private let devices: [SessionDevice]
  private var group: QuiesceCoordinator
  private var faults: [SessionFault] = []
  private var interrupts = 0

  public private(set) var outcome: SessionOutcome?

  /// - Parameters:
  ///   - devices: with the states that they are in.
  ///   - plan: made for these devices.
  ///   - resetAllowed: a device that nothing else brings back may be reset, which empties it.
  ///   - configuration: of its parts only the limit of a step matters here.
  public init(
    devices: [SessionDevice], plan: QuiescePlan, resetAllowed: Bool = false,
    configuration: QuiesceConfiguration = QuiesceConfiguration()
  ) {
    self.devices = devices
    group = QuiesceCoordinator(
      devices: devices, plan: plan, resetAllowed: resetAllowed, configuration: configuration)
  }

  public var progress: [DeviceProgress] { group.mover.members.map { DeviceProgress(state: $0.state) } }
  public var steps: [StepReport] { group.reports }
  public var quorum: Int { group.mover.quorum }
  public var deadline: MonotonicTime? { group.mover.deadline }

  public mutating func begin(at now: MonotonicTime) -> [SessionEffect] {
    let effects = group.start(towards: devices.map { _ in .running }, isWayBack: false, at: now)
    endIfDone()
    return effects
  }

  public mutating func handle(_ event: SessionEvent, at now: MonotonicTime) -> [SessionEffect] {
    guard outcome == nil else { return [] }
    var effects: [SessionEffect] = []
    switch event {
    case .control(let device, let request, let result, let times):
      let step = group.handle(device, request, result, times, at: now)
      faults += step.faults
      effects += step.effects
    case .declareDead(let device):
      if group.declareDead(device, at: now) { faults.append(.declaredDead(device)) }
    case .interrupt(let reason):
      interrupts += 1
      if interrupts > 1, group.giveUpHung(at: now) { faults.append(.interrupted(reason)) }
    default: break
    }
    effects += group.mover.noteHangs(at: now) + group.proceed(at: now)
    endIfDone()
    return effects
  }

  private mutating func endIfDone() {
    guard group.isAtRest else { return }
    for (index, member) in group.mover.members.enumerated() where member.state != .running && !member.isHung {
      // A device that was found where no request leads out of has failed at nothing, and does not run all the same.
      guard let state = member.state, !faults.contains(where: { $0.isAbout(index) }) else { continue }
      faults.append(.device(index, DeviceError(.setState(.running), .unexpectedState(state))))
    }
    outcome = SessionOutcome(
      fault: faults.first, cleanupFaults: Array(faults.dropFirst()), devices: group.outcomes(of: devices))
  }
}
