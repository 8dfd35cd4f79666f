// SPDX-License-Identifier: Apache-2.0
import Migration
import Simulation
import Testing

/// Groups with devices that have no P2P states, in every order that links allow.
@Suite("Mixed groups")
struct MixedGroupTests {
  /// Devices by their features, and the links between them; all other pairs have none.
  struct Group: CustomTestStringConvertible {
    let name: String
    let features: [MigrationFeatures]
    let links: [[Int]]
    var testDescription: String { name }

    var reachability: Reachability {
      Reachability(count: features.count) { from, to in
        let exists = links.contains([from, to])
        return Reachability.Link(path: exists ? .direct(at: "a switch") : .none, reason: "a test", origin: .observed)
      }
    }

    var scenario: Scenario {
      var scenario = FailureTests.scenario(features)
      scenario.reachability = reachability
      return scenario
    }
  }

  static let groups = [
    Group(
      name: "two without P2P, one writes to the other",
      features: [[.stopCopy, .preCopy], [.stopCopy], .full], links: [[0, 1], [0, 2], [1, 2], [2, 0], [2, 1]]),
    Group(
      name: "two without P2P that know only a third", features: [[.stopCopy], .full, [.stopCopy, .preCopy]],
      links: [[0, 1], [1, 0], [1, 2], [2, 1]]),
    Group(
      name: "a chain of three without P2P, named backwards",
      features: [[.stopCopy], [.stopCopy, .preCopy], [.stopCopy, .preCopy], [.stopCopy, .p2p]],
      links: [[2, 1], [1, 0], [3, 0], [0, 3], [3, 2], [2, 3]]),
  ]

  /// The states that a side's devices entered, in order.
  private static func arcs(_ world: SimulatedWorld, _ side: SimulatedSide) -> [ArcReport] {
    world.notes.compactMap { timed in
      guard timed.side == side, case .arc(let arc) = timed.note else { return nil }
      return arc
    }
  }

  @Test("an initiator without P2P states stops before its target, and starts after it", arguments: groups)
  func order(group: Group) {
    let scenario = group.scenario
    let (world, summary) = run(scenario)
    #expect(breaches(scenario, summary) == [])
    #expect(summary.isVerified)
    let others = group.features.indices.filter { !group.features[$0].contains(.p2p) }
    for side in SimulatedSide.allCases {
      let arcs = Self.arcs(world, side)
      for link in group.links where others.contains(link[0]) && others.contains(link[1]) {
        func stops(_ device: Int) -> ArcReport? {
          arcs.first { $0.device == device && $0.from?.mayWriteMemory == true && !$0.to.mayWriteMemory }
        }
        func starts(_ device: Int) -> ArcReport? {
          arcs.last { $0.device == device && $0.from == .stop && $0.to == .running }
        }
        if let initiator = stops(link[0]), let target = stops(link[1]) {
          #expect(initiator.times.ended <= target.times.began, "\(side)")
        } else {
          Issue.record("\(side): \(link) did not both stop")
        }
        if let initiator = starts(link[0]), let target = starts(link[1]) {
          #expect(target.times.ended <= initiator.times.began, "\(side)")
        } else {
          Issue.record("\(side): \(link) did not both start")
        }
      }
    }
  }

  @Test("each arc of each device may fail: the others go back in order", arguments: groups)
  func failures(group: Group) {
    let scenario = group.scenario
    for target in MigrationState.allCases {
      for (side, device, count) in FailureTests.uses(.arc(to: target), in: scenario) {
        for use in 0..<count {
          for place in FailureTests.places(target) {
            let failure = ScriptedFailure(.arc(to: target), use: use + 1, .fails(.inputOutput, place))
            var failing = FailureTests.adding(failure, side, device, to: scenario)
            failing.save.resetAllowed = use % 2 == 0
            failing.load.resetAllowed = use % 2 == 0
            let (_, summary) = run(failing)
            #expect(breaches(failing, summary) == [], "\(side) \(device) \(failure)")
            let error = DeviceError(.setState(target), .errno(.inputOutput))
            #expect(FailureTests.outcome(side, summary)?.fault == .device(device, error))
          }
        }
      }
    }
  }

  @Test("each call of each device may hang, and be given up: the others go back in order", arguments: groups)
  func hangs(group: Group) {
    let scenario = group.scenario
    for (side, device, count) in FailureTests.uses(.anyArc, in: scenario) {
      for use in 0..<count {
        let failure = ScriptedFailure(.anyArc, use: use + 1, .hangs(microseconds: nil))
        var hanging = FailureTests.adding(failure, side, device, to: scenario)
        hanging.interrupts = [Scenario.Interrupt(side, .onHang), Scenario.Interrupt(side, .onHang)]
        let (_, summary) = run(hanging)
        #expect(breaches(hanging, summary) == [], "\(side) \(device) \(failure)")
        #expect(FailureTests.outcome(side, summary)?.devices[device].isHung == true)
      }
    }
  }

  @Test("a flush that fails takes the group back", arguments: groups)
  func flushes(group: Group) {
    var scenario = group.scenario
    scenario.save.quiescing.flushes = true
    scenario.load.quiescing.flushes = true
    var flushes = 0
    for (side, device, count) in FailureTests.uses(.flush, in: scenario) {
      for use in 0..<count {
        flushes += 1
        let failure = ScriptedFailure(.flush, use: use + 1, .fails(.inputOutput, .unchanged))
        let failing = FailureTests.adding(failure, side, device, to: scenario)
        let (_, summary) = run(failing)
        #expect(breaches(failing, summary) == [], "\(side) \(device) \(failure)")
        let error = DeviceError(.flush, .errno(.inputOutput))
        #expect(FailureTests.outcome(side, summary)?.fault == .device(device, error))
      }
    }
    // Two rounds after each step but the last, on both sides.
    let rounds = group.features.count * 2 * 2
    #expect(flushes >= 2 * rounds)
  }
}
