// SPDX-License-Identifier: Apache-2.0
import Migration

@testable import Simulation

/// What a test's world is like.
struct RDMAWorldOptions {
  enum Way: CaseIterable {
    /// To the destination.
    case moves
    /// It is stopped, and resumed where it is.
    case comesBack
    /// It is resumed from the P2P state.
    case comesBackFromQuiet
    /// It is resumed before it was quiet.
    case comesBackAtOnce
  }

  var peers = 1
  var connections = 2
  var mtuWords = 8
  var retransmission = RetransmissionSettings()
  var firstPSN = PacketSequenceNumber(0)
  var link = NetworkLink()
  var script = Peer.Script()
  var guestNIC = RDMANIC.Configuration(networkAddress: EchoGuest.networkAddress)
  /// Microseconds at which a migration begins; nil is none.
  var freezeAt: UInt64?
  /// Which way the guest's NIC goes.
  var way = Way.moves
  /// Microseconds at which all records are taken ahead of the stop; at the stop those that changed since are.
  var preCopyAt: UInt64?
  /// Microseconds for which the guest's NIC is nowhere.
  var downtime: UInt64 = 1000
  /// The guest's processors run on until the NIC is stopped.
  var processorsRunLong = false
  /// A record of the image is damaged on its way.
  var damage: (@Sendable (_ record: Int, _ words: inout [UInt64]) -> Void)?
  /// Doorbells that come while the NIC is suspended are lost.
  var losesDoorbells = false

  init() {
    retransmission.baseMicroseconds = 500
    retransmission.limitMicroseconds = 100_000
  }

  /// Connections are dealt out to the peers in turn.
  func peer(of connection: Int) -> (peer: Int, connection: Int) { (connection % peers, connection / peers) }
}

/// A guest with a NIC, peers, and a network between them, in virtual time.
struct RDMAWorld {
  enum Event: Sendable {
    case deliver(port: Int, RDMAPacket)
    case peerTimer(Int, Peer.Timer)
    case timer(host: Int, RDMATimer)
    case read(host: Int, address: UInt64, words: Int, tag: UInt32)
    case answer(connection: Int, receive: UInt32, words: Int)
    case preCopy, suspendActive, suspendPassive, load, resume, comeBack
  }

  static func peerAddress(_ peer: Int) -> UInt32 { 100 + UInt32(peer) }
  static func peerNumber(_ connection: Int) -> UInt32 { UInt32(0x40_0001 + connection * 101) & 0xff_ffff }

  let options: RDMAWorldOptions
  var guest: EchoGuest
  /// The guest's NIC on the source, and on the destination.
  var nics: [RDMANIC]
  var peers: [Peer] = []
  var network = Network()
  var random: SeededGenerator
  var queue = EventQueue<Event>()
  var now = MonotonicTime(microseconds: 0)
  /// The host on which the guest is.
  var host = 0
  var processorsRun = true
  var deferred: [Event] = []
  var image: [[UInt64]] = []
  var violations: [String] = []
  var events = 0
  /// When the NIC was told to be quiet, and when it was.
  var quietAt: UInt64?
  private var nicOutputs: [RDMANIC.Output] = []
  private var peerOutputs: [Peer.Output] = []
  private var deliveries: [Network.Delivery] = []

