// SPDX-License-Identifier: Apache-2.0

/// Lets a group of stopped devices run, in the steps of ``Quiescing``, with no stream: after a hold, for example.
public struct ResumeSession: SessionMachine {
  private let devices: [SessionDevice]
  private var mover: GroupMover
  private var step = Quiescing.StartStep.leaveData
  private var faults: [SessionFault] = []

  public private(set) var outcome: SessionOutcome?

  /// - Parameters:
  ///   - devices: with the states that they are in.
  ///   - resetAllowed: a device that nothing else brings back may be reset, which empties it.
  ///   - hangLimit: microseconds after which a device that does not answer is reported.
  public init(devices: [SessionDevice], resetAllowed: Bool = false, hangLimit: UInt64 = 5_000_000) {
    self.devices = devices
    mover = GroupMover(devices: devices, resetAllowed: resetAllowed, hangLimit: hangLimit)
  }

  public var progress: [DeviceProgress] { mover.members.map { DeviceProgress(state: $0.state) } }
  public var deadline: MonotonicTime? { mover.deadline }

  public mutating func begin(at now: MonotonicTime) -> [SessionEffect] {
    start(.leaveData, at: now) + proceed(at: now)
  }

  public mutating func handle(_ event: SessionEvent, at now: MonotonicTime) -> [SessionEffect] {
    guard outcome == nil else { return [] }
    var effects: [SessionEffect] = []
    switch event {
    case .control(let device, let request, let result):
      let step = mover.handle(device, request, result, at: now)
      faults += step.faults
      effects += step.effects
    case .interrupt(let reason):
      if mover.giveUpHung() { faults.append(.interrupted(reason)) }
    default: break
    }
    return effects + mover.noteHangs(at: now) + proceed(at: now)
  }

  private mutating func proceed(at now: MonotonicTime) -> [SessionEffect] {
    var effects: [SessionEffect] = []
    while mover.isSettled, outcome == nil {
      if let next = step.next {
        effects += start(next, at: now)
      } else {
        outcome = SessionOutcome(
          fault: faults.first, cleanupFaults: Array(faults.dropFirst()),
          devices: mover.outcomes(of: devices))
      }
    }
    return effects
  }

  private mutating func start(_ step: Quiescing.StartStep, at now: MonotonicTime) -> [SessionEffect] {
    self.step = step
    return mover.start(step, towards: devices.map { _ in .running }, at: now)
  }
}
