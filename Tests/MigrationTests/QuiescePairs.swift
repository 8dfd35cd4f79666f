// SPDX-License-Identifier: Apache-2.0
import Migration

/// Looks at two devices of a group alone, which is enough: a write concerns two devices, and of the others they notice
/// only that a barrier takes longer. `QuiesceModelTests` shows on all smaller groups that nothing is lost by it.
struct PairJudge {
  /// What is known after a step: where the two may be, and what may be in flight.
  private struct Moment: Hashable {
    var states: [MigrationState]
    /// Which of them failed on the way into STOP or STOP_COPY.
    var passesStop: [Bool]
    var goals: [MigrationState]
    var flights: UInt64
  }

  /// A walk that was broken off.
  private struct Cut {
    var walk: Walk
    var failedIntoStop: Bool
  }

  private var search: ScheduleSearch
  private var verdicts = [Int8](repeating: -1, count: 128 * 128)

  init(drivers: StepSearch.Drivers = .drain) { search = ScheduleSearch(count: 2, drivers: drivers) }

  /// Whether the model finds nothing wrong with writes from one device to another, remembered for all pairs that a plan
  /// treats alike. What a plan tells a device is taken to follow from its flags, its level and how many levels there
  /// are; the groups of up to three devices are asked about one by one.
  mutating func holds(_ plan: QuiescePlan, from: Int, to: Int) -> Bool {
    let index = Self.kind(plan, from) * 128 + Self.kind(plan, to)
    if verdicts[index] < 0 { verdicts[index] = judge(plan, from, to) ? 1 : 0 }
    return verdicts[index] == 1
  }

  private static func kind(_ plan: QuiescePlan, _ device: Int) -> Int {
    ((plan.levels[device] ?? -1) + 1) * 20 + plan.levelCount * 4 + KernelPaths.graph(plan.devices[device].features)
  }

  /// The states in which a device may be found.
  private static func found(_ features: MigrationFeatures) -> [MigrationState] {
    [.running, .preCopy, .runningP2P, .preCopyP2P, .stop].filter(StateGraph(features: features).contains)
  }

  /// From every state in which the two may be found, towards every goal, and back from wherever that may end.
  private mutating func judge(_ plan: QuiescePlan, _ from: Int, _ to: Int) -> Bool {
    var moments: Set<Moment> = []
    for first in Self.found(plan.devices[from].features) {
      for second in Self.found(plan.devices[to].features) {
        // A device that runs where its target is stopped was wrong before anything began.
        if ModelArc.starts(first), !ModelArc.takes(second) { continue }
        for goal in [MigrationState.stopCopy, .resuming, .stop] {
          let walks = [
            plan.stopWalks(device: from, from: first, goal: goal),
            plan.stopWalks(device: to, from: second, goal: goal),
          ]
          guard walks.allSatisfy({ $0.last?.end == goal }), stop(walks, &moments) else { return false }
        }
      }
    }
    for moment in moments {
      let walks = zip([from, to], moment.states.indices).map { device, index in
        plan.startWalks(
          device: device, from: moment.states[index], goal: moment.goals[index], passesStop: moment.passesStop[index])
      }
      let outcome = search.run(Schedule(devices: walks), relation: 1, flights: moment.flights)
      guard outcome.violated == 0, walks.map({ $0.last?.end }) == moment.goals else { return false }
    }
    return true
  }

  /// One way to a stop, and all moments in which the way back may begin: after each step, when any of the devices may
  /// have stayed anywhere on its walk.
  private mutating func stop(_ walks: [[Walk]], _ moments: inout Set<Moment>) -> Bool {
    var flights: UInt64 = 1
    let asFound = walks.map { $0[0].from.withoutPreCopy }
    for step in walks[0].indices {
      for first in Self.cuts(walks[0][step]) {
        for second in Self.cuts(walks[1][step]) {
          let outcome = search.step([first.walk, second.walk], relation: 1, flights: flights)
          if outcome.violated != 0 { return false }
          // A move that was done may leave its devices stopped.
          let isLast = step == walks[0].indices.last
          for goals in [asFound, [.running, .running]] + (isLast ? [[.stop, .stop]] : []) {
            moments.insert(
              Moment(
                states: [first.walk.end, second.walk.end],
                passesStop: [first.failedIntoStop, second.failedIntoStop], goals: goals, flights: outcome.flights))
          }
        }
      }
      flights = search.step(walks.map { $0[step] }, relation: 1, flights: flights).flights
    }
    return true
  }

  /// A walk to its end, and all ways in which it may break off: an arc is not begun, or fails.
  private static func cuts(_ walk: Walk) -> [Cut] {
    var cuts = [Cut(walk: walk, failedIntoStop: false)]
    for index in walk.arcs.indices {
      var cut = Walk(from: walk.from, arcs: Array(walk.arcs[..<index]))
      cuts.append(Cut(walk: cut, failedIntoStop: false))
      var failing = walk.arcs[index]
      failing.fails = true
      cut.arcs.append(failing)
      cuts.append(Cut(walk: cut, failedIntoStop: failing.to == .stop || failing.to == .stopCopy))
    }
    return cuts
  }
}
