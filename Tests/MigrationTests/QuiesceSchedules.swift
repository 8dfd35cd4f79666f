// SPDX-License-Identifier: Apache-2.0
import Migration

/// Who walks what in which step: `steps[step][device]`.
struct Schedule {
  var steps: [[Walk]]

  /// The walks of each device, put together.
  init(devices: [[Walk]]) {
    steps = (devices.first ?? []).indices.map { step in devices.map { $0[step] } }
  }

  /// A mutant: the barrier after a step is left out.
  func withoutBarrier(after step: Int) -> Schedule {
    var other = self
    other.steps[step] = zip(steps[step], steps[step + 1]).map { Walk(from: $0.from, arcs: $0.arcs + $1.arcs) }
    other.steps.remove(at: step + 1)
    return other
  }

  /// A mutant: a step changes places with the one after it. No device may have something to do in both.
  func swapped(_ step: Int) -> Schedule {
    var other = self
    for (device, (first, second)) in zip(steps[step], steps[step + 1]).enumerated() {
      precondition(first.arcs.isEmpty || second.arcs.isEmpty, "a device can't walk its second arc before its first")
      other.steps[step][device] = Walk(from: first.from, arcs: second.arcs)
      other.steps[step + 1][device] = Walk(from: other.steps[step][device].end, arcs: first.arcs)
    }
    return other
  }
}

/// The arcs that the kernel walks for a request, in each of the four graphs.
enum KernelPaths {
  private static let table: [[[MigrationState]?]] = MigrationFeatures.definedCombinations.map { features in
    let graph = StateGraph(features: features)
    return (0..<64).map { index in
      guard let from = MigrationState(rawValue: UInt32(index / 8)), let to = MigrationState(rawValue: UInt32(index % 8))
      else { return nil }
      return graph.path(from: from, to: to)
    }
  }

  /// Which of the four graphs a device has.
  static func graph(_ features: MigrationFeatures) -> Int { Int(features.rawValue >> 1) }

  /// The walk of a request; a request that the kernel refuses is a fault of the test or of the plan.
  static func walk(_ features: MigrationFeatures, from: MigrationState, to: MigrationState?) -> Walk {
    var walk = Walk(from: from)
    guard let to else { return walk }
    guard let path = table[graph(features)][Int(from.rawValue * 8 + to.rawValue)] else {
      preconditionFailure("the kernel refuses \(from) to \(to) for \(features.names)")
    }
    for state in path { walk.arcs.append(ModelArc(from: walk.end, to: state)) }
    return walk
  }
}

extension QuiescePlan {
  /// What a device walks in each step to a stop, as this plan tells it.
  func stopWalks(device: Int, from: MigrationState, goal: MigrationState) -> [Walk] {
    var state = from
    return stopSteps.map { step in
      let target = target(step, device: device, from: state, goal: goal)
      let walk = KernelPaths.walk(devices[device].features, from: state, to: target)
      state = walk.end
      return walk
    }
  }

  /// What a device walks in each step to running, as this plan tells it.
  /// - Parameter passesStop: it failed on an arc into STOP or STOP_COPY, so ``RecoveryLadder`` takes it through STOP
  ///   in the first step wherever it is.
  func startWalks(device: Int, from: MigrationState, goal: MigrationState, passesStop: Bool = false) -> [Walk] {
    var state = from
    return startSteps.map { step in
      var target = target(step, device: device, from: state, goal: goal)
      if passesStop, step == .leaveData { target = state == .stop ? nil : .stop }
      let walk = KernelPaths.walk(devices[device].features, from: state, to: target)
      state = walk.end
      return walk
    }
  }
}

extension Schedule {
  /// The way to a stop as a plan tells it.
  static func stop(_ plan: QuiescePlan, from states: [MigrationState], goal: MigrationState) -> Schedule {
    Schedule(devices: states.indices.map { plan.stopWalks(device: $0, from: states[$0], goal: goal) })
  }

  /// The way to running as a plan tells it.
  static func start(_ plan: QuiescePlan, from states: [MigrationState], goal: MigrationState) -> Schedule {
    Schedule(devices: states.indices.map { plan.startWalks(device: $0, from: states[$0], goal: goal) })
  }
}

