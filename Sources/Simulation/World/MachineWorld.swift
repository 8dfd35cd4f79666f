// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// A virtual machine, its remote peers and the network between them, in virtual time, with one order of events for a seed.
struct MachineWorld: Sendable {
  /// What the world is like.
  struct Configuration: Hashable, Sendable {
    var machine = MachineConfiguration()
    /// Connections are dealt out to the peers in turn.
    var peers = 2
    var link = NetworkLink()
    /// What peers ask for. A GPU answers ``PeerRequest/writeAndSend`` only.
    var mix: [PeerRequest] = [.writeAndSend]
    var pauseMicroseconds: UInt64 = 0
    /// What peers send follows from this, so that worlds of different seeds can be held against each other.
    var scriptSeed: UInt64 = 1
    var keepsRoundTrips = false
    /// Events after which a run has lost its way.
    var mostEvents = 10_000_000

    init() {}
  }

  enum Event: Sendable {
    case machine(VirtualMachine.Event)
    case arrival(port: Int, RDMAPacket)
    case peerTimer(Int, Peer.Timer)
  }

  let configuration: Configuration
  var machine: VirtualMachine
  private(set) var peers: [Peer] = []
  private(set) var network = Network()
  private(set) var random: SeededGenerator
  private var queue = EventQueue<Event>()
  private var log = RunDigest()

  /// The virtual clock.
  private(set) var now = MonotonicTime(microseconds: 0)
  /// How many events there were.
  private(set) var events = 0
  /// What arrived at stopped devices.
  private(set) var violations: [MachineViolation] = []
  /// Commands and flushes without an answer, by device.
  private(set) var openCommands: [Int]
  private(set) var openFlushes: [Int]

  private var machineOutputs: [VirtualMachine.Output] = []
  private var peerOutputs: [Peer.Output] = []
  private var deliveries: [Network.Delivery] = []

  static func peerAddress(_ peer: Int) -> UInt32 { 100 + UInt32(peer) }
  static func peerQueuePair(_ connection: Int) -> UInt32 { UInt32(0x40_0001 + connection * 101) & 0xff_ffff }

  init(_ configuration: Configuration, seed: UInt64) throws(RDMACommandError) {
    self.configuration = configuration
    random = SeededGenerator(seed: seed)
    machine = VirtualMachine(configuration.machine)
    openCommands = Array(repeating: 0, count: configuration.machine.devices)
    openFlushes = openCommands
    let layout = machine.layout
    try machine.setUpGuest(
      (0..<layout.connections).map {
        (Self.peerAddress($0 % configuration.peers), Self.peerQueuePair($0))
      })
    for _ in machine.nics { _ = network.addPort(configuration.link) }
    for peer in 0..<configuration.peers {
      _ = network.addPort(configuration.link)
      peers.append(try Self.peer(peer, configuration, layout))
    }
  }

  private static func peer(
    _ peer: Int, _ configuration: Configuration, _ layout: MachineLayout
  ) throws(RDMACommandError) -> Peer {
    let machine = configuration.machine
    var script = Peer.Script()
    script.seed = configuration.scriptSeed &* 31 &+ UInt64(peer)
    script.requests = machine.requests
    script.mix = machine.workload == .nic ? configuration.mix : [.writeAndSend]
    script.words = machine.words
    script.answerer = machine.answerer
    script.pauseMicroseconds = configuration.pauseMicroseconds
    script.keepsRoundTrips = configuration.keepsRoundTrips
    var connections: [Peer.Connection] = []
    for connection in stride(from: peer, to: layout.connections, by: configuration.peers) {
      connections.append(
        Peer.Connection(
          number: peerQueuePair(connection), guestNumber: MachineLayout.queuePair(connection),
          guestAddress: MachineConfiguration.networkAddress(connection / machine.connections),
          buffer: layout.buffer(connection), counter: layout.region(connection) + layout.counter,
          key: MachineLayout.key, mtuWords: machine.mtuWords, retransmission: machine.retransmission))
    }
    return try Peer(RDMANIC.Configuration(networkAddress: peerAddress(peer)), script, connections)
  }

  // MARK: Running

  /// Starts the processors and the peers.
  mutating func start() {
    drive(.startProcessors)
    for peer in peers.indices { drive(peer: peer, .start) }
  }

