// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

/// The plan held against the model of `QuiesceModel.swift`, for all groups of up to four devices.
@Suite("The quiesce plan against a model of devices and writes")
struct QuiesceModelTests {
  typealias Group = ModelGroup

  /// How many relations over k devices have no circle (OEIS A003024), counted by others.
  static let withoutCircle = [1, 1, 3, 25, 543]

  @Test(
    "no accepted group of up to four devices has a write that lands at a stopped device, there or back",
    arguments: [1, 2, 3, 4], MigrationFeatures.definedCombinations)
  func accepted(count: Int, first: MigrationFeatures) {
    var findings = Findings()
    var judge = PairJudge()
    var accepted = 0
    var expected = 0
    for flags in Group.flags(count: count) where flags[0] == first {
      let without = flags.count { !$0.contains(.p2p) }
      expected += Self.withoutCircle[without] << (count * (count - 1) - without * (without - 1))
      Group.forEach(flags) { relation, result in
        guard case .success(let plan) = result else { return }
        accepted += 1
        for (index, pair) in Group.pairs(count).enumerated() where relation & 1 << index != 0 {
          if !judge.holds(plan, from: pair.from, to: pair.to) {
            findings.add(flags, relation, "\(pair.from) can write to a stopped \(pair.to)")
          }
        }
      }
    }
    #expect(accepted == expected)
    #expect(findings.count == 0, "\(findings.first)")
  }

  @Test(
    "a group of up to four devices is refused exactly where each order of stopping has its counterexample",
    arguments: [1, 2, 3, 4], MigrationFeatures.definedCombinations)
  func refused(count: Int, first: MigrationFeatures) {
    var findings = Findings()
    var search = ScheduleSearch(count: 2)
    let all = (1 << Group.pairs(count).count) - 1
    for flags in Group.flags(count: count) where flags[0] == first {
      // For each order the pairs of which a write can go wrong, were they linked.
      let orders = StopInRounds.orders(count: flags.count { !$0.contains(.p2p) })
      let wrong = orders.map { order in
        let schedule = StopInRounds.schedule(flags, order: order, from: Group.running(flags))
        return search.byPairs(schedule, relation: all)
      }
      Group.forEach(flags) { relation, result in
        let isPossible = wrong.contains { $0 & relation == 0 }
        let isAccepted = if case .success = result { true } else { false }
        if isAccepted != isPossible {
          findings.add(flags, relation, "accepted is \(isAccepted)")
        }
      }
    }
    #expect(findings.count == 0, "\(findings.first)")
  }

  @Test(
    "a refusal names a circle of devices without P2P states, and no shorter one exists",
    arguments: [2, 3, 4], MigrationFeatures.definedCombinations)
  func circles(count: Int, first: MigrationFeatures) {
    var findings = Findings()
    for flags in Group.flags(count: count) where flags[0] == first {
      Group.forEach(flags) { relation, result in
        guard case .failure(let refusal) = result else { return }
        if !isShortestCircle(refusal.cycle, flags, relation) {
          findings.add(flags, relation, "\(refusal.cycle) is no shortest circle")
        }
        // What is said does not depend on who has pre-copy.
        if !flags.contains(where: { $0.contains(.preCopy) }), !isWellSaid(refusal) {
          findings.add(flags, relation, "\(refusal)")
        }
      }
    }
    #expect(findings.count == 0, "\(findings.first)")
  }

  func isShortestCircle(_ cycle: [Int], _ flags: [MigrationFeatures], _ relation: Int) -> Bool {
    // For each device without P2P states, those of them that it reaches, in bits.
    var reaches = flags.map { _ in 0 }
    for (index, pair) in Group.pairs(flags.count).enumerated() where relation & 1 << index != 0 {
      if !flags[pair.from].contains(.p2p), !flags[pair.to].contains(.p2p) { reaches[pair.from] |= 1 << pair.to }
    }
    guard !cycle.isEmpty, Set(cycle).count == cycle.count else { return false }
    for index in cycle.indices where reaches[cycle[index]] & 1 << cycle[(index + 1) % cycle.count] == 0 { return false }
    // In fewer links than the circle has nobody gets back to where the links began.
    for first in flags.indices {
      var reached = 1 << first
      for _ in 1..<cycle.count {
        var next = 0
        for device in flags.indices where reached & 1 << device != 0 { next |= reaches[device] }
        reached = next
        if reached & 1 << first != 0 { return false }
      }
    }
    return true
  }

