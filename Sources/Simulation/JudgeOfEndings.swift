// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What nothing that went wrong explains.
extension Judge {
  static func endings(_ world: SimulatedWorld, _ machines: MachineWorld) -> [String] {
    var findings: [String] = []
    if world.scenario.isFaultless, !world.mayGiveUp {
      if world.place != .runs(.destination) {
        let fault = SimulatedSide.allCases.lazy.compactMap { world.outcome(of: $0)?.fault }.first
        findings.append(
          "nothing went wrong, and the machine was not moved: \(fault.map { "\($0)" } ?? "no fault is reported")")
      } else if !world.summary.devices.allSatisfy(\.isVerified) {
        findings.append("nothing went wrong, and a device does not hold what the source's held")
      }
    }
    for side in SimulatedSide.allCases where !world.isKilled[side.rawValue] {
      guard let outcome = world.outcome(of: side) else { continue }
      findings += wayBack(outcome, side, machines)
      if side == .source, !world.scenario.save.resetAllowed, outcome.devices.contains(where: \.wasReset) {
        findings.append("the source reset a device, which it was not allowed to")
      }
    }
    guard case .runs(let side) = world.place else { return findings }
    for nic in machines.machines[side.rawValue].nics.indices
    where !machines.nicsResetByGuest[nic] && !machines.machines[side.rawValue].nics[nic].nic.isServing {
      findings.append("NIC \(nic) of the \(side) has lost its connections")
    }
    return findings
  }

  /// The way back is a part of the way (contract 3): a side that failed, and holds the machine or never had it, leaves every
  /// device running that did not fail itself.
  private static func wayBack(
    _ outcome: SessionOutcome, _ side: SimulatedSide, _ machines: MachineWorld
  ) -> [String] {
    let isBound = side == .source ? outcome.commitment != .none : outcome.commitment.isGiven
    guard let fault = outcome.fault, !isBound else { return [] }
    let faults = [fault] + outcome.cleanupFaults
    return outcome.devices.indices.compactMap { device in
      let state = machines.state(host: side.rawValue, device: device)
      if outcome.devices[device].isHung || state == .running || faults.contains(where: { $0.device == device }) {
        return nil
      }
      return "device \(device) of the \(side) did not fail, and is left in \(state)"
    }
  }
}

extension SimulatedWorld {
  /// Whether the guest dirties more than goes over the channel, and the scenario has it stay then.
  fileprivate var mayGiveUp: Bool {
    guard case .outrun(let decision) = save.outcome?.fault, scenario.world?.lastResort == .giveUp else { return false }
    // What is dirtied is counted once however often it is written, so it comes near what is sent and not above it.
    return decision.forecast.dirtyRate >= decision.forecast.bandwidth / 4 * 3
  }
}

extension Scenario {
  /// Whether nothing of it keeps a good engine from moving the machine.
  fileprivate var isFaultless: Bool {
    // A limit that can't be set or lifted is no reason not to move.
    (source + destination).allSatisfy { $0.failures.allSatisfy(\.operation.isOfLimiter) } && kills.isEmpty
      && interrupts.isEmpty && deaths.isEmpty
      && link.breaksAt == nil && link.breaksAfter == nil && link.breaksAfterWord == nil && link.flips.isEmpty
      && world?.sabotage == nil
  }
}

extension Commitment {
  /// Whether the source has let go, as far as this side knows.
  fileprivate var isGiven: Bool { self == .unanswered || self == .complete }
}

extension SessionFault {
  /// The device that it is about.
  fileprivate var device: Int? {
    switch self {
    case .device(let device, _), .keptResetting(let device, _), .declaredDead(let device): device
    case .resetAtLastMoment(let device), .stillLimited(let device, _): device
    case .channel, .stream, .mismatch, .givenUp, .memory, .outrun, .interrupted: nil
    }
  }
}

extension RDMACompletion.Status {
  /// Whether it says that nothing was heard of the other end, which a long stop explains.
  var isSilence: Bool { self == .retriesExceeded || self == .receiverNotReadyRetriesExceeded || self == .flushed }
}
