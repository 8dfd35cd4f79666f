// SPDX-License-Identifier: Apache-2.0
import Migration
import Simulation
import Testing

@Suite("Interrupts, hangs and guests that reset their devices")
struct InterruptTests {
  static let groups: [[MigrationFeatures]] = [[.full, .full], [.full, [.stopCopy]]]

  @Test("interrupted before any of its events, a session takes every device back", arguments: groups)
  func everyEvent(features: [MigrationFeatures]) {
    let scenario = FailureTests.scenario(features)
    let (world, _) = run(scenario)
    for side in SimulatedSide.allCases {
      for number in 1...world.sessionEventCount(of: side) {
        var interrupted = scenario
        interrupted.interrupts = [Scenario.Interrupt(side, .beforeEvent(number))]
        let (_, summary) = run(interrupted)
        #expect(breaches(interrupted, summary) == [], "\(side) before event \(number)")
        let outcome = FailureTests.outcome(side, summary)
        // Once everything is done there is nothing to interrupt.
        if let fault = outcome?.fault { #expect(fault == .interrupted("the scenario")) }
      }
    }
  }

  static let operations: [ScriptedFailure.Operation] = [.anyArc, .preCopyInfo, .stopCopySize]

  @Test("a call that never answers is reported, and the second interrupt gives its device up", arguments: operations)
  func hangs(operation: ScriptedFailure.Operation) {
    for features in Self.groups {
      let scenario = FailureTests.scenario(features)
      for (side, device, count) in FailureTests.uses(operation, in: scenario) {
        for use in 0..<count {
          let failure = ScriptedFailure(operation, use: use + 1, .hangs(microseconds: nil))
          var hanging = FailureTests.adding(failure, side, device, to: scenario)
          hanging.interrupts = [Scenario.Interrupt(side, .onHang), Scenario.Interrupt(side, .onHang)]
          let (world, summary) = run(hanging)
          #expect(breaches(hanging, summary) == [], "\(side) \(device) \(failure)")
          let outcome = FailureTests.outcome(side, summary)
          #expect(outcome?.devices.map(\.isHung) == outcome?.devices.indices.map { $0 == device })
          #expect(outcome?.devices[device].state == nil)
          let reports = world.notes.filter { if case .hung(device, _, _) = $0.note { true } else { false } }
          #expect(reports.count == 1)
        }
      }
    }
  }

  @Test("a call that answers late is reported, and the move goes on", arguments: operations)
  func late(operation: ScriptedFailure.Operation) {
    let scenario = FailureTests.scenario([.full, .full])
    for (side, device, count) in FailureTests.uses(operation, in: scenario) {
      for use in 0..<count {
        let failure = ScriptedFailure(operation, use: use + 1, .hangs(microseconds: 300_000))
        let (world, summary) = run(FailureTests.adding(failure, side, device, to: scenario))
        #expect(summary.isVerified, "\(side) \(device) \(failure) \(summary)")
        #expect(world.notes.contains { if case .hung(device, _, _) = $0.note { true } else { false } })
      }
    }
  }

  @Test("a call that answers after its device was given up changes nothing")
  func afterGivingUp() {
    let scenario = FailureTests.scenario([.full, .full])
    for (side, device, count) in FailureTests.uses(.anyArc, in: scenario) {
      for use in 0..<count {
        let failure = ScriptedFailure(.anyArc, use: use + 1, .hangs(microseconds: 100_300))
        var hanging = FailureTests.adding(failure, side, device, to: scenario)
        hanging.interrupts = [Scenario.Interrupt(side, .onHang), Scenario.Interrupt(side, .onHang)]
        let (_, summary) = run(hanging)
        #expect(breaches(hanging, summary) == [], "\(side) \(device) \(failure)")
        #expect(FailureTests.outcome(side, summary)?.devices[device].isHung == true)
      }
    }
  }

  @Test(
    "a read or a write that never returns ends with its session", arguments: [ScriptedFailure.Operation.read, .write])
  func dataHangs(operation: ScriptedFailure.Operation) {
    let scenario = FailureTests.scenario([.full, .full])
    for (side, device, count) in FailureTests.uses(operation, in: scenario) {
      for use in 0..<count {
        let failure = ScriptedFailure(operation, use: use + 1, .hangs(microseconds: nil))
        var hanging = FailureTests.adding(failure, side, device, to: scenario)
        hanging.interrupts = [Scenario.Interrupt(side, .at(MonotonicTime(microseconds: 500_000)))]
        let (_, summary) = run(hanging)
        #expect(breaches(hanging, summary) == [], "\(side) \(device) \(failure)")
        #expect(FailureTests.outcome(side, summary)?.fault == .interrupted("the scenario"))
        #expect(FailureTests.outcome(side, summary)?.devices.contains { $0.isHung } == false)
      }
    }
  }

  static func preCopyEnd(_ scenario: Scenario) -> UInt64 {
    let (world, _) = run(scenario)
    let stop = world.notes.first { $0.side == .source && $0.note == .phase("ending peer transfers") }
    return stop?.time.microseconds ?? 0
  }

  @Test(
    "a guest may reset a device at any moment until its vCPUs have stopped: its state is sent anew and arrives whole",
    arguments: [MigrationState.running, .runningP2P, .stop])
  func guestResets(found: MigrationState) {
    var scenario = FailureTests.scenario([.full, .full])
    scenario.source[1].initialState = found
    scenario.save.keepStopped = true
    let end = Self.preCopyEnd(scenario)
    #expect(end > 0)
    var restarted = 0
    for device in 0..<2 {
      for time in stride(from: 0, to: end, by: 7) {
        var reset = scenario
        reset.guestResets = [.init(device: device, time: MonotonicTime(microseconds: time))]
        let (_, summary) = run(reset)
        #expect(breaches(reset, summary) == [], "device \(device) at \(time)")
        #expect(summary.isVerified, "device \(device) at \(time): \(summary)")
        restarted += summary.devices[device].restarts
      }
    }
    #expect(restarted > 20)
  }

  @Test("a guest that resets its device again and again ends the session, and every device is back")
  func keepsResetting() {
    var scenario = FailureTests.scenario([.full, .full])
    scenario.source[1].changedBytesPerMicrosecond = 0
    scenario.link.bytesPerMicrosecond = 1
    scenario.guestResets = (1...60).map { .init(device: 0, time: MonotonicTime(microseconds: UInt64($0) * 900)) }
    let (_, summary) = run(scenario)
    #expect(breaches(scenario, summary) == [])
    #expect(summary.source?.fault == .keptResetting(0, times: 6))
    #expect(summary.source?.devices.map(\.state) == [.running, .running])
  }
}
