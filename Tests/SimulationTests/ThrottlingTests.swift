// SPDX-License-Identifier: Apache-2.0
import Migration
import Simulation
import Testing

@Suite("A guest that outruns the link")
struct ThrottlingTests {
  private static func guest(
    _ seed: UInt64, throttles: Bool, lastResort: PreCopyConfiguration.LastResort = .giveUp
  ) -> Scenario {
    // Its vCPUs alone, which nothing limits, write slower than the link carries; its peers do not.
    var guest = MovingGuest(seed: seed, dirtyPerMille: 1600)
    if !throttles { guest.scenario.save.memory?.throttled = [] }
    guest.scenario.save.memory?.lastResort = lastResort
    guest.scenario.save.memory?.downtimeLimit = 30_000
    return guest.scenario
  }

  private static func limits(_ summary: SimulationSummary) -> [UInt64] {
    summary.decisions.compactMap { if case .throttle(let rate) = $0.verdict { rate } else { nil } }
  }

  @Test(
    "goes on running where it is, unless what comes in is limited: then it moves",
    arguments: 1...8 as ClosedRange<UInt64>)
  func converges(seed: UInt64) throws {
    let without = run(Self.guest(seed, throttles: false)).summary
    guard case .outrun(let decision) = without.source?.fault else {
      Issue.record("\(without.decisions.map(\.description))")
      return
    }
    #expect(decision.verdict == .giveUp)
    #expect(without.source?.devices.allSatisfy { $0.state == .running } == true)
    #expect(without.violations == [])
    let with = run(Self.guest(seed, throttles: true)).summary
    #expect(with.isVerified, "\(with.decisions.map(\.description))")
    let limits = Self.limits(with)
    #expect(!limits.isEmpty)
    // Step by step: each half of the one before.
    #expect(zip(limits, limits.dropFirst()).allSatisfy { $1 == $0 / 2 })
    #expect(with.decisions.last?.verdict == .stop)
  }

  @Test("is stopped for as long as it takes where the caller chose that", arguments: 1...4 as ClosedRange<UInt64>)
  func force(seed: UInt64) throws {
    let summary = run(Self.guest(seed, throttles: false, lastResort: .force)).summary
    #expect(summary.isVerified)
    let last = try #require(summary.decisions.last)
    #expect(last.verdict == .force)
    #expect(try #require(last.forecast.downtime) > last.limit)
    #expect(try #require(summary.downtimeMicroseconds) > last.limit)
  }

  /// Ways to end a move in its middle.
  enum End: CaseIterable {
    case killOfSource, killOfDestination, linkBreaks, interrupt, deviceFails, twoInterrupts
  }

  @Test("what comes in is not limited any more in the end, whatever the end is", arguments: End.allCases)
  func lifted(end: End) {
    var limited = 0
    for seed in 1...24 as ClosedRange<UInt64> {
      var scenario = Self.guest(seed, throttles: true)
      let whole = run(scenario).summary
      // Somewhere after the first limit, as often as the seeds allow.
      var numbers = SeededGenerator(seed: seed)
      let part = UInt64(300 + numbers.next(below: 700))
      let time = MonotonicTime(microseconds: whole.totalMicroseconds / 1000 * part)
      switch end {
      case .killOfSource: scenario.kills = [.init(.source, .at(time))]
      case .killOfDestination: scenario.kills = [.init(.destination, .at(time))]
      case .linkBreaks: scenario.link.breaksAt = time
      case .interrupt: scenario.interrupts = [.init(.source, .at(time))]
      case .twoInterrupts:
        scenario.interrupts = [.init(.source, .at(time)), .init(.source, .at(time.adding(microseconds: 10)))]
      case .deviceFails:
        scenario.source[0].failures = [
          ScriptedFailure(.arc(to: .stopCopy), use: 1, .fails(.inputOutput, .unchanged))
        ]
      }
      let summary = run(scenario).summary
      #expect(summary.violations == [], "seed \(seed)")
      if !Self.limits(summary).isEmpty { limited += 1 }
    }
    // Otherwise this would have shown nothing.
    #expect(limited >= 8, "\(limited) of 24 were limited when they ended")
  }

  /// What limiters do that fail.
  enum LimiterFault: CaseIterable {
    case firstLimit, secondLimit, liftOnce, liftAlways, slowLimit, slowLift, silentLimit, silentLift

    var failures: [ScriptedFailure] {
      let fails = ScriptedFailure.Effect.fails(.inputOutput, .unchanged)
      return switch self {
      case .firstLimit: [ScriptedFailure(.limit, use: 1, fails)]
      case .secondLimit: [ScriptedFailure(.limit, use: 2, fails)]
      case .liftOnce: [ScriptedFailure(.lift, use: 1, fails)]
      case .liftAlways: (1...9).map { ScriptedFailure(.lift, use: $0, fails) }
      case .slowLimit: [ScriptedFailure(.limit, use: 1, .hangs(microseconds: 400_000))]
      case .slowLift: [ScriptedFailure(.lift, use: 1, .hangs(microseconds: 400_000))]
      case .silentLimit: [ScriptedFailure(.limit, use: 1, .hangs(microseconds: nil))]
      case .silentLift: [ScriptedFailure(.lift, use: 1, .hangs(microseconds: nil))]
      }
    }
    /// Whether the limit stays, and has to be said to.
    var leavesLimit: Bool { self == .liftAlways || isSilent }
    var isSilent: Bool { self == .silentLimit || self == .silentLift }
  }

  @Test(
    "a session is over only when its limits are gone, or says which are not, whatever the limiter does",
    arguments: LimiterFault.allCases)
  func limiterFails(_ fault: LimiterFault) throws {
    for seed in 1...6 as ClosedRange<UInt64> {
      var scenario = Self.guest(seed, throttles: true, lastResort: .force)
      let whole = run(scenario).summary
      #expect(!Self.limits(whole).isEmpty)
      scenario.source[0].failures = fault.failures
      if fault.isSilent {
        // Nobody else ends what never answers.
        let time = MonotonicTime(microseconds: 10 * whole.totalMicroseconds)
        scenario.interrupts = [.init(.source, .at(time)), .init(.source, .at(time.adding(microseconds: 10)))]
      }
      let summary = run(scenario).summary
      #expect(summary.violations == [], "seed \(seed)")
      let source = try #require(summary.source)
      let said = source.cleanupFaults.filter { if case .stillLimited(0, _) = $0 { true } else { false } }
      #expect(said.count == (fault.leavesLimit ? 1 : 0), "seed \(seed): \(source.cleanupFaults)")
      // A limit that fails is no reason not to move.
      if !fault.isSilent {
        #expect(summary.isVerified && source.fault == nil, "seed \(seed): \(String(describing: source.fault))")
      }
    }
  }

  @Test("its NIC takes as much as before in the end, in a world with peers that send")
  func peers() {
    var description = BuiltInWorld.nic.description
    description.throttles = true
    description.lastResort = .giveUp
    description.channel.bytesPerMicrosecond = 60
    description.requests = 3000
    description.downtimeLimit = 2000
    let judge = Judge()
    for seed in 1...3 as ClosedRange<UInt64> {
      var scenario = Scenario(world: description, seed: seed)
      if seed == 3 { scenario.kills = [.init(.source, .at(MonotonicTime(microseconds: 600_000)))] }
      var played = world(scenario)
      let summary = played.run()
      #expect(judge.findings(played) == [], "seed \(seed)")
      #expect(!Self.limits(summary).isEmpty, "seed \(seed)")
    }
  }
}