  func isWellSaid(_ refusal: QuiesceRefusal) -> Bool {
    let said = refusal.description
    return !said.contains("\n") && refusal.links.count == refusal.cycle.count
      && refusal.cycle.indices.allSatisfy { index in
        let (from, to) = (
          Group.names[refusal.cycle[index]], Group.names[refusal.cycle[(index + 1) % refusal.cycle.count]]
        )
        let link = refusal.links[index]
        return link.from == from && link.to == to && said.contains("\(from) can start transfers to \(to) (direct at s")
      }
  }

  @Test("all interleavings of all devices at once show what the pairs show: on every plan for up to three devices")
  func wholePlans() {
    var findings = Findings()
    for count in 1...3 {
      var whole = ScheduleSearch(count: count)
      for flags in Group.flags(count: count) {
        Group.forEach(flags) { relation, result in
          guard case .success(let plan) = result else { return }
          for found in Set([Group.running(flags), Group.preCopy(flags)]) {
            for goal in [MigrationState.stopCopy, .resuming, .stop] {
              let there = Schedule.stop(plan, from: found, goal: goal)
              let back = Schedule.start(plan, from: there.steps.last!.map(\.end), goal: .running)
              let stopped = whole.run(there, relation: relation)
              let started = whole.run(back, relation: relation, flights: stopped.flights)
              if stopped.violated | started.violated != 0 || back.steps.last!.contains(where: { $0.end != .running }) {
                findings.add(flags, relation, "from \(found) to \(goal)")
              }
            }
          }
        }
      }
    }
    #expect(findings.count == 0, "\(findings.first)")
  }

  @Test("all interleavings of all devices at once show what the pairs show: on every order, right or wrong")
  func wholeOrders() {
    var findings = Findings()
    var violated = 0
    for count in 2...3 {
      var whole = ScheduleSearch(count: count)
      var pairs = ScheduleSearch(count: 2)
      for flags in Group.flags(count: count) where !flags.contains([.stopCopy]) && !flags.contains([.stopCopy, .p2p]) {
        for order in StopInRounds.orders(count: flags.count { !$0.contains(.p2p) }) {
          let right = StopInRounds.schedule(flags, order: order, from: Group.preCopy(flags))
          for schedule in [right] + right.steps.indices.dropLast().map({ right.withoutBarrier(after: $0) }) {
            for relation in OrderedPairs(count: count).relations {
              let found = whole.run(schedule, relation: relation).violated
              violated += found == 0 ? 0 : 1
              if found != pairs.byPairs(schedule, relation: relation) {
                findings.add(flags, relation, "order \(order)")
              }
            }
          }
        }
      }
    }
    #expect(violated > 1000)
    #expect(findings.count == 0, "\(findings.first)")
  }

  @Test("the counterexample of each order of each refused group of up to three devices can be played")
  func traces() {
    var findings = Findings()
    for count in 2...3 {
      for flags in Group.flags(count: count) where !flags.contains(where: { $0.contains(.preCopy) }) {
        let orders = StopInRounds.orders(count: flags.count { !$0.contains(.p2p) })
        let schedules = orders.map { StopInRounds.schedule(flags, order: $0, from: Group.running(flags)) }
        Group.forEach(flags) { relation, result in
          guard case .failure = result else { return }
          for schedule in schedules where QuiesceTrace(schedule, relation: relation)?.isReal != true {
            findings.add(flags, relation)
          }
        }
      }
    }
    #expect(findings.count == 0, "\(findings.first)")
  }
}
