// SPDX-License-Identifier: Apache-2.0
import Migration
import Simulation
import Testing

/// A good run is counted; then call 1, 2, 3 … of each operation fails in turn.
@Suite("One call that fails")
struct FailureTests {
  static let errnos: [ErrorNumber] = [.inputOutput, .interrupted, .invalidArgument, .noDevice, .tooManyFiles]

  static let groups: [[MigrationFeatures]] = [[.full, .full], [.full, [.stopCopy, .preCopy]]]

  static func scenario(_ features: [MigrationFeatures]) -> Scenario {
    var scenario = smallMove(features.enumerated().map { smallDevice($0, $1, bytes: 768) })
    scenario.save.keepStopped = false
    return scenario
  }

  /// The same with one more failure.
  static func adding(_ failure: ScriptedFailure, _ side: SimulatedSide, _ device: Int, to scenario: Scenario)
    -> Scenario
  {
    var scenario = scenario
    if side == .source {
      scenario.source[device].failures.append(failure)
    } else {
      scenario.destination[device].failures.append(failure)
    }
    return scenario
  }

  /// Every use of an operation in a good run: side, device, and how many there were.
  static func uses(_ operation: ScriptedFailure.Operation, in scenario: Scenario) -> [(SimulatedSide, Int, Int)] {
    let (world, summary) = run(scenario)
    #expect(summary.isVerified)
    return SimulatedSide.allCases.flatMap { side in
      world.devices(of: side).enumerated().map { (side, $0, $1.uses(of: operation)) }
    }
  }

  static func outcome(_ side: SimulatedSide, _ summary: SimulationSummary) -> SessionOutcome? {
    side == .source ? summary.source : summary.destination
  }

  /// The states that a request can leave a device in when it fails on an arc towards `target`.
  static func places(_ target: MigrationState) -> [ScriptedFailure.Place] { [.unchanged, .at(target), .at(.error)] }

  @Test("a request for a state: the error is reported, and every device is back, or where it says", arguments: groups)
  func arcs(features: [MigrationFeatures]) {
    let scenario = Self.scenario(features)
    for target in MigrationState.allCases {
      for (side, device, count) in Self.uses(.arc(to: target), in: scenario) {
        for use in 0..<count {
          for (number, place) in Self.places(target).enumerated() {
            let errno = Self.errnos[(use + number) % Self.errnos.count]
            let failure = ScriptedFailure(.arc(to: target), use: use + 1, .fails(errno, place))
            for resetAllowed in [false, true] {
              var failing = Self.adding(failure, side, device, to: scenario)
              failing.save.resetAllowed = resetAllowed
              failing.load.resetAllowed = resetAllowed
              let (_, summary) = run(failing)
              let found = breaches(failing, summary)
              #expect(found == [], "\(side) \(device) \(failure)")
              let outcome = Self.outcome(side, summary)
              let error = DeviceError(.setState(target), .errno(errno))
              #expect(outcome?.fault == .device(device, error), "\(side) \(device) \(failure)")
              Self.checkResets(failure, side, device, resetAllowed: resetAllowed, summary)
            }
          }
        }
      }
    }
  }