  init(_ options: RDMAWorldOptions, seed: UInt64) throws {
    self.options = options
    random = SeededGenerator(seed: seed)
    guest = EchoGuest(connections: options.connections, words: options.script.words)
    nics = [RDMANIC(options.guestNIC), RDMANIC(options.guestNIC)]
    _ = network.addPort(options.link)
    _ = network.addPort(options.link)
    network.setConnected(false, port: 1)
    try guest.setUp(&nics[0], options)
    for peer in 0..<options.peers {
      _ = network.addPort(options.link)
      var script = options.script
      script.seed = seed &* 31 &+ UInt64(peer)
      var connections: [Peer.Connection] = []
      for index in 0..<options.connections where options.peer(of: index).peer == peer {
        let connection = guest.connections[index]
        connections.append(
          Peer.Connection(
            number: Self.peerNumber(options.peer(of: index).connection), guestNumber: connection.number,
            guestAddress: EchoGuest.networkAddress, buffer: connection.buffer, counter: connection.counter,
            key: EchoGuest.key, mtuWords: options.mtuWords, retransmission: options.retransmission,
            firstPSN: options.firstPSN, firstGuestPSN: options.firstPSN.advanced(by: 5)))
      }
      let configuration = RDMANIC.Configuration(networkAddress: Self.peerAddress(peer))
      peers.append(try Peer(configuration, script, connections))
    }
    for index in guest.connections.indices {
      for _ in 0..<EchoGuest.receiveDepth { ring(guest.postReceive(index)) }
    }
    if let freeze = options.freezeAt { queue.put(.suspendActive, at: MonotonicTime(microseconds: freeze)) }
    if let time = options.preCopyAt { queue.put(.preCopy, at: MonotonicTime(microseconds: time)) }
    for index in peers.indices { drive(peer: index, .start) }
  }

  var isDone: Bool { peers.allSatisfy(\.isDone) }
  var mismatches: Int { peers.reduce(0) { $0 + $1.observations.mismatches.count } }
  var failures: [PeerObservations.Failure] { peers.flatMap(\.observations.failures) }
  var answered: Int { peers.reduce(0) { $0 + $1.observations.answered } }

  /// Runs until every peer is done, or that many events have happened.
  mutating func run(events most: Int = 1_000_000) {
    while !isDone, events < most, step() {}
  }

  /// Runs until nothing is left to happen.
  mutating func runOut(events most: Int = 1_000_000) {
    while events < most, step() {}
  }

  mutating func step() -> Bool {
    guard let (time, event) = queue.take() else { return false }
    now = time
    events += 1
    happen(event)
    return true
  }

  private mutating func happen(_ event: Event) {
    switch event {
    case .deliver(let port, let packet):
      if port >= 2 { drive(peer: port - 2, .packet(packet)) } else { drive(host: port, .packet(packet)) }
    case .peerTimer(let peer, let timer): drive(peer: peer, .timer(timer))
    case .timer(let host, let timer): drive(host: host, .timer(timer))
    case .read(let host, let address, let words, let tag):
      drive(host: host, .readReply(tag: tag, words: guest.memory.read(address, words) ?? []))
    case .answer(let index, let receive, let words):
      guard processorsRun else { return deferred.append(event) }
      guard let doorbells = guest.answer(index, receive: receive, words: words) else {
        return queue.put(event, at: now.adding(microseconds: 5))
      }
      for doorbell in doorbells { ring(doorbell) }
    case .preCopy:
      image = (0..<nics[0].recordCount).map { nics[0].record($0) }
      _ = nics[0].takeChangedRecords()
    case .suspendActive:
      processorsRun = options.processorsRunLong
      drive(host: host, .suspendActive)
      if options.way == .comesBackAtOnce { queue.put(.comeBack, at: now.adding(microseconds: 1)) }
    case .suspendPassive:
      processorsRun = false
      drive(host: host, .suspendPassive)
      let whole = (0..<nics[host].recordCount).map { nics[host].record($0) }
      if options.preCopyAt == nil { image = whole }
      for record in nics[host].takeChangedRecords() { image[record] = nics[host].record(record) }
      if image != whole { violations.append("a change was not noted") }
      network.setConnected(false, port: host)
      queue.put(options.way == .moves ? .load : .resume, at: now.adding(microseconds: options.downtime))
    case .load: load()
    case .resume:
      network.setConnected(true, port: host)
      drive(host: host, .resumePassive)
      resume()
    case .comeBack: resume()
    }
  }

  private mutating func resume() {
    drive(host: host, .resumeActive)
    processorsRun = true
    for event in deferred { queue.put(event, at: now) }
    deferred = []
  }

