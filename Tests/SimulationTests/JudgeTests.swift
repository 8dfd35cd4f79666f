// SPDX-License-Identifier: Apache-2.0
import Migration
import Simulation
import Testing

/// The sessions that move real devices move a whole virtual machine, and a judge says whether that was seen.
@Suite("A virtual machine that is moved, and its judge")
struct JudgeTests {
  static let judge = Judge()

  /// Plays a scenario to its end.
  static func played(_ scenario: Scenario) throws -> (world: SimulatedWorld, summary: SimulationSummary) {
    var world = try SimulatedWorld(scenario, checksum: testChecksum)
    #expect(world.refusal == nil)
    _ = world.run()
    return (world, world.summary(judge))
  }

  /// A world with less of everything, so that a test can play many.
  static func small(_ world: BuiltInWorld) -> WorldDescription {
    var description = world.description
    description.requests = 40
    description.moveAt = 1000
    description.nicRecordBytes = 512
    description.gpuPageBytes = 1024
    return description
  }

  @Test(
    "a move without faults is seen by nobody, and ends with the machine on the destination",
    arguments: BuiltInWorld.allCases)
  func good(_ built: BuiltInWorld) throws {
    for seed in 1...6 as ClosedRange<UInt64> {
      let (_, summary) = try Self.played(Scenario(world: Self.small(built), seed: seed))
      #expect(summary.violations == [], "seed \(seed)")
      #expect(summary.place == .runs(.destination), "seed \(seed)")
      #expect(summary.isVerified, "seed \(seed)")
      #expect(summary.peers?.broken == 0 && summary.peers?.answered == summary.peers?.wanted, "seed \(seed)")
    }
  }

  @Test("with faults no rule is broken, however it ends", arguments: BuiltInWorld.allCases)
  func faults(_ built: BuiltInWorld) throws {
    for seed in 1...40 as ClosedRange<UInt64> {
      let drawn = Scenario.withFaults(world: Self.small(built), seed: seed)
      let (_, summary) = try Self.played(drawn.scenario)
      #expect(summary.violations == [], "seed \(seed): \(drawn.faults)")
    }
  }

  @Test("a seed replays to the bit, faults and all", arguments: BuiltInWorld.allCases)
  func replays(_ built: BuiltInWorld) throws {
    for seed in [2, 3, 5] as [UInt64] {
      let scenario = Scenario.withFaults(world: Self.small(built), seed: seed).scenario
      let first = try Self.played(scenario).summary
      let second = try Self.played(scenario).summary
      #expect(first.runDigest == second.runDigest)
      #expect(first.stopPhases == second.stopPhases && first.peers == second.peers)
    }
    let digests = try (10..<14 as Range<UInt64>).map {
      try Self.played(Scenario(world: Self.small(built), seed: $0)).summary.runDigest
    }
    #expect(Set(digests).count == digests.count)
  }

  @Test("what is broken on purpose is found within a hundred seeds", arguments: Sabotage.allCases)
  func sabotage(_ sabotage: Sabotage) throws {
    var description = BuiltInWorld.nicGPU.description
    description.sabotage = sabotage
    let found = try (1...100 as ClosedRange<UInt64>).first {
      try !Self.played(Scenario(world: description, seed: $0)).summary.violations.isEmpty
    }
    #expect(found != nil)
  }

  @Test("fixed time-outs that are shorter than the stop break connections, and nobody is to blame")
  func fixedTimeouts() throws {
    var description = BuiltInWorld.nicGPU.description
    description.retransmission.kind = .fixed
    let fixed = try Self.played(Scenario(world: description, seed: 1)).summary
    description.retransmission.kind = .exponential
    let exponential = try Self.played(Scenario(world: description, seed: 1)).summary
    #expect(fixed.violations == [] && exponential.violations == [])
    #expect(fixed.place == .runs(.destination) && exponential.place == .runs(.destination))
    #expect(fixed.peers?.broken ?? 0 > 0)
    #expect(exponential.peers?.broken == 0)
  }

  @Test("the last round of guest memory is small, and goes after the devices have stopped")
  func lastRound() throws {
    let (world, summary) = try Self.played(Scenario(world: BuiltInWorld.nic.description, seed: 1))
    let memory = try #require(summary.memory)
    #expect(memory.rounds.first == memory.pages && memory.rounds.count > 2)
    #expect(try #require(memory.rounds.last) < memory.pages / 4)
    let asked = try #require(summary.stopPhases.first)
    #expect(asked.name == "vCPUs stop" && world.stoppedMicroseconds == summary.downtimeMicroseconds)
  }

  @Test("the guest's reset of a device before the stop is moved along, and what it breaks is its own")
  func guestReset() throws {
    for seed in 1...6 as ClosedRange<UInt64> {
      var scenario = Scenario(world: BuiltInWorld.nicGPU.description, seed: seed)
      scenario.guestResets = [.init(device: Int(seed % 2), time: MonotonicTime(microseconds: 5000 + 700 * seed))]
      let (_, summary) = try Self.played(scenario)
      #expect(summary.violations == [], "seed \(seed)")
      #expect(summary.place == .runs(.destination), "seed \(seed)")
      #expect(summary.devices[Int(seed % 2)].restarts == 1, "seed \(seed)")
    }
  }

  @Test("either side's process may be killed before any event of its session")
  func kills() throws {
    var description = Self.small(.nicGPU)
    description.requests = 25
    let good = try Self.played(Scenario(world: description, seed: 3)).world
    for side in SimulatedSide.allCases {
      var survivors = 0
      for number in 1...good.sessionEventCount(of: side) {
        var scenario = Scenario(world: description, seed: 3)
        scenario.kills = [.init(side, .beforeEvent(number))]
        let summary = try Self.played(scenario).summary
        #expect(summary.violations == [], "\(side) before event \(number)")
        if case .runs(side.other) = summary.place { survivors += 1 }
      }
      #expect(survivors > 0)
    }
  }

  /// Scenarios in which a campaign once found something.
  static let found = [
    // The source's GPU was in ERROR, did not say so, and its machine was said to run.
    """
    base mixed
    move-at 9 ms
    fault source device 1 arc running fails EINTR and enters error
    fault source device 1 state fails EIO
    fault destination device 1 write use 6 fails EINTR
    """,
    // A device that was reset after COMMIT was held against the source's.
    """
    base nic
    destination-reset yes
    fault destination device 0 arc running-p2p use 2 fails EINTR and enters error
    """,
    // A session was interrupted before it had begun.
    """
    base nic-gpu
    move-at 9 ms
    fault source interrupted at 5 ms
    fault source device 0 declared dead at 6 ms
    """,
    // The destination runs, and the source does not hear of it.
    """
    base nic-gpu
    fault channel cut upon running 5 us
    """,
    // The destination's GPU failed to leave STOP and did not say where it is; the NIC runs, the machine does not.
    """
    base nic-gpu
    fault destination device 1 arc running-p2p use 2 fails EINTR
    fault destination device 1 state use 2 fails EIO
    """,
    // COMMIT is under way when the channel breaks.
    """
    base nic
    fault channel cut upon commit 3 us
    """,
  ]

  @Test("what campaigns once found stays mended", arguments: found)
  func regressions(_ text: String) throws {
    let file = try ScenarioFile.parse(text, name: "found")
    for seed in 1...4 as ClosedRange<UInt64> {
      let (_, summary) = try Self.played(file.scenario(seed: seed))
      #expect(summary.violations == [], "seed \(seed)")
    }
  }
}
