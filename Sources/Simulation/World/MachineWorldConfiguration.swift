// SPDX-License-Identifier: Apache-2.0

extension MachineWorld {
  /// What the world is like.
  struct Configuration: Hashable, Sendable {
    var machine = MachineConfiguration()
    /// Hosts on which the machine may be: 1 or 2.
    var hosts = 1
    /// Connections are dealt out to the peers in turn.
    var peers = 2
    var link = NetworkLink()
    /// What peers ask for. A GPU answers ``PeerRequest/writeAndSend`` only.
    var mix: [PeerRequest] = [.writeAndSend]
    var pauseMicroseconds: UInt64 = 0
    var firstRequestAt: UInt64 = 0
    /// The first requests of a peer's connections are spread over so many microseconds.
    var startMicroseconds: UInt64 = 0
    /// What peers send follows from this, so that worlds of different seeds can be held against each other.
    var scriptSeed: UInt64 = 1
    var keepsRoundTrips = false
    /// Events after which a run has lost its way.
    var mostEvents = 10_000_000

    init() {}
  }
}

extension MachineWorld.Configuration {
  /// A world of two hosts as the public description says.
  init(_ world: WorldDescription, scriptSeed: UInt64) {
    self.init()
    machine = MachineConfiguration(world)
    hosts = 2
    peers = world.peers
    link = world.network
    mix = [.writeAndSend, .send] + (world.usesAtomics ? [.fetchAdd, .compareSwap] : []) + [.read]
    pauseMicroseconds = world.pauseMicroseconds
    firstRequestAt = world.firstRequestAt
    startMicroseconds = world.startMicroseconds
    self.scriptSeed = scriptSeed
    // A request takes some dozens of events for each of its packets; the rest is for what is lost and sent again.
    let packets = 2 + world.words / world.packetWords
    mostEvents += 400 * world.nics * world.connections * world.requests * packets
  }
}

extension MachineConfiguration {
  /// A machine as the public description of a world says.
  fileprivate init(_ world: WorldDescription) {
    self.init()
    switch world.workload {
    case .nic: workload = .nic
    case .nicGPU: workload = .nicGPU
    }
    nics = world.nics
    connections = world.connections
    requests = world.requests
    words = world.words
    mtuWords = world.packetWords
    retransmission = world.retransmission
    switch world.quiescing {
    case .betweenPackets: quiescing = .betweenPackets
    case .drainingMessages: quiescing = .drainingMessages
    }
    arcMicroseconds = world.arcMicroseconds
    gpuArcMicroseconds = world.gpuArcMicroseconds
    remapsBuffers = world.remapsBuffers && world.workload == .nic
    controlPath = world.commandsGoToPF ? .otherLink : .ownFunction
    accessControl = world.redirectsPeerTransfers ? .redirect : []
    deviceLink.spread = 8
    deviceLink.wordsPerMicrosecond = world.pcieWordsPerMicrosecond
    processorSpeed.instructionsPerMicrosecond = world.instructionsPerMicrosecond
  }
}