  private mutating func load() {
    host = 1
    drive(host: 1, .suspendPassive)
    do {
      for (index, record) in image.enumerated() {
        var words = record
        options.damage?(index, &words)
        try nics[1].load(index, words)
      }
      try nics[1].checkLoaded()
    } catch {
      violations.append("loading: \(error)")
    }
    if options.damage == nil, (0..<nics[1].recordCount).map({ nics[1].record($0) }) != image {
      violations.append("what was loaded is not what was saved")
    }
    queue.put(.resume, at: now)
  }

  mutating func ring(_ doorbell: RDMADoorbell) {
    if options.losesDoorbells, nics[host].activity != .running { return }
    drive(host: host, .doorbell(doorbell))
  }

  mutating func drive(peer index: Int, _ input: Peer.Input) {
    peerOutputs.removeAll(keepingCapacity: true)
    peers[index].handle(input, at: now, into: &peerOutputs)
    for output in peerOutputs {
      switch output {
      case .send(let packet): send(packet, from: index + 2)
      case .timer(let after, let timer): queue.put(.peerTimer(index, timer), at: now.adding(microseconds: after))
      }
    }
  }

  mutating func drive(host: Int, _ input: RDMANIC.Input) {
    var outputs: [RDMANIC.Output] = []
    swap(&outputs, &nicOutputs)
    outputs.removeAll(keepingCapacity: true)
    let wasActive = nics[host].resources.isActive
    nics[host].handle(input, at: now, into: &outputs)
    if !wasActive, !nics[host].resources.isActive, outputs.contains(where: \.isTransfer) {
      violations.append("a suspended NIC did \(outputs)")
    }
    for output in outputs {
      switch output {
      case .send(let packet): send(packet, from: host)
      case .timer(let after, let timer): queue.put(.timer(host: host, timer), at: now.adding(microseconds: after))
      case .fabric(.write(let address, let words)):
        if !guest.memory.write(address, words) { violations.append("a write to \(address)") }
      case .fabric(.read(let address, let words, let tag)):
        let delay = 1 + UInt64(random.next(below: 4))
        queue.put(.read(host: host, address: address, words: words, tag: tag), at: now.adding(microseconds: delay))
      case .fabric(.interrupt):
        for (connection, receive, words) in guest.takeCompletions() {
          let delay = 1 + UInt64(random.next(below: 6))
          queue.put(
            .answer(connection: connection, receive: receive, words: words), at: now.adding(microseconds: delay))
        }
      case .quiesced:
        quietAt = now.microseconds
        guard options.way != .comesBackAtOnce else { continue }
        let next = options.way == .comesBackFromQuiet ? Event.comeBack : .suspendPassive
        queue.put(next, at: now.adding(microseconds: 10))
      case .violation(let violation): violations.append("\(violation)")
      }
    }
    swap(&outputs, &nicOutputs)
  }

  private mutating func send(_ packet: RDMAPacket, from port: Int) {
    deliveries.removeAll(keepingCapacity: true)
    network.send(packet, from: port, at: now, &random, into: &deliveries)
    for delivery in deliveries { queue.put(.deliver(port: delivery.port, delivery.packet), at: delivery.time) }
  }

  /// What has to hold at the end of a run in which every connection was to survive; empty where it does.
  var breaches: [String] {
    var found = violations + guest.complaints
    if !isDone { found.append("not done at \(now.microseconds)") }
    if !failures.isEmpty { found.append("failures: \(failures)") }
    if mismatches > 0 { found.append("\(mismatches) mismatches") }
    if guest.failed > 0 { found.append("\(guest.failed) completions with an error") }
    if let requests = options.script.requests, answered != requests * options.connections {
      found.append("\(answered) answers")
    }
    return found
  }
}

extension RDMANIC.Output {
  /// Whether something leaves the NIC.
  var isTransfer: Bool {
    switch self {
    case .fabric, .send: true
    case .timer, .quiesced, .violation: false
    }
  }
}
