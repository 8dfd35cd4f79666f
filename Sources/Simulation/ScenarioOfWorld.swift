// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What a world's description means for a move.
extension Scenario {
  /// A move of the virtual machine of a world to another host, without faults. Source and destination agree on who runs.
  public init(world: WorldDescription, seed: UInt64) {
    self.init(moving: (0..<world.devices).map { Self.device($0, of: world) })
    self.world = world
    self.seed = seed
    scriptSeed = seed % Self.scripts
    link = world.channel
    commits = true
    save.preCopy = world.preCopies
    save.pace.interval = 2_000
    save.pace.smallBytes = UInt64(world.imageBytesPerMicrosecond) * 100
    var memory = PreCopyConfiguration()
    memory.downtimeLimit = world.downtimeLimit
    memory.interval = 1_000
    memory.mostPasses = 30
    memory.lastResort = world.lastResort
    memory.throttled = (0..<world.devices).map { world.throttles && $0 < world.nics }
    memory.leastInbound = 1 << 20
    save.memory = memory
    save.quiescing.flushes = world.commandsGoToPF
    load.quiescing.flushes = world.commandsGoToPF
    reachability = Self.reachability(of: world)
    if world.sabotage == .untoldReset {
      // At some moment of pre-copy.
      let time = world.moveAt + 500 + seed % 8 * 400
      guestResets = [GuestReset(device: 0, time: MonotonicTime(microseconds: time))]
    }
  }

  /// Peers ask for one of so many series of things. A judge has to play each only once.
  private static let scripts: UInt64 = 8

  private static func device(_ number: Int, of world: WorldDescription) -> SimulatedDevice.Configuration {
    let isNIC = number < world.nics
    // As on a host with a bus for each device: VFs of one port, GPUs of their own.
    let index = isNIC ? number : number - world.nics
    let bus = String((isNIC ? 0x17 : 0x60) + index, radix: 16)
    var device = SimulatedDevice.Configuration(name: "0000:\(bus):00.\(isNIC ? 2 : 0)")
    device.driver = isNIC ? "simulated-nic" : "simulated-gpu"
    if !isNIC && !world.gpusHaveP2P || world.sabotage == .oneByOne { device.features.remove(.p2p) }
    device.pageBytes = isNIC ? world.nicRecordBytes : world.gpuPageBytes
    device.arcMicroseconds = isNIC ? world.arcMicroseconds : world.gpuArcMicroseconds
    device.stopCopyArcMicroseconds = device.arcMicroseconds
    device.readBytesPerMicrosecond = world.imageBytesPerMicrosecond
    device.writeBytesPerMicrosecond = world.imageBytesPerMicrosecond
    // As mlx5 does.
    device.offersOnInfoOnly = isNIC
    device.offersInPreCopyP2P = !isNIC
    return device
  }

  /// A NIC and the GPU behind it write to each other; nobody else does. A world in which devices stop one by one knows of
  /// one direction only, so that there is an order for it.
  private static func reachability(of world: WorldDescription) -> Reachability {
    Reachability(count: world.devices) { from, to in
      let isKnown = world.sabotage != .oneByOne || from < to
      let arePartners = isKnown && from % world.nics == to % world.nics
      return Reachability.Link(
        path: !arePartners
          ? .none : world.redirectsPeerTransfers ? .redirected(through: "the root") : .direct(at: "a switch"),
        reason: arePartners ? "a NIC and the GPU that it serves" : "the guest uses them apart", origin: .observed)
    }
  }
}
