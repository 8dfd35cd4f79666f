// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@Suite("The steps of quiescing")
struct QuiescingTests {
  static let withP2P = StateGraph(features: [.stopCopy, .p2p, .preCopy])
  static let without = StateGraph(features: [.stopCopy, .preCopy])

  static func stops(_ graph: StateGraph, from start: MigrationState, goal: MigrationState) -> [MigrationState?] {
    var state = start
    return Quiescing.StopStep.allCases.map { step in
      let target = Quiescing.target(step, graph: graph, from: state, goal: goal)
      state = target ?? state
      return target
    }
  }

  static func starts(_ graph: StateGraph, from start: MigrationState, goal: MigrationState) -> [MigrationState?] {
    var state = start
    return Quiescing.StartStep.allCases.map { step in
      let target = Quiescing.target(step, graph: graph, from: state, goal: goal)
      state = target ?? state
      return target
    }
  }

  @Test("a device with P2P states enters one first and stops last")
  func stopWithP2P() {
    #expect(Self.stops(Self.withP2P, from: .running, goal: .stopCopy) == [.runningP2P, nil, .stopCopy])
    #expect(Self.stops(Self.withP2P, from: .preCopy, goal: .stopCopy) == [.preCopyP2P, nil, .stopCopy])
    #expect(Self.stops(Self.withP2P, from: .runningP2P, goal: .resuming) == [nil, nil, .resuming])
    #expect(Self.stops(Self.withP2P, from: .stop, goal: .stop) == [nil, nil, nil])
  }

  @Test("a device without P2P states stops in between, and keeps its data session where it has one")
  func stopWithout() {
    #expect(Self.stops(Self.without, from: .running, goal: .stopCopy) == [nil, .stop, .stopCopy])
    #expect(Self.stops(Self.without, from: .preCopy, goal: .stopCopy) == [nil, .stopCopy, nil])
    #expect(Self.stops(Self.without, from: .preCopy, goal: .resuming) == [nil, .stop, .resuming])
  }

  @Test("starting runs in reverse")
  func start() {
    #expect(Self.starts(Self.withP2P, from: .stopCopy, goal: .running) == [.stop, .runningP2P, nil, .running])
    #expect(Self.starts(Self.withP2P, from: .preCopyP2P, goal: .running) == [nil, .runningP2P, nil, .running])
    #expect(Self.starts(Self.withP2P, from: .stopCopy, goal: .runningP2P) == [.stop, .runningP2P, nil, nil])
    #expect(Self.starts(Self.withP2P, from: .stopCopy, goal: .stop) == [.stop, nil, nil, nil])
    #expect(Self.starts(Self.without, from: .resuming, goal: .running) == [.stop, nil, .running, nil])
    #expect(Self.starts(Self.without, from: .preCopy, goal: .running) == [nil, nil, .running, nil])
  }

  @Test("every step can be walked in every graph, from wherever a device may be")
  func alwaysPossible() {
    for features in MigrationFeatures.definedCombinations {
      let graph = StateGraph(features: features)
      for state in graph.states where state != .error && state != .resuming {
        for goal in [MigrationState.stop, .stopCopy, .resuming] {
          for step in Quiescing.StopStep.allCases where goal != .stop || !state.isSaving {
            guard let target = Quiescing.target(step, graph: graph, from: state, goal: goal) else { continue }
            #expect(graph.allows(from: state, to: target), "\(state) to \(target)")
          }
        }
        for goal in [MigrationState.stop, .running, .runningP2P] where graph.contains(goal) {
          for step in Quiescing.StartStep.allCases {
            guard let target = Quiescing.target(step, graph: graph, from: state, goal: goal) else { continue }
            #expect(graph.allows(from: state, to: target), "\(state) to \(target)")
          }
        }
      }
    }
  }

  @Test("one device without P2P states is taken into a group, two are refused, one alone is not a group")
  func refusals() {
    func device(_ name: String, _ features: MigrationFeatures) -> SessionDevice {
      SessionDevice(name: name, driver: "d", features: features, state: .running)
    }
    #expect(Quiescing.refusal(devices: [device("a", [.stopCopy])]) == nil)
    #expect(Quiescing.refusal(devices: [device("a", [.stopCopy]), device("b", [.stopCopy, .p2p])]) == nil)
    let refusal = Quiescing.refusal(devices: [device("a", [.stopCopy]), device("b", [.stopCopy, .preCopy])])
    #expect(refusal?.contains("a and b have no P2P states") == true)
  }
}
