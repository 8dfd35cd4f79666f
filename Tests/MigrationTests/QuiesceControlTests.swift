// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

/// What the model must find: plans that were made wrong on purpose, and assumptions that do not hold.
@Suite("The model finds what is wrong")
struct QuiesceControlTests {
  typealias Group = ModelGroup
  static let with: MigrationFeatures = [.stopCopy, .p2p]
  static let without: MigrationFeatures = [.stopCopy]

  /// A plan with one link "ab", and the ways that it tells.
  struct Ways {
    let there: Schedule
    let back: Schedule

    init(_ a: MigrationFeatures, _ b: MigrationFeatures, goal: MigrationState = .stopCopy) throws {
      let plan = try Group.plan([a, b], ["ab"])
      there = Schedule.stop(plan, from: [.running, .running], goal: goal)
      back = Schedule.start(plan, from: there.steps.last!.map(\.end), goal: .running)
    }
  }

  /// Whether the model has something against it, with the counterexample played.
  func isWrong(_ schedule: Schedule) -> Bool {
    var search = ScheduleSearch(count: 2)
    let isWrong = search.run(schedule, relation: Group.relation(["ab"], count: 2)).violated != 0
    let trace = QuiesceTrace(schedule, relation: Group.relation(["ab"], count: 2))
    #expect((trace != nil) == isWrong)
    if let trace { #expect(trace.isReal, "\(trace)") }
    return isWrong
  }

  @Test("a device stops before those that write to it have entered their P2P state")
  func stopsTooEarly() throws {
    let ways = try Ways(Self.with, Self.without)
    #expect(!isWrong(ways.there))
    #expect(isWrong(ways.there.swapped(0)))
  }

  @Test("a device with P2P states stops before those without that write to it")
  func stopsBeforeOthers() throws {
    let ways = try Ways(Self.without, Self.with, goal: .stop)
    #expect(!isWrong(ways.there))
    #expect(isWrong(ways.there.swapped(1)))
  }

  @Test("levels are taken in the wrong order, there or back")
  func levelsReversed() throws {
    let ways = try Ways(Self.without, Self.without)
    #expect(!isWrong(ways.there))
    #expect(isWrong(ways.there.swapped(1)))
    #expect(!isWrong(ways.back))
    #expect(isWrong(ways.back.swapped(2)))
  }

  @Test("a device goes back to running in one request")
  func directRunning() throws {
    let ways = try Ways(Self.with, Self.with)
    #expect(!isWrong(ways.back))
    let direct = [MigrationState.stopCopy, .stopCopy].map { state in
      [KernelPaths.walk(Self.with, from: state, to: .running)]
    }
    #expect(isWrong(Schedule(devices: direct)))
  }

  @Test("every barrier is needed by some group, but the one after closing data sessions")
  func barriers() throws {
    var search = ScheduleSearch(count: 3)
    let links = ["ab", "bc"]
    let relation = Group.relation(links, count: 3)
    var needed: Set<QuiescePlan.StopStep> = []
    var neededBack: Set<QuiescePlan.StartStep> = []
    for flags in Group.flags(count: 3) where !flags.contains(where: { $0.contains(.preCopy) }) {
      let plan = try Group.plan(flags, links)
      let there = Schedule.stop(plan, from: Group.running(flags), goal: .stopCopy)
      let back = Schedule.start(plan, from: there.steps.last!.map(\.end), goal: .running)
      for step in plan.stopSteps.indices.dropLast()
      where search.run(there.withoutBarrier(after: step), relation: relation).violated != 0 {
        needed.insert(plan.stopSteps[step])
      }
      for step in plan.startSteps.indices.dropLast()
      where search.run(back.withoutBarrier(after: step), relation: relation).violated != 0 {
        neededBack.insert(plan.startSteps[step])
      }
    }
    #expect(needed == [.endPeerTransfers, .stopOthers(level: 0), .stopOthers(level: 1)])
    #expect(neededBack == [.answerPeers, .startOthers(level: 2), .startOthers(level: 1), .startOthers(level: 0)])
  }

  @Test("a driver that does not drain breaks every order")
  func noDraining() throws {
    for a in [Self.with, Self.without] {
      for b in [Self.with, Self.without] {
        var search = ScheduleSearch(count: 2, drivers: .forget)
        #expect(search.run(try Ways(a, b).there, relation: Group.relation(["ab"], count: 2)).violated != 0)
        var judge = PairJudge(drivers: .forget)
        #expect(!judge.holds(try Group.plan([a, b], ["ab"]), from: 0, to: 1))
      }
    }
  }

  @Test("a circle has its counterexample, in words")
  func circle() throws {
    let schedule = StopInRounds.schedule([Self.without, Self.without], order: [0, 1], from: [.running, .running])
    let trace = try #require(QuiesceTrace(schedule, relation: Group.relation(["ab", "ba"], count: 2)))
    #expect(trace.isReal)
    #expect(
      trace.description == """
        all have ended step 1
        a begins running->stop
        b starts a write to a
        the write of b lands at a
        """)
  }

  @Test("a counterexample that was tampered with can't be played")
  func tampered() throws {
    let schedule = StopInRounds.schedule([Self.without, Self.without], order: [0, 1], from: [.running, .running])
    let trace = try #require(QuiesceTrace(schedule, relation: Group.relation(["ab", "ba"], count: 2)))
    for index in trace.events.indices {
      var other = trace
      other.events.remove(at: index)
      #expect(!other.isReal, "without event \(index)")
    }
  }
}
