// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("A machine whose devices are stopped while peers go on")
struct WorldQuiescingTests {
  typealias Workload = MachineConfiguration.Workload

  /// Stops the devices at a random moment of a run, waits, and lets them go on to the end.
  /// - Returns: the world at the end, or where it went no further; whether nothing changed while all were stopped.
  static func interrupted(
    _ configuration: MachineWorld.Configuration, seed: UInt64, length: UInt64, _ order: StoppingOrder = .twoPhases
  ) throws -> (world: MachineWorld, wasStill: Bool) {
    var world = try MachineWorld(configuration, seed: seed)
    world.start()
    var moments = SeededGenerator(seed: seed ^ 0xfeed)
    world.run(until: MonotonicTime(microseconds: UInt64(moments.next(below: Int(length)))))
    guard world.stop(order) else { return (world, false) }
    let memory = world.machines[0].memory.content
    let gpus = world.machines[0].gpus.map(\.memory)
    world.run(until: world.now.adding(microseconds: 2000))
    let wasStill =
      world.machines[0].isFabricEmpty && world.machines[0].memory.content == memory
      && world.machines[0].gpus.map(\.memory) == gpus
    guard world.violations.isEmpty, world.resume() else { return (world, wasStill) }
    world.runOut()
    return (world, wasStill)
  }

  /// Interrupts many runs, which have to end as one that is not interrupted.
  static func expectTransparency(_ configuration: MachineWorld.Configuration, seeds: UInt64) throws {
    let undisturbed = try MachineWorld.finished(configuration, seed: 0)
    for seed in 0..<seeds {
      let (world, wasStill) = try interrupted(configuration, seed: seed, length: undisturbed.now.microseconds)
      #expect(wasStill, "seed \(seed)")
      #expect(world.breaches == [], "seed \(seed)")
      #expect(world.endsAs(undisturbed), "seed \(seed)")
    }
  }

  /// The first seed below a hundred with which something arrives at a stopped device.
  static func firstViolation(_ configuration: MachineWorld.Configuration, _ order: StoppingOrder) throws -> UInt64? {
    let length = try MachineWorld.finished(MachineWorld.configuration(.nicGPU), seed: 0).now.microseconds
    return try (0..<100 as Range<UInt64>).first {
      try !interrupted(configuration, seed: $0, length: length, order).world.violations.isEmpty
    }
  }

  @Test(
    "in two phases nothing arrives at a stopped device, and it all ends as without", arguments: [Workload.nic, .nicGPU])
  func twoPhases(_ workload: Workload) throws {
    try Self.expectTransparency(MachineWorld.configuration(workload), seeds: 300)
  }

  @Test("the same over a lossy network, and with redirecting ports", arguments: [Workload.nic, .nicGPU])
  func lossy(_ workload: Workload) throws {
    var configuration = MachineWorld.configuration(workload, isLossy: true)
    configuration.machine.accessControl = .redirect
    try Self.expectTransparency(configuration, seeds: 50)
  }

  @Test("draining its messages, a NIC comes to a stop as well, and it all ends as without")
  func draining() throws {
    var configuration = MachineWorld.configuration(.nic, isLossy: true)
    configuration.machine.quiescing = .drainingMessages
    try Self.expectTransparency(configuration, seeds: 30)
  }

  @Test(
    "devices go through every state of a migration and back, and answer each command",
    arguments: [Workload.nic, .nicGPU])
  func everyState(_ workload: Workload) throws {
    let undisturbed = try MachineWorld.finished(MachineWorld.configuration(workload), seed: 0)
    var world = try MachineWorld(MachineWorld.configuration(workload), seed: 5)
    let devices = Array(0..<world.configuration.machine.devices)
    world.start()
    world.run(until: MonotonicTime(microseconds: 150))
    var answered = [world.go(devices, to: .preCopy)]
    world.stopProcessors(host: 0)
    for state in [MigrationState.preCopyP2P, .stopCopy, .stop] {
      answered.append(world.go(devices, to: state))
      #expect(devices.allSatisfy { world.machines[0].state(of: $0) == state })
    }
    answered.append(world.resume())
    #expect(!answered.contains(false))
    world.runOut()
    #expect(world.breaches == [])
    #expect(world.endsAs(undisturbed))
  }

  @Test("stopped one after the other, in either order, a device is reached while it is stopped")
  func oneByOne() throws {
    let configuration = MachineWorld.configuration(.nicGPU)
    #expect(try Self.firstViolation(configuration, .oneByOne(reversed: false)) != nil)
    #expect(try Self.firstViolation(configuration, .oneByOne(reversed: true)) != nil)
  }

  @Test("on a fabric that loses PCIe's order, a device is reached while it is stopped")
  func withoutOrder() throws {
    #expect(try Self.firstViolation(MachineWorld.configuration(.nicGPU), .withoutOrder) != nil)
  }

  @Test("with commands on a link of their own, two rounds of flushes keep a device from being reached")
  func otherLink() throws {
    var configuration = MachineWorld.configuration(.nicGPU)
    configuration.machine.controlPath = .otherLink
    #expect(try Self.firstViolation(configuration, .flushed(rounds: 2)) == nil)
    #expect(try Self.firstViolation(configuration, .twoPhases) != nil)
  }
}
