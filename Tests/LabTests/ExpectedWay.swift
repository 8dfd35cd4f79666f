// SPDX-License-Identifier: Apache-2.0
import Migration

/// The way of a group through a session, worked out from its plan and each device's graph before anything is touched.
struct ExpectedWay {
  struct Arc: Hashable {
    let device: Int
    let from: MigrationState
    let to: MigrationState
  }

  struct Step {
    let step: GroupStep
    let arcs: [Arc]
    /// Where every device is at its end.
    let states: [MigrationState]
  }

  private(set) var steps: [Step] = []
  private let graphs: [StateGraph]
  private var states: [MigrationState]

  private init(_ plan: QuiescePlan) {
    graphs = plan.devices.map { StateGraph(features: $0.features) }
    states = plan.devices.map { _ in .running }
  }

  private mutating func walk(_ step: GroupStep, _ target: (Int, MigrationState) -> MigrationState?) {
    var arcs: [Arc] = []
    for device in states.indices {
      guard let target = target(device, states[device]) else { continue }
      for next in graphs[device].path(from: states[device], to: target) ?? [] {
        arcs.append(Arc(device: device, from: states[device], to: next))
        states[device] = next
      }
    }
    if !arcs.isEmpty { steps.append(Step(step: step, arcs: arcs, states: states)) }
  }

  private mutating func stopAndStart(_ plan: QuiescePlan, goal: MigrationState) {
    for step in plan.stopSteps {
      walk(.stop(step)) { plan.target(step, device: $0, from: $1, goal: goal) }
    }
    for step in plan.startSteps {
      walk(.start(step)) { plan.target(step, device: $0, from: $1, goal: .running) }
    }
  }

  /// From running through a save, with pre-copy where there is any, and back.
  static func save(_ plan: QuiescePlan) -> ExpectedWay {
    var way = ExpectedWay(plan)
    way.walk(.enterPreCopy) { device, _ in plan.devices[device].features.contains(.preCopy) ? .preCopy : nil }
    way.stopAndStart(plan, goal: .stopCopy)
    return way
  }

  /// From running through a load, and back.
  static func load(_ plan: QuiescePlan) -> ExpectedWay {
    var way = ExpectedWay(plan)
    way.stopAndStart(plan, goal: .resuming)
    return way
  }

  /// Every arc, with the step that it belongs to.
  var arcs: [(step: Step, arc: Arc)] { steps.flatMap { step in step.arcs.map { (step, $0) } } }
}
