// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("Faults drawn from a seed")
struct ScenarioDrawingTests {
  @Test(
    "the same seed draws the same, and its lines in a file give the same scenario", arguments: BuiltInWorld.allCases)
  func lines(base: BuiltInWorld) throws {
    let world = base.description
    for seed in 0..<400 as Range<UInt64> {
      let (scenario, faults) = Scenario.withFaults(world: world, seed: seed)
      #expect(Scenario.withFaults(world: world, seed: seed).faults == faults)
      let text = "base \(base.rawValue)\nname \(world.name)\n" + faults.joined(separator: "\n")
      let again = try ScenarioFile.parse(text, name: "seed \(seed)").scenario(seed: seed)
      #expect(again.world == scenario.world, "\(faults)")
      #expect(again.source == scenario.source && again.destination == scenario.destination, "\(faults)")
      #expect(again.interrupts == scenario.interrupts && again.kills == scenario.kills, "\(faults)")
      #expect(again.deaths == scenario.deaths && again.guestResets == scenario.guestResets, "\(faults)")
      #expect(again.link == scenario.link && again.seed == scenario.seed, "\(faults)")
      #expect(again.save == scenario.save && again.load == scenario.load, "\(faults)")
      #expect(again.vcpuStopMicroseconds == scenario.vcpuStopMicroseconds, "\(faults)")
    }
  }

  @Test("about a fifth of the seeds draw nothing, and every kind of line is drawn")
  func variety() {
    let drawn = BuiltInWorld.allCases.flatMap { base in
      (0..<500 as Range<UInt64>).map { Scenario.withFaults(world: base.description, seed: $0).faults }
    }
    let none = drawn.count { $0.isEmpty }
    #expect(320...480 ~= none)
    let lines = drawn.flatMap(\.self)
    let parts = [
      "arc stop", "any arc", "fails EIO", "enters error", "hangs", "hangs ", "read", "write", "pre-copy-info", "flush",
      "fault source device 0 state", "declared dead", "fault guest resets", "killed before event", "killed at",
      "interrupted before", "interrupted twice when", "cut at", "cut after", "flips bit", "channel-rate", "loss",
      "duplication", "reordering", "jitter", "acs-redirect yes", "commands-through-pf yes", "remap-buffers yes",
      "timeouts fixed", "timeout ", "quiescing drain", "pre-copy no", "source-reset yes", "destination-reset yes",
      "vcpu-stop", "move-at",
    ]
    for part in parts { #expect(lines.contains { $0.contains(part) }, "\(part)") }
  }

  @Test("kills come before every part of a session's events")
  func kills() {
    var drawn: Set<Scenario.Interrupt> = []
    for seed in 0..<2500 as Range<UInt64> {
      drawn.formUnion(Scenario.withFaults(world: BuiltInWorld.nicGPU.description, seed: seed).scenario.kills)
    }
    for side in SimulatedSide.allCases {
      for first in stride(from: 1, to: 57, by: 4) {
        #expect((first..<first + 4).contains { drawn.contains(.init(side, .beforeEvent($0))) }, "\(side) \(first)")
      }
    }
  }

  @Test("whatever is drawn, both sessions end or are killed", arguments: BuiltInWorld.allCases)
  func ends(base: BuiltInWorld) {
    var world = base.description
    // What is looked at here are the sessions, with devices that are nothing but devices.
    world.moveAt = 0
    for seed in 0..<(base == .hgx ? 10 : 60) as Range<UInt64> {
      let drawn = Scenario.withFaults(world: world, seed: seed)
      var scenario = drawn.scenario
      scenario.world = nil
      for device in scenario.source.indices {
        scenario.source[device].stateBytes = 64 << 10
        scenario.destination[device].stateBytes = 64 << 10
      }
      let (world, summary) = run(scenario)
      #expect(summary.violations == [], "seed \(seed): \(drawn.faults)")
      for side in SimulatedSide.allCases {
        #expect(world.outcome(of: side) != nil || world.isKilled[side.rawValue], "seed \(seed): \(drawn.faults)")
      }
    }
  }
}
