// SPDX-License-Identifier: Apache-2.0
import Migration
import Simulation
import Testing

/// Several things go wrong at once. A failure is a seed that replays.
@Suite("Faults by the dozen")
struct RandomFaultTests {
  static func scenario(seed: UInt64) -> Scenario {
    var numbers = SeededGenerator(seed: seed)
    let count = 1 + numbers.next(below: 4)
    let withoutP2P = (0..<count).map { _ in numbers.next(below: 3) == 0 }
    var devices: [SimulatedDevice.Configuration] = []
    for index in 0..<count {
      var features: MigrationFeatures = numbers.next(below: 3) == 0 ? [.stopCopy] : [.stopCopy, .preCopy]
      if !withoutP2P[index] { features.insert(.p2p) }
      let states: [MigrationState] =
        features.contains(.p2p) ? [.running, .running, .runningP2P, .stop] : [.running, .stop]
      var device = smallDevice(index, features, state: states[numbers.next(below: states.count)], bytes: 512)
      device.offersOnInfoOnly = numbers.next(below: 2) == 0
      device.arcMicroseconds = UInt64(50 + numbers.next(below: 300))
      device.callMicroseconds = UInt64(1 + numbers.next(below: 20))
      device.readBytesPerMicrosecond = UInt64(1 + numbers.next(below: 30))
      devices.append(device)
    }
    var scenario = smallMove(devices)
    for index in 0..<count {
      let states: [MigrationState] =
        devices[index].features.contains(.p2p) ? [.running, .runningP2P, .stop] : [.running, .stop]
      scenario.destination[index].initialState = states[numbers.next(below: states.count)]
      scenario.destination[index].isInUse = numbers.next(below: 2) == 0
    }
    // Among devices without P2P states no circle: a device writes to later ones only.
    let ranks = (0..<count).map { _ in numbers.next(below: 100) }
    var links: [[Bool]] = []
    for from in 0..<count {
      links.append(
        (0..<count).map { to in
          numbers.next(below: 3) != 0 && !(withoutP2P[from] && withoutP2P[to] && ranks[from] >= ranks[to])
        })
    }
    scenario.reachability = Reachability(count: count) { from, to in
      Reachability.Link(path: links[from][to] ? .unknown : .none, reason: "drawn by lot", origin: .assumed)
    }
    scenario.vcpuStopMicroseconds = UInt64(numbers.next(below: 400))
    scenario.save.quiescing.flushes = numbers.next(below: 3) == 0
    scenario.load.quiescing.flushes = numbers.next(below: 3) == 0
    scenario.save.keepStopped = numbers.next(below: 2) == 0
    scenario.save.resetAllowed = numbers.next(below: 2) == 0
    scenario.load.resetAllowed = numbers.next(below: 2) == 0
    scenario.load.keepStopped = numbers.next(below: 4) == 0
    scenario.link.isTwoWay = numbers.next(below: 2) == 0
    scenario.save.buffers = 1 + numbers.next(below: 5)
    scenario.load.buffers = 1 + numbers.next(below: 5)
    for _ in 0..<(1 + numbers.next(below: 4)) { addFault(&scenario, &numbers) }
    return scenario
  }

  static func addFault(_ scenario: inout Scenario, _ numbers: inout SeededGenerator) {
    let device = numbers.next(below: scenario.source.count)
    let side = SimulatedSide.allCases[numbers.next(below: 2)]
    let graph = StateGraph(features: scenario.source[device].features)
    switch numbers.next(below: 13) {
    case 12:
      let time = MonotonicTime(microseconds: UInt64(numbers.next(below: 4000)))
      scenario.deaths.append(.init(side, device: device, time: time))
    case 0:
      let time = MonotonicTime(microseconds: UInt64(numbers.next(below: 2500)))
      scenario.guestResets.append(.init(device: device, time: time))
    case 1: scenario.interrupts.append(.init(side, .beforeEvent(1 + numbers.next(below: 60))))
    case 2: scenario.link.breaksAfter = UInt64(numbers.next(below: 4000))
    default:
      let operations: [(ScriptedFailure.Operation, Int)] = [
        (.anyArc, 8), (.arc(to: graph.states[numbers.next(below: graph.states.count)]), 2), (.readState, 3),
        (.reset, 2),
        (.flush, 4), (.read, 8), (.write, 8), (.preCopyInfo, 5), (.stopCopySize, 1),
      ]
      let (operation, uses) = operations[numbers.next(below: operations.count)]
      let errno = FailureTests.errnos[numbers.next(below: FailureTests.errnos.count)]
      var place = ScriptedFailure.Place.unchanged
      if case .arc(let target) = operation, target != .error {
        place = [.unchanged, .at(target), .at(.error)][numbers.next(below: 3)]
      }
      if operation == .anyArc, numbers.next(below: 3) == 0 { place = .at(.error) }
      let effect: ScriptedFailure.Effect =
        numbers.next(below: 6) == 0
        ? .hangs(microseconds: numbers.next(below: 2) == 0 ? nil : 150_000) : .fails(errno, place)
      let failure = ScriptedFailure(operation, use: 1 + numbers.next(below: uses), effect)
      scenario = FailureTests.adding(failure, side, device, to: scenario)
      if case .hangs = effect {
        // Somebody watches and, in the end, gives up.
        for side in SimulatedSide.allCases {
          scenario.interrupts += [.init(side, .onHang), .init(side, .onHang)]
          for time in 1...4 {
            scenario.interrupts.append(.init(side, .at(MonotonicTime(microseconds: UInt64(time) * 2_000_000))))
          }
        }
      }
    }
  }

  @Test("whatever goes wrong, the outcome is defined and says where every device is", arguments: 0..<30)
  func anything(part: Int) {
    for seed in (part * 100)..<(part * 100 + 100) {
      let scenario = Self.scenario(seed: UInt64(seed))
      let (_, summary) = run(scenario)
      let found = breaches(scenario, summary, stubborn: true)
      #expect(found == [], "seed \(seed)")
    }
  }
}
