// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("Devices of a machine that fail or are reset")
struct WorldFailureTests {
  typealias Workload = MachineConfiguration.Workload

  /// A world of two hosts in the middle of its work.
  static func world(
    _ workload: Workload, seed: UInt64 = 1, _ change: (inout MachineWorld.Configuration) -> Void = { _ in }
  ) throws -> MachineWorld {
    var configuration = WorldMoveTests.configuration(workload)
    change(&configuration)
    var world = try MachineWorld(configuration, seed: seed)
    world.start()
    world.run(until: MonotonicTime(microseconds: 150))
    return world
  }

  @Test("a device in ERROR does nothing, takes nothing, is no violation, and answers no command")
  func failed() throws {
    for seed in 0..<20 as Range<UInt64> {
      for device in 0..<2 {
        var world = try Self.world(.nicGPU, seed: seed)
        world.fail(host: 0, device: device)
        #expect(world.state(host: 0, device: device) == .error)
        world.run(until: world.now.adding(microseconds: 200))
        let image = (0..<world.recordCount(host: 0, device: device)).map { world.record($0, host: 0, device: device) }
        world.setState(host: 0, device: device, to: .stop)
        world.run(until: world.now.adding(microseconds: 5000))
        let later = (0..<world.recordCount(host: 0, device: device)).map { world.record($0, host: 0, device: device) }
        #expect(image == later)
        #expect(world.takeAnswers().isEmpty && world.isOpen)
        #expect(world.violations.isEmpty && world.state(host: 0, device: device) == .error)
        #expect(world.stateChanges.map(\.state) == [.error])
      }
    }
  }

  @Test("with one device in ERROR the other still comes to a stop, and nothing counts as a violation")
  func others() throws {
    for seed in 0..<20 as Range<UInt64> {
      for device in 0..<2 {
        var world = try Self.world(.nicGPU, seed: seed)
        world.stopProcessors(host: 0)
        world.setState(host: 0, device: device, to: .runningP2P)
        world.fail(host: 0, device: device)
        #expect(!world.isOpen)
        let answered = [world.go([1 - device], to: .runningP2P), world.go([1 - device], to: .stop)]
        world.run(until: world.now.adding(microseconds: 500))
        #expect(answered == [true, true] && world.violations.isEmpty, "seed \(seed)")
      }
    }
  }

  @Test("a reset brings a device back from ERROR, empty, and it takes a state again")
  func resetAfterError() throws {
    for device in 0..<2 {
      var world = try Self.world(.nicGPU)
      world.stopProcessors(host: 0)
      world.fail(host: 0, device: device)
      world.reset(host: 0, device: device)
      #expect(world.state(host: 0, device: device) == .running)
      #expect(world.stateChanges.map(\.state) == [.error, .running])
      var answered = [world.go([1 - device], to: .runningP2P), world.go([device], to: .stop)]
      answered.append(world.go([device], to: .resuming))
      for record in 0..<world.recordCount(host: 1, device: device) {
        try world.load(record, world.record(record, host: 1, device: device), host: 0, device: device)
      }
      try world.checkLoaded(host: 0, device: device)
      answered += [world.go([device], to: .stop), world.go([device], to: .running)]
      #expect(!answered.contains(false) && world.violations.isEmpty)
    }
  }

  @Test("a command that is under way when its device is reset is never answered")
  func resetInArc() throws {
    for wait in 0..<40 as Range<UInt64> {
      for device in 0..<2 {
        var world = try Self.world(.nicGPU)
        world.setState(host: 0, device: device, to: .runningP2P)
        world.run(until: world.now.adding(microseconds: wait))
        guard world.takeAnswers().isEmpty else { continue }
        world.reset(host: 0, device: device)
        world.run(until: world.now.adding(microseconds: 3000))
        #expect(world.takeAnswers().isEmpty && !world.isOpen)
        #expect(world.state(host: 0, device: device) == .running)
        world.go([device], to: .runningP2P)
        #expect(world.takeAnswers() == [.reached(host: 0, device: device, .runningP2P)])
      }
    }
  }

