// SPDX-License-Identifier: Apache-2.0
import Migration

@testable import Simulation

/// A move by hand from host 0 to host 1: what sessions do, with nothing between the hosts.
struct WorldMove {
  /// What is done wrong.
  enum Mistake {
    case nothing
    /// The last reading of dirty pages comes before the devices have stopped.
    case earlyReading
    /// A page has a wrong word on the destination.
    case wrongPage(Int)
    /// A page that was written does not go over.
    case lostPage
  }

  var mistake = Mistake.nothing
  /// Whether device state is read before the stop.
  var preCopies = false

  /// Moves the machine. - Returns: whether every device answered.
  func run(_ world: inout MachineWorld) throws -> Bool {
    let devices = Array(0..<world.configuration.machine.devices)
    world.setTracking(true, host: 0)
    copy(Array(0..<world.guestPages), &world)
    guard world.go(devices, to: .stop, host: 1), world.go(devices, to: .resuming, host: 1) else { return false }
    if preCopies {
      guard world.go(devices, to: .preCopy) else { return false }
      try copyRecords(devices, &world)
    }
    for _ in 0..<3 {
      world.run(until: world.now.adding(microseconds: 40))
      copy(world.takeDirtyPages(host: 0), &world)
    }
    world.stopProcessors(host: 0)
    if case .earlyReading = mistake { copy(world.takeDirtyPages(host: 0), &world) }
    let quiet: MigrationState = preCopies ? .preCopyP2P : .runningP2P
    guard world.go(devices, to: quiet), world.go(devices, to: .stopCopy) else { return false }
    copyLast(&world)
    try world.loadVMMState(world.vmmState(host: 0) ?? [], host: 1)
    try copyRecords(devices, &world)
    for device in devices { try world.checkLoaded(host: 1, device: device) }
    return world.go(devices, to: .stop, host: 1) && world.resume(host: 1)
  }

  private func copy(_ pages: [Int], _ world: inout MachineWorld) {
    for page in pages { world.setPage(page, world.page(page, host: 0), host: 1) }
  }

  /// The reading after the stop.
  private func copyLast(_ world: inout MachineWorld) {
    var dirty = world.takeDirtyPages(host: 0)
    switch mistake {
    case .earlyReading: return
    case .lostPage:
      dirty.removeAll { world.page($0, host: 0) == world.page($0, host: 1) }
      copy(Array(dirty.dropLast()), &world)
    case .nothing: copy(dirty, &world)
    case .wrongPage(let page):
      copy(dirty, &world)
      var words = world.page(page, host: 1)
      words[0] ^= 1
      world.setPage(page, words, host: 1)
    }
  }

  private func copyRecords(_ devices: [Int], _ world: inout MachineWorld) throws {
    for device in devices {
      for record in world.takeChangedRecords(host: 0, device: device).sorted() {
        try world.load(record, world.record(record, host: 0, device: device), host: 1, device: device)
      }
    }
  }
}

extension WorldMove {
  /// Moves the machine at a random moment of a run, and lets it go on to the end.
  func moved(_ configuration: MachineWorld.Configuration, seed: UInt64, length: UInt64) throws -> MachineWorld {
    var world = try MachineWorld(configuration, seed: seed)
    world.start()
    var moments = SeededGenerator(seed: seed ^ 0xfeed)
    world.run(until: MonotonicTime(microseconds: UInt64(moments.next(below: Int(length)))))
    guard try run(&world) else { return world }
    // The destination's devices are the only ones from now on.
    for device in 0..<configuration.machine.devices { world.reset(host: 0, device: device) }
    world.runOut()
    return world
  }
}