  /// Whether every peer has what it wanted.
  var arePeersDone: Bool { peers.allSatisfy(\.isDone) }

  /// Whether an answer to a driver's command or a flush is to come.
  var isOpen: Bool { openCommands.contains { $0 > 0 } || openFlushes.contains { $0 > 0 } }

  /// Runs up to and with that time.
  mutating func run(until end: MonotonicTime) {
    while let next = queue.nextTime, next <= end, step() {}
    now = max(now, end)
  }

  /// Runs until nothing is left to happen, or something arrives at a stopped device where that is asked for.
  mutating func runOut(toViolation: Bool = false) {
    while !(toViolation && !violations.isEmpty), step() {}
  }

  /// Runs until all commands and flushes are answered, at most up to that time. - Returns: whether they are.
  @discardableResult
  mutating func runUntilAnswered(by end: MonotonicTime) -> Bool {
    while isOpen, let next = queue.nextTime, next <= end, step() {}
    return !isOpen
  }

  /// Lets the next thing happen. - Returns: false where nothing is left, or the run has lost its way.
  mutating func step() -> Bool {
    guard events < configuration.mostEvents, let (time, event) = queue.take() else { return false }
    now = time
    events += 1
    log.add(time.microseconds)
    switch event {
    case .machine(let event): drive(.event(event))
    case .arrival(let port, let packet):
      log.add(packet.digestWord &+ UInt64(port))
      if port < machine.nics.count {
        drive(.network(packet, nic: port))
      } else {
        drive(peer: port - machine.nics.count, .packet(packet))
      }
    case .peerTimer(let peer, let timer): drive(peer: peer, .timer(timer))
    }
    return true
  }

  /// A digest of all that happened, and when.
  var digest: UInt64 {
    var digest = log
    digest.add(machine.digest.value)
    digest.add(UInt64(events))
    return digest.value
  }

  // MARK: What the machine's owner does

  mutating func startProcessors() { drive(.startProcessors) }
  mutating func stopProcessors() { drive(.stopProcessors) }

  /// A device's driver begins to take it to a state.
  mutating func setState(device: Int, to state: MigrationState) {
    openCommands[device] += 1
    drive(.setState(device: device, state))
  }

  /// Begins to read a device's configuration space.
  mutating func flush(device: Int) {
    openFlushes[device] += 1
    drive(.flush(device: device))
  }

  // MARK: Driving

  private mutating func drive(_ input: VirtualMachine.Input) {
    var outputs: [VirtualMachine.Output] = []
    swap(&outputs, &machineOutputs)
    outputs.removeAll(keepingCapacity: true)
    machine.handle(input, at: now, &random, into: &outputs)
    for output in outputs {
      switch output {
      case .later(let event, let time): queue.put(.machine(event), at: time)
      case .send(let packet, let nic): send(packet, from: nic)
      case .reached(let device, _): openCommands[device] -= 1
      case .flushed(let device): openFlushes[device] -= 1
      case .violation(let violation): violations.append(violation)
      case .halted: break
      }
    }
    swap(&outputs, &machineOutputs)
  }

  private mutating func drive(peer: Int, _ input: Peer.Input) {
    var outputs: [Peer.Output] = []
    swap(&outputs, &peerOutputs)
    outputs.removeAll(keepingCapacity: true)
    peers[peer].handle(input, at: now, into: &outputs)
    for output in outputs {
      switch output {
      case .send(let packet): send(packet, from: machine.nics.count + peer)
      case .timer(let after, let timer): queue.put(.peerTimer(peer, timer), at: now.adding(microseconds: after))
      }
    }
    swap(&outputs, &peerOutputs)
  }

  private mutating func send(_ packet: RDMAPacket, from port: Int) {
    deliveries.removeAll(keepingCapacity: true)
    network.send(packet, from: port, at: now, &random, into: &deliveries)
    for delivery in deliveries { queue.put(.arrival(port: delivery.port, delivery.packet), at: delivery.time) }
  }
}

extension RDMAPacket {
  /// What of a packet goes into the digest of a run.
  fileprivate var digestWord: UInt64 {
    SeededGenerator.mixed(UInt64(source) << 32 | UInt64(queuePair)) &+ UInt64(psn.value) << 8
      &+ UInt64(operation.rawValue) &+ (words.first ?? 0)
  }
}