  @Test(
    "what the guest resets has what its driver makes without peers, and it is known",
    arguments: [Workload.nic, .nicGPU])
  func guestReset(_ workload: Workload) throws {
    var world = try Self.world(workload)
    let before = world.recordCount(host: 0, device: 0)
    world.resetByGuest(device: 0)
    #expect(world.recordCount(host: 0, device: 0) == before - world.configuration.machine.connections)
    #expect(world.machines[0].nics[0].nic.queuePairs.isEmpty)
    #expect(world.guestResets == [true] + Array(repeating: false, count: world.guestResets.count - 1))
    if workload == .nicGPU {
      world.resetByGuest(device: 1)
      #expect(world.machines[0].gpus[0].memory == PagedMemory(pages: world.machines[0].gpus[0].memory.pages))
      #expect(world.guestResets == [true, true])
    }
    world.runOut()
    let lost = world.peers.reduce(0) { $0 + $1.observations.failures.count }
    #expect(lost > 0 && world.violations.isEmpty)
    #expect(world.outages[0] > 0)
  }

  @Test("devices without P2P states go from RUNNING to STOP and back directly, with doorbells under way")
  func direct() throws {
    let undisturbed = try MachineWorld.finished(WorldMoveTests.configuration(.nicGPU), seed: 0)
    for seed in 0..<60 as Range<UInt64> {
      var world = try MachineWorld(WorldMoveTests.configuration(.nicGPU), seed: seed)
      world.start()
      var moments = SeededGenerator(seed: seed)
      world.run(until: MonotonicTime(microseconds: moments.next() % undisturbed.now.microseconds))
      world.stopProcessors(host: 0)
      // The NIC can be quiet; the GPU only stopped.
      var answered = [world.go([0], to: .runningP2P), world.go([1], to: .stop), world.go([0], to: .stop)]
      world.run(until: world.now.adding(microseconds: 300))
      answered += [world.go([0], to: .runningP2P), world.go([1], to: .running), world.go([0], to: .running)]
      world.startProcessors(host: 0)
      world.runOut()
      #expect(!answered.contains(false) && world.breaches == [], "seed \(seed)")
      #expect(world.endsAs(undisturbed), "seed \(seed)")
    }
  }

  @Test("a NIC alone goes from RUNNING to STOP and back directly")
  func directNIC() throws {
    let undisturbed = try MachineWorld.finished(WorldMoveTests.configuration(.nic), seed: 0)
    for seed in 0..<60 as Range<UInt64> {
      var world = try MachineWorld(WorldMoveTests.configuration(.nic), seed: seed)
      world.start()
      var moments = SeededGenerator(seed: seed)
      world.run(until: MonotonicTime(microseconds: moments.next() % undisturbed.now.microseconds))
      world.stopProcessors(host: 0)
      var answered = [world.go([0], to: .stop)]
      #expect(world.machines[0].nics[0].nic.activity == .stopped)
      answered.append(world.go([0], to: .running))
      #expect(world.machines[0].nics[0].nic.activity == .running)
      world.startProcessors(host: 0)
      world.runOut()
      #expect(answered == [true, true] && world.breaches == [] && world.endsAs(undisturbed), "seed \(seed)")
    }
  }

  @Test("a write to guest memory by a device that had answered that it is stopped is seen, and only then")
  func lateWrite() throws {
    func kinds(keepsOrder: Bool) throws -> [MachineViolation.Kind] {
      try (0..<100 as Range<UInt64>).flatMap { seed in
        var world = try Self.world(.nicGPU, seed: seed) { $0.machine.arcMicroseconds = 1 }
        world.stop(keepsOrder ? .twoPhases : .withoutOrder)
        world.run(until: world.now.adding(microseconds: 500))
        return world.violations.map(\.kind)
      }
    }
    #expect(try kinds(keepsOrder: true).isEmpty)
    #expect(try kinds(keepsOrder: false).contains(.wroteWhileStopped))
  }

  @Test("an outage is the time in which a NIC serves on neither host, and one that lasts counts too")
  func outage() throws {
    var world = try Self.world(.nic)
    world.run(until: MonotonicTime(microseconds: 200))
    #expect(world.outages == [0])
    let begin = world.now
    world.stopProcessors(host: 0)
    world.stop(.twoPhases)
    world.resume()
    let outage = world.outages[0]
    #expect(outage > 0 && outage <= world.now.microseconds(since: begin))
    world.fail(host: 0, device: 0)
    let lost = world.now
    world.wait(until: lost.adding(microseconds: 100_000))
    #expect(world.outages == [100_000])
  }
}