/// A stop in an order that somebody thought of: the devices with P2P states first enter them and stop last, and each of
/// the others stops in its round. Nothing is more favourable to the others than that.
enum StopInRounds {
  private static func walks(
    _ features: MigrationFeatures, round: Int?, of rounds: Int, from: MigrationState
  ) -> [Walk] {
    var targets = [MigrationState?](repeating: nil, count: rounds + 2)
    if let round {
      targets[round + 1] = from == .preCopy ? .stopCopy : .stop
    } else {
      targets[0] = from == .preCopy ? .preCopyP2P : .runningP2P
    }
    targets[rounds + 1] = .stopCopy
    var state = from
    return targets.map { target in
      let walk = KernelPaths.walk(features, from: state, to: target == state ? nil : target)
      state = walk.end
      return walk
    }
  }

  /// The stop of a group whose devices without P2P states have these rounds, one after the other.
  static func schedule(_ flags: [MigrationFeatures], order: [Int], from states: [MigrationState]) -> Schedule {
    let rounds = (order.max() ?? -1) + 1
    var rest = order[...]
    return Schedule(
      devices: flags.indices.map { device in
        let round = flags[device].contains(.p2p) ? nil : rest.popFirst()
        return walks(flags[device], round: round, of: rounds, from: states[device])
      })
  }

  /// All ways to give `count` devices their rounds, with no round empty: the weak orders.
  static func orders(count: Int) -> [[Int]] {
    var orders: [[Int]] = [[]]
    for _ in 0..<count { orders = orders.flatMap { order in (0..<count).map { order + [$0] } } }
    return orders.filter { order in (0..<((order.max() ?? -1) + 1)).allSatisfy(order.contains) }
  }
}

/// Goes through schedules with the model, step by step, and remembers each kind of step that it has seen.
struct ScheduleSearch {
  struct Outcome {
    /// The pairs of which a write landed where it was not taken.
    var violated = 0
    /// What may be in flight at the end.
    var flights: UInt64 = 1
  }

  private struct Key: Hashable {
    var step: Int
    var flights: UInt64
  }

  let group: OrderedPairs
  private let drivers: StepSearch.Drivers
  private var motions: [Motion: Int] = [:]
  private var seen: [Key: Outcome] = [:]

  init(count: Int, drivers: StepSearch.Drivers = .drain) {
    group = OrderedPairs(count: count)
    self.drivers = drivers
  }

  /// Goes through one step.
  mutating func step(_ walks: [Walk], relation: Int, flights: UInt64) -> Outcome {
    step(walks.map(\.motion), relation: relation, flights: flights)
  }

  /// Goes through one step.
  mutating func step(_ walks: [Motion], relation: Int, flights: UInt64) -> Outcome {
    var key = Key(step: relation, flights: flights)
    for motion in walks {
      let number = motions[motion] ?? motions.count
      motions[motion] = number
      key.step = key.step << 8 | number
    }
    if let outcome = seen[key] { return outcome }
    let search = StepSearch(walks, of: group, relation: relation, flights: flights, drivers: drivers)
    let outcome = Outcome(violated: search.violated, flights: search.endings)
    seen[key] = outcome
    return outcome
  }

  /// Goes through a whole schedule.
  mutating func run(_ schedule: Schedule, relation: Int, flights: UInt64 = 1) -> Outcome {
    var whole = Outcome(flights: flights)
    for walks in schedule.steps {
      let outcome = step(walks, relation: relation, flights: whole.flights)
      whole.violated |= outcome.violated
      whole.flights = outcome.flights
    }
    return whole
  }

  /// The pairs that are violated when each is looked at alone, by a search for two, with no regard to other devices.
  mutating func byPairs(_ schedule: Schedule, relation: Int) -> Int {
    var violated = 0
    for (index, pair) in ModelGroup.pairs(schedule.steps.first?.count ?? 0).enumerated()
    where relation & 1 << index != 0 {
      var alone = schedule
      alone.steps = schedule.steps.map { [$0[pair.from], $0[pair.to]] }
      if run(alone, relation: 1).violated != 0 { violated |= 1 << index }
    }
    return violated
  }
}