  /// A source's device is reset only where it was allowed and nothing else helped; a destination's also where it holds a
  /// part of a state.
  static func checkResets(
    _ failure: ScriptedFailure, _ side: SimulatedSide, _ device: Int, resetAllowed: Bool, _ summary: SimulationSummary
  ) {
    guard side == .source, let devices = summary.source?.devices else { return }
    let isInError = if case .fails(_, .at(.error)) = failure.effect { true } else { false }
    for index in devices.indices {
      #expect(devices[index].wasReset == (index == device && isInError && resetAllowed), "\(failure)")
      if index == device, isInError, !resetAllowed { #expect(devices[index].state == .error) }
    }
  }

  static let calls: [ScriptedFailure.Operation] = [.read, .write, .preCopyInfo, .stopCopySize]

  @Test("a read, a write or a question: the error is reported, and every device is back", arguments: groups, calls)
  func dataAndQuestions(features: [MigrationFeatures], operation: ScriptedFailure.Operation) {
    let scenario = Self.scenario(features)
    for (side, device, count) in Self.uses(operation, in: scenario) {
      for use in 0..<count {
        for errno in Self.errnos {
          let failure = ScriptedFailure(operation, use: use + 1, .fails(errno, .unchanged))
          let failing = Self.adding(failure, side, device, to: scenario)
          let (_, summary) = run(failing)
          let found = breaches(failing, summary)
          #expect(found == [], "\(side) \(device) \(failure)")
          if operation == .stopCopySize {
            #expect(summary.isVerified)
          } else if case .device(device, let error) = Self.outcome(side, summary)?.fault {
            #expect(error.errno == errno)
          } else {
            Issue.record("\(side) \(device) \(failure): \(summary)")
          }
          #expect(summary.source?.devices.allSatisfy { !$0.wasReset } == true)
        }
      }
    }
  }

  @Test("after a failed request the reading of the state fails too: nothing is guessed")
  func readings() {
    var scenario = Self.scenario([.full, .full])
    // Then nobody is asked where it is before something has failed.
    scenario.save.quiescing.vcpusAreStopped = true
    scenario.load.quiescing.vcpusAreStopped = true
    for (side, device, count) in Self.uses(.anyArc, in: scenario) {
      for use in 0..<count {
        for readings in 1...3 {
          for resetAllowed in [false, true] {
            var failing = Self.adding(
              ScriptedFailure(.anyArc, use: use + 1, .fails(.inputOutput, .unchanged)), side, device, to: scenario)
            for reading in 0..<readings {
              let failure = ScriptedFailure(.readState, use: reading + 1, .fails(.inputOutput, .unchanged))
              failing = Self.adding(failure, side, device, to: failing)
            }
            failing.save.resetAllowed = resetAllowed
            failing.load.resetAllowed = resetAllowed
            let (_, summary) = run(failing)
            #expect(breaches(failing, summary) == [], "\(side) \(device) \(use) \(readings)")
            // On the way to the stop one more question is asked before anything goes back.
            if side == .source, use < 3, readings == 1 {
              #expect(summary.source?.devices[device] == summary.source?.devices[1 - device].renamed("device\(device)"))
            }
            guard case .device(device, let error) = Self.outcome(side, summary)?.fault, error.errno == .inputOutput,
              case .setState = error.operation
            else {
              Issue.record("\(summary)")
              continue
            }
          }
        }
      }
    }
  }

  @Test("a reset that fails is reported, and the device stays where it is")
  func resets() {
    var scenario = Self.scenario([.full, .full])
    scenario.save.resetAllowed = true
    scenario.load.resetAllowed = true
    for (side, device, count) in Self.uses(.anyArc, in: scenario) {
      for use in 0..<count {
        var failing = Self.adding(
          ScriptedFailure(.anyArc, use: use + 1, .fails(.inputOutput, .at(.error))), side, device, to: scenario)
        failing = Self.adding(ScriptedFailure(.reset, use: 1, .fails(.busy, .unchanged)), side, device, to: failing)
        let (_, summary) = run(failing)
        #expect(breaches(failing, summary) == [], "\(side) \(device) \(use)")
        let outcome = Self.outcome(side, summary)
        #expect(outcome?.devices[device].state == .error)
        #expect(outcome?.cleanupFaults.contains(.device(device, DeviceError(.reset, .errno(.busy)))) == true)
      }
    }
  }

  @Test("a truncated image is refused by a careful device, and the stream's end stands in for a careless one")
  func carelessDevice() {
    for verifies in [false, true] {
      var scenario = Self.scenario([.full, .full])
      scenario.destination[0].verifiesImage = verifies
      scenario.link.breaksAfter = run(scenario).summary.streamBytes - 60
      let (world, summary) = run(scenario)
      #expect(breaches(scenario, summary) == [])
      #expect(world.devices(of: .destination).allSatisfy { $0.loadedDigest == nil })
      #expect(summary.destination?.devices.allSatisfy { $0.wasReset } == true)
    }
  }
}

extension DeviceOutcome {
  func renamed(_ name: String) -> DeviceOutcome {
    var other = self
    other.name = name
    return other
  }
}
