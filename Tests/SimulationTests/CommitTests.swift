// SPDX-License-Identifier: Apache-2.0
import Migration
import Simulation
import Testing

/// Source and destination agree on who runs: at most one side at any time, and never neither without a report.
@Suite("Who runs")
struct CommitTests {
  static let groups: [[MigrationFeatures]] = [[.full], [.full, [.stopCopy, .preCopy]]]

  static func scenario(_ features: [MigrationFeatures]) -> Scenario {
    var scenario = smallMove(features.enumerated().map { smallDevice($0, $1, bytes: 512) })
    scenario.commits = true
    return scenario
  }

  /// Whether a side's devices all run, with what they had: the guest's VM is alive there.
  static func runs(_ world: SimulatedWorld, _ side: SimulatedSide) -> Bool {
    guard !world.isKilled[side.rawValue] else { return false }
    return world.devices(of: side).allSatisfy { device in
      device.state == .running && device.isInUse && (side == .source || device.loadedDigest != nil)
    }
  }

  /// What must hold, whatever happened.
  static func check(_ world: SimulatedWorld, _ summary: SimulationSummary, _ what: String) {
    #expect(summary.violations == [], "\(what)")
    let here = runs(world, .source)
    let there = runs(world, .destination)
    #expect(!(here && there), "\(what)")
    if !here && !there {
      // Somebody was killed, or somebody says that something is wrong.
      let isReported = summary.source?.fault != nil || summary.destination?.fault != nil
      #expect(world.isKilled.contains(true) || isReported, "\(what): nobody runs, and nobody says so")
    }
    // The source lets nothing run that it has let go of.
    if let source = summary.source, source.commitment != .none { #expect(!here, "\(what)") }
    // A source that says nothing of a fault has been answered.
    if let source = summary.source, source.fault == nil {
      #expect(source.commitment == .complete && (there || world.isKilled[1]), "\(what)")
    }
    // What the destination runs it was given.
    if there { #expect(summary.source == nil || summary.source?.commitment != Commitment.none, "\(what)") }
  }

  @Test("a good move ends with the destination running, the source stopped, and both agreed", arguments: groups)
  func good(features: [MigrationFeatures]) {
    let scenario = Self.scenario(features)
    let (world, summary) = run(scenario)
    Self.check(world, summary, "a good move")
    #expect(summary.isVerified)
    #expect(summary.source?.commitment == .complete && summary.destination?.commitment == .complete)
    #expect(summary.source?.devices.allSatisfy { $0.state == .stop } == true)
    #expect(summary.destination?.devices.allSatisfy { $0.state == .running } == true)
  }

  @Test("either side's process may be killed before any of its events", arguments: groups)
  func kills(features: [MigrationFeatures]) {
    let scenario = Self.scenario(features)
    let (good, _) = run(scenario)
    for side in SimulatedSide.allCases {
      var survived = 0
      for number in 1...good.sessionEventCount(of: side) {
        var killed = scenario
        killed.kills = [Scenario.Interrupt(side, .beforeEvent(number))]
        let (world, summary) = run(killed)
        Self.check(world, summary, "\(side) killed before event \(number)")
        if Self.runs(world, side.other) { survived += 1 }
      }
      // The source goes on when the destination dies early; the destination, when the source dies late.
      #expect(survived > 0)
    }
  }

  @Test("the connection may break at any time", arguments: groups)
  func breaks(features: [MigrationFeatures]) {
    let scenario = Self.scenario(features)
    let end = run(scenario).summary.totalMicroseconds
    var unanswered = 0
    for time in stride(from: 0, through: end, by: 5) {
      var broken = scenario
      broken.link.breaksAt = MonotonicTime(microseconds: time)
      let (world, summary) = run(broken)
      Self.check(world, summary, "broken at \(time)")
      if summary.source?.commitment == .unanswered { unanswered += 1 }
    }
    #expect(unanswered > 0)
  }

  @Test("either side may be interrupted before any of its events", arguments: groups)
  func interrupts(features: [MigrationFeatures]) {
    let scenario = Self.scenario(features)
    let (good, _) = run(scenario)
    for side in SimulatedSide.allCases {
      for number in 1...good.sessionEventCount(of: side) {
        var interrupted = scenario
        interrupted.interrupts = [Scenario.Interrupt(side, .beforeEvent(number))]
        let (world, summary) = run(interrupted)
        Self.check(world, summary, "\(side) interrupted before event \(number)")
      }
    }
  }

  @Test("each arc of each device may fail, on either side", arguments: groups)
  func failures(features: [MigrationFeatures]) {
    let scenario = Self.scenario(features)
    for (side, device, count) in FailureTests.uses(.anyArc, in: scenario) {
      for use in 0..<count {
        for place in [ScriptedFailure.Place.unchanged, .at(.error)] {
          let failure = ScriptedFailure(.anyArc, use: use + 1, .fails(.inputOutput, place))
          let failing = FailureTests.adding(failure, side, device, to: scenario)
          let (world, summary) = run(failing)
          Self.check(world, summary, "\(side) \(device) \(failure)")
        }
      }
    }
  }

  @Test("several things go wrong at once", arguments: 0..<20)
  func anything(part: Int) {
    for seed in (part * 100)..<(part * 100 + 100) {
      var scenario = RandomFaultTests.scenario(seed: UInt64(seed))
      scenario.commits = true
      scenario.link.isTwoWay = true
      scenario.load.keepStopped = false
      for index in scenario.source.indices {
        scenario.source[index].initialState = .running
        scenario.destination[index].initialState = .running
      }
      var numbers = SeededGenerator(seed: UInt64(seed) &+ 77)
      if numbers.next(below: 3) == 0 {
        scenario.kills.append(
          .init(SimulatedSide.allCases[numbers.next(below: 2)], .beforeEvent(1 + numbers.next(below: 80))))
      }
      if numbers.next(below: 3) == 0 {
        scenario.link.breaksAt = MonotonicTime(microseconds: UInt64(numbers.next(below: 4000)))
      }
      let (world, summary) = run(scenario)
      #expect(summary.violations == [], "seed \(seed)")
      #expect(!(Self.runs(world, .source) && Self.runs(world, .destination)), "seed \(seed)")
    }
  }
}
