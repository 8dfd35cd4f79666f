// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("A machine that is moved from host to host")
struct WorldMoveTests {
  typealias Workload = MachineConfiguration.Workload

  static func configuration(_ workload: Workload, isLossy: Bool = false) -> MachineWorld.Configuration {
    var configuration = MachineWorld.configuration(workload, isLossy: isLossy)
    configuration.hosts = 2
    // A connection that is never answered goes on for ever.
    configuration.mostEvents = 100_000
    return configuration
  }

  /// Moves the machine at many moments: each run has to end as one that is not moved.
  static func expectTransparency(
    _ configuration: MachineWorld.Configuration, seeds: UInt64, preCopies: Bool = false
  ) throws {
    let undisturbed = try MachineWorld.finished(configuration, seed: 0)
    for seed in 0..<seeds {
      let world = try WorldMove(preCopies: preCopies).moved(
        configuration, seed: seed, length: undisturbed.now.microseconds)
      #expect(world.breaches == [], "seed \(seed)")
      #expect(world.endsAs(undisturbed, host: 1), "seed \(seed)")
    }
  }

  /// How many of twenty moves with a mistake end as a run that is not moved.
  static func unnoticed(_ configuration: MachineWorld.Configuration, _ mistake: WorldMove.Mistake) throws -> Int {
    let undisturbed = try MachineWorld.finished(configuration, seed: 0)
    return try (0..<20 as Range<UInt64>).count {
      let world = try WorldMove(mistake: mistake).moved(configuration, seed: $0, length: undisturbed.now.microseconds)
      return world.breaches == [] && world.endsAs(undisturbed, host: 1)
    }
  }

  @Test("it all ends as without the move", arguments: [Workload.nic, .nicGPU])
  func transparent(_ workload: Workload) throws {
    try Self.expectTransparency(Self.configuration(workload), seeds: 100)
  }

  @Test("the same over a lossy network, with device state read ahead", arguments: [Workload.nic, .nicGPU])
  func lossy(_ workload: Workload) throws {
    try Self.expectTransparency(Self.configuration(workload, isLossy: true), seeds: 60, preCopies: true)
  }

  @Test("the same with several NICs and GPUs, and where messages are drained", arguments: [Workload.nic, .nicGPU])
  func several(_ workload: Workload) throws {
    var configuration = Self.configuration(workload, isLossy: true)
    configuration.machine.nics = 3
    configuration.machine.requests = 5
    configuration.machine.quiescing = .drainingMessages
    try Self.expectTransparency(configuration, seeds: 20)
  }

  @Test("the same where the guest maps and unmaps the buffers of its messages all the time")
  func remapped() throws {
    var configuration = Self.configuration(.nic, isLossy: true)
    configuration.machine.remapsBuffers = true
    try Self.expectTransparency(configuration, seeds: 60)
  }

  @Test("where the guest maps and unmaps buffers, peers and memory are as where it does not")
  func remapping() throws {
    var configuration = Self.configuration(.nic)
    let plain = try MachineWorld.finished(configuration, seed: 1)
    configuration.machine.remapsBuffers = true
    let remapped = try MachineWorld.finished(configuration, seed: 1)
    #expect(remapped.breaches == [])
    #expect(plain.peers.map(\.observations.answered) == remapped.peers.map(\.observations.answered))
    // Only receive queues differ: they name the windows.
    let layout = plain.machines[0].layout
    let queues = (0..<layout.connections).flatMap { connection in
      let first = Page.number(layout.region(connection) + layout.receiveQueue)
      return [first, first + 1]
    }
    for page in 0..<plain.guestPages where plain.page(page, host: 0) != remapped.page(page, host: 0) {
      #expect(queues.contains(page))
    }
    let last = layout.region(0) + layout.receives
    #expect(
      remapped.machines[0].iommu.target(Page.number(remapped.machines[0].layout.receiveAddress(last)), in: 0) != nil)
  }

  @Test("the last reading of dirty pages before the stop shows as a difference", arguments: [Workload.nic, .nicGPU])
  func earlyReading(_ workload: Workload) throws {
    #expect(try Self.unnoticed(Self.configuration(workload), .earlyReading) < 20)
  }

  @Test("a wrong page shows as a difference")
  func wrongPage() throws {
    let configuration = Self.configuration(.nic)
    let page = try Page.number(MachineWorld(configuration, seed: 0).machines[0].layout.region(1)) + 9
    #expect(try Self.unnoticed(configuration, .wrongPage(page)) == 0)
  }

  @Test("a page that does not go over shows as a difference")
  func lostPage() throws {
    #expect(try Self.unnoticed(Self.configuration(.nic), .lostPage) < 20)
  }

  @Test("a record that does not go over is missing", arguments: [Workload.nic, .nicGPU])
  func missingRecord(_ workload: Workload) throws {
    var world = try MachineWorld(Self.configuration(workload), seed: 1)
    let devices = Array(0..<world.configuration.machine.devices)
    var answered = [world.go(devices, to: .stop, host: 1), world.go(devices, to: .resuming, host: 1)]
    for device in devices {
      let records = 0..<world.recordCount(host: 0, device: device)
      for record in records.dropLast() {
        try world.load(record, world.record(record, host: 0, device: device), host: 1, device: device)
      }
      #expect(throws: DeviceImageError.incomplete) { try world.checkLoaded(host: 1, device: device) }
      let last = records.upperBound - 1
      try world.load(last, world.record(last, host: 0, device: device), host: 1, device: device)
      try world.checkLoaded(host: 1, device: device)
    }
    answered.append(world.go(devices, to: .stop, host: 1))
    #expect(!answered.contains(false))
    for device in devices {
      #expect(throws: DeviceImageError.notResuming) { try world.load(0, [], host: 1, device: device) }
    }
  }

  @Test("a state of the VMM is taken as it was given, and nonsense is an error that changes nothing")
  func stateOfVMM() throws {
    var configuration = Self.configuration(.nic)
    configuration.machine.remapsBuffers = true
    var world = try MachineWorld(configuration, seed: 1)
    world.start()
    #expect(world.vmmState(host: 0) == nil)
    world.run(until: MonotonicTime(microseconds: 200))
    world.stopProcessors(host: 0)
    let state = try #require(world.vmmState(host: 0))
    try world.loadVMMState(state, host: 1)
    #expect(world.vmmState(host: 1) == state)
    #expect(throws: VMMStateError.wrongLength) { try world.loadVMMState([], host: 1) }
    var random = SeededGenerator(seed: 1)
    for _ in 0..<300 {
      var broken = state
      broken[1 + random.next(below: broken.count - 1)] = random.next()
      do {
        try world.loadVMMState(broken, host: 1)
        #expect(world.vmmState(host: 1) == broken)
        try world.loadVMMState(state, host: 1)
      } catch {
        #expect(world.vmmState(host: 1) == state)
      }
    }
  }

  @Test("the same seed gives the same digest, and so does only the same move")
  func repeatable() throws {
    let configuration = Self.configuration(.nicGPU, isLossy: true)
    let digests = try (0..<10 as Range<UInt64>).map {
      try WorldMove().moved(configuration, seed: $0, length: 300).digest
    }
    let again = try (0..<10 as Range<UInt64>).map {
      try WorldMove().moved(configuration, seed: $0, length: 300).digest
    }
    #expect(digests == again && Set(digests).count == 10)
    let other = try WorldMove(mistake: .wrongPage(1)).moved(configuration, seed: 0, length: 300).digest
    #expect(other != digests[0])
  }
}
