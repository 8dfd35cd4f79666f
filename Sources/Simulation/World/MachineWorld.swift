// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// A virtual machine on one host or two, its remote peers and the network between them, in virtual time, with one order of
/// events for a seed.
///
/// Host 0 is the source, with the guest's software running; on host 1, the destination, devices run and are empty, and
/// processors stand still until somebody has loaded what they need. Devices are numbered: NICs first, then GPUs.
struct MachineWorld: Sendable {
  enum Event: Sendable {
    case machine(host: Int, VirtualMachine.Event)
    case arrival(port: Int, RDMAPacket)
    case peerTimer(Int, Peer.Timer)
  }

  /// What somebody waits for.
  enum Answer: Hashable, Sendable {
    /// A device's driver knows that the device is in that state.
    case reached(host: Int, device: Int, MigrationState)
    /// A device's configuration space was read.
    case flushed(host: Int, device: Int)
  }

  let configuration: Configuration
  /// The machine on each host.
  var machines: [VirtualMachine]
  private(set) var peers: [Peer] = []
  private(set) var network = Network()
  private(set) var random: SeededGenerator
  private var queue = EventQueue<Event>()
  private var log = RunDigest()
  /// What nobody has taken yet.
  private var answers: [Answer] = []

  /// The virtual clock.
  private(set) var now = MonotonicTime(microseconds: 0)
  /// How many events there were.
  private(set) var events = 0
  /// What was done to or by stopped devices.
  private(set) var violations: [MachineViolation] = []
  /// States that devices entered, in truth, in the order of time.
  private(set) var stateChanges: [MachineStateChange] = []
  /// For how long each NIC served on no host.
  private(set) var networkTimes: MachineNetworkTimes
  /// Whether the guest has reset a device, by device.
  var guestResets: [Bool]
  /// Commands and flushes without an answer, by host and device.
  private(set) var openCommands: [[Int]]
  private(set) var openFlushes: [[Int]]
  /// How many these are in all.
  private var openAnswers = 0

  private var machineOutputs: [VirtualMachine.Output] = []
  private var peerOutputs: [Peer.Output] = []
  private var deliveries: [Network.Delivery] = []

  static func peerAddress(_ peer: Int) -> UInt32 { 100 + UInt32(peer) }
  static func peerQueuePair(_ connection: Int) -> UInt32 { UInt32(0x40_0001 + connection * 101) & 0xff_ffff }

  init(_ configuration: Configuration, seed: UInt64) throws(RDMACommandError) {
    self.configuration = configuration
    random = SeededGenerator(seed: seed)
    let devices = configuration.machine.devices
    machines = (0..<configuration.hosts).map { VirtualMachine(configuration.machine, host: $0) }
    networkTimes = MachineNetworkTimes(nics: configuration.machine.nics)
    guestResets = Array(repeating: false, count: devices)
    openCommands = Array(repeating: Array(repeating: 0, count: devices), count: configuration.hosts)
    openFlushes = openCommands
    let layout = machines[0].layout
    try machines[0].setUpGuest(
      (0..<layout.connections).map {
        (Self.peerAddress($0 % configuration.peers), Self.peerQueuePair($0))
      })
    for _ in 0..<configuration.hosts * configuration.machine.nics { _ = network.addPort(configuration.link) }
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
    script.firstRequestAt = configuration.firstRequestAt
    script.startMicroseconds = configuration.startMicroseconds
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

  /// Starts host 0's processors and the peers.
  mutating func start() {
    startProcessors(host: 0)
    for peer in peers.indices { drive(peer: peer, .start) }
  }

  /// Whether every peer has what it wanted.
  var arePeersDone: Bool {
    // By index, because a peer is large and this is asked for each event.
    for peer in peers.indices where !peers[peer].isDone { return false }
    return true
  }

  /// Whether an answer to a driver's command or a flush is to come.
  var isOpen: Bool { openAnswers > 0 }

  /// The time of what happens next; nil where nothing is left to happen.
  var nextTime: MonotonicTime? { queue.nextTime }

  /// Nothing happens up to that time.
  mutating func wait(until time: MonotonicTime) { now = max(now, time) }

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
    now = max(now, time)
    events += 1
    switch event {
    case .machine(let host, let event):
      log.add(time.microseconds << 1 | UInt64(host))
      drive(.event(event), host: host)
    case .arrival(let port, let packet):
      log.add(time.microseconds)
      log.add(packet.digestWord &+ UInt64(port))
      let nics = configuration.machine.nics
      if port < firstPeerPort {
        drive(.network(packet, nic: port % nics), host: port / nics)
      } else {
        drive(peer: port - firstPeerPort, .packet(packet))
      }
    case .peerTimer(let peer, let timer):
      log.add(time.microseconds)
      drive(peer: peer, .timer(timer))
    }
    return true
  }

  /// A digest of all that happened, and when.
  var digest: UInt64 {
    var digest = log
    for machine in machines { digest.add(machine.digest.value) }
    digest.add(UInt64(events))
    return digest.value
  }

  /// Notes what was done from outside, so that it is in the digest.
  mutating func note(_ action: MachineAction, host: Int, number: Int = 0, _ value: UInt64 = 0) {
    log.add(UInt64(action.rawValue) << 56 ^ UInt64(host) << 48 ^ UInt64(truncatingIfNeeded: number))
    log.add(value)
  }

  // MARK: Answers

  /// Whether there are answers that were not taken yet.
  var hasAnswers: Bool { !answers.isEmpty }

  /// The answers since they were last taken, in their order.
  mutating func takeAnswers() -> [Answer] {
    defer { answers = [] }
    return answers
  }

  /// A command was sent, whose answer is to come.
  mutating func expectReached(host: Int, device: Int) {
    openCommands[host][device] += 1
    openAnswers += 1
  }

  /// A flush was sent, whose answer is to come.
  mutating func expectFlushed(host: Int, device: Int) {
    openFlushes[host][device] += 1
    openAnswers += 1
  }

  /// Commands that will never be answered are not waited for.
  mutating func forgetCommands(host: Int, device: Int) {
    openAnswers -= openCommands[host][device]
    openCommands[host][device] = 0
  }

  /// An answer has come.
  private mutating func take(_ answer: Answer) {
    switch answer {
    case .reached(let host, let device, _): openCommands[host][device] -= 1
    case .flushed(let host, let device): openFlushes[host][device] -= 1
    }
    openAnswers -= 1
    answers.append(answer)
  }

  // MARK: Driving

  /// Before it are the NICs' ports, host by host.
  private var firstPeerPort: Int { configuration.hosts * configuration.machine.nics }

  /// Gives a host's machine an input, and makes later events of what comes of it.
  mutating func drive(_ input: VirtualMachine.Input, host: Int) {
    var outputs: [VirtualMachine.Output] = []
    swap(&outputs, &machineOutputs)
    outputs.removeAll(keepingCapacity: true)
    machines[host].handle(input, at: now, &random, into: &outputs)
    for output in outputs {
      switch output {
      case .later(let event, let time): queue.put(.machine(host: host, event), at: time)
      case .send(let packet, let nic): send(packet, from: host * configuration.machine.nics + nic)
      case .reached(let device, let state): take(.reached(host: host, device: device, state))
      case .flushed(let device): take(.flushed(host: host, device: device))
      case .entered(let device, let state):
        stateChanges.append(MachineStateChange(time: now, host: host, device: device, state: state))
      case .serves(let nic, let isServing): networkTimes.note(nic, isServing: isServing, at: now)
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
      case .send(let packet): send(packet, from: firstPeerPort + peer)
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
