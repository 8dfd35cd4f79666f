// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("A machine and its peers, with no migration")
struct WorldTests {
  typealias Workload = MachineConfiguration.Workload

  @Test(
    "every peer is satisfied exactly once, over a perfect and over a lossy network", arguments: [Workload.nic, .nicGPU])
  func satisfied(_ workload: Workload) throws {
    let perfect = try MachineWorld.finished(MachineWorld.configuration(workload), seed: 1)
    #expect(perfect.breaches == [])
    #expect(perfect.network.lost == 0)
    for seed in 0..<20 as Range<UInt64> {
      let lossy = try MachineWorld.finished(MachineWorld.configuration(workload, isLossy: true), seed: seed)
      #expect(lossy.breaches == [], "seed \(seed)")
      #expect(lossy.network.lost > 0)
      #expect(lossy.endsAs(perfect), "seed \(seed)")
    }
  }

  @Test("the same seed gives the same digest, another seed another", arguments: [Workload.nic, .nicGPU])
  func repeatable(_ workload: Workload) throws {
    let configuration = MachineWorld.configuration(workload, isLossy: true)
    let digests = try (0..<20 as Range<UInt64>).map { try MachineWorld.finished(configuration, seed: $0).digest }
    let again = try (0..<20 as Range<UInt64>).map { try MachineWorld.finished(configuration, seed: $0).digest }
    #expect(digests == again)
    #expect(Set(digests).count == digests.count)
  }

  @Test(
    "the world of a public description is one of two hosts in which peers are satisfied",
    arguments: [
      WorldDescription.Workload.nic, .nicGPU,
    ])
  func described(_ workload: WorldDescription.Workload) throws {
    var description = WorldDescription(name: "described", workload: workload)
    description.requests = 10
    description.redirectsPeerTransfers = true
    description.commandsGoToPF = true
    description.remapsBuffers = true
    let world = try MachineWorld.finished(MachineWorld.Configuration(description, scriptSeed: 3), seed: 3)
    #expect(world.breaches == [])
    #expect(world.machines.count == 2 && world.configuration.machine.controlPath == .otherLink)
    #expect(world.configuration.machine.remapsBuffers == (workload == .nic))
  }

  @Test("several NICs with a GPU each serve their peers side by side", arguments: [Workload.nic, .nicGPU])
  func several(_ workload: Workload) throws {
    var configuration = MachineWorld.configuration(workload, isLossy: true, requests: 6)
    configuration.machine.nics = 3
    configuration.machine.connections = 5
    configuration.machine.words = 19
    configuration.peers = 4
    let world = try MachineWorld.finished(configuration, seed: 3)
    #expect(world.breaches == [])
    #expect(try world.endsAs(MachineWorld.finished(configuration, seed: 4)))
  }

  @Test("on a fabric that never kept PCIe's order, peers don't get what they want")
  func withoutOrder() throws {
    var configuration = MachineWorld.configuration(.nicGPU)
    configuration.machine.keepsOrder = false
    for seed in 0..<10 as Range<UInt64> {
      #expect(try MachineWorld.finished(configuration, seed: seed).breaches != [], "seed \(seed)")
    }
  }

  @Test("an answer that is wrong is noticed")
  func wrongAnswer() throws {
    var world = try MachineWorld(MachineWorld.configuration(.nicGPU), seed: 1)
    world.start()
    // Something gnaws at the GPU's memory.
    let word = try #require(Page.wordIndex(world.machines[0].layout.input(0)))
    for time in 0..<300 as Range<UInt64> {
      world.run(until: MonotonicTime(microseconds: time))
      world.machines[0].gpus[0].memory[word] = 0
    }
    world.runOut()
    #expect(world.breaches != [])
  }
}
