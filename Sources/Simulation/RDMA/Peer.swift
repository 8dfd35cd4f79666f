// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// A remote host that never learns of a migration: a NIC of the same kind, memory, and on each connection an application
/// that sends a request, waits for the answer, and looks whether it is the right one.
struct Peer: Sendable {
  /// What its applications do.
  struct Script: Hashable, Sendable {
    var seed: UInt64 = 1
    /// Requests of each connection; nil goes on until ``Peer/stop()``.
    var requests: Int?
    /// What it asks for, each as likely as the others.
    var mix: [PeerRequest] = [.writeAndSend]
    /// Who in the guest answers.
    var answerer = PeerAnswerer.processor
    /// Words of data of a request: 1 to 1,024.
    var words = 8
    /// Microseconds between an answer and the next request.
    var pauseMicroseconds: UInt64 = 0
    /// First requests are spread over so many microseconds, from that time after the start on; 0 is all at once.
    var firstRequestAt: UInt64 = 0
    var startMicroseconds: UInt64 = 0
    /// Whether to keep every round trip, for a drawing.
    var keepsRoundTrips = false

    init() {}
  }

  /// A connection to a guest.
  struct Connection: Hashable, Sendable {
    /// The peer's own queue pair and the guest's.
    var number: UInt32
    var guestNumber: UInt32
    var guestAddress: UInt32
    /// Where in the guest's memory this connection may write ``Script/words`` words, and a word for atomics; the latter
    /// is 0 at first.
    var buffer: UInt64
    var counter: UInt64
    var key: UInt32
    var mtuWords = 8
    var retransmission = RetransmissionSettings()
    var firstPSN = PacketSequenceNumber(0)
    var firstGuestPSN = PacketSequenceNumber(0)
  }

  enum Timer: Hashable, Sendable {
    case nic(RDMATimer)
    /// A connection's pause is over, or its turn to begin has come.
    case pause(connection: Int)
  }

  enum Input: Sendable {
    case packet(RDMAPacket)
    case timer(Timer)
    /// Every connection sends its first request, at once or in its turn.
    case start
  }

  enum Output: Hashable, Sendable {
    case send(RDMAPacket)
    case timer(after: UInt64, Timer)
  }

  let script: Script
  private(set) var nic: RDMANIC
  /// What it saw.
  private(set) var observations = PeerObservations()
  private(set) var connections: [PeerConnection] = []
  private var memory: PagedMemory
  private var connectionIndex = NumberIndex()
  private var completionsTaken: UInt32 = 0
  private var isStopping = false

  private static let completionQueue: UInt32 = 1
  private static let key: UInt32 = 1
  private static let completions = RDMAQueuePairAttributes.Ring(address: 0, depth: 256)

  /// - Parameter configuration: of its NIC, which is its own.
  init(
    _ configuration: RDMANIC.Configuration, _ script: Script, _ connections: [Connection]
  ) throws(RDMACommandError) {
    self.script = script
    nic = RDMANIC(configuration)
    let shared = Int(Self.completions.depth) * RDMACompletion.slotWords
    let each = PeerConnection.memoryWords(script)
    memory = PagedMemory(pages: (shared + each * connections.count) / Page.words)
    try nic.makeCompletionQueue(Self.completionQueue, ring: Self.completions)
    try nic.register(
      RDMAMemoryRegion(key: Self.key, address: 0, bytes: Page.address(memory.pages), access: .everything))
    self.connections.reserveCapacity(connections.count)
    for (index, connection) in connections.enumerated() {
      let places = PeerConnection(connection, script, key: Self.key, firstWord: shared + each * index)
      connectionIndex.set(connection.number, to: index)
      try nic.makeQueuePair(
        RDMAQueuePairAttributes(
          number: connection.number, peerAddress: connection.guestAddress, peerNumber: connection.guestNumber,
          sendQueue: places.sendQueue, receiveQueue: places.receiveQueue, sendCompletions: Self.completionQueue,
          receiveCompletions: Self.completionQueue, mtuWords: connection.mtuWords,
          retransmission: connection.retransmission, firstPSN: connection.firstPSN,
          firstPeerPSN: connection.firstGuestPSN))
      self.connections.append(places)
    }
  }

  /// Lets connections finish the request that they are at, and send no other.
  mutating func stop() { isStopping = true }

  /// Whether every connection has done what the script says, or failed.
  var isDone: Bool { observations.idleConnections == connections.count }

  /// Takes an input, and appends what comes of it.
  mutating func handle(_ input: Input, at now: MonotonicTime, into outputs: inout [Output]) {
    switch input {
    case .packet(let packet): drive([.packet(packet)], at: now, into: &outputs)
    case .timer(.nic(let timer)): drive([.timer(timer)], at: now, into: &outputs)
    case .timer(.pause(let connection)): drive(next(connection, at: now), at: now, into: &outputs)
    case .start:
      observations.start(at: now)
      for index in connections.indices {
        let doorbell = connections[index].postFirstReceives(&memory)
        drive([.doorbell(doorbell)], at: now, into: &outputs)
        let turn = script.firstRequestAt + script.startMicroseconds * UInt64(index) / UInt64(connections.count)
        if turn > 0 {
          outputs.append(.timer(after: turn, .pause(connection: index)))
        } else {
          drive(next(index, at: now), at: now, into: &outputs)
        }
      }
    }
  }

  /// Lets the NIC work on inputs, and on what its own memory and applications make of them at once.
  private mutating func drive(_ inputs: [RDMANIC.Input], at now: MonotonicTime, into outputs: inout [Output]) {
    var inputs = inputs
    var taken = 0
    var results: [RDMANIC.Output] = []
    while taken < inputs.count {
      results.removeAll(keepingCapacity: true)
      nic.handle(inputs[taken], at: now, into: &results)
      taken += 1
      for result in results {
        switch result {
        case .send(let packet): outputs.append(.send(packet))
        case .timer(let after, let timer): outputs.append(.timer(after: after, .nic(timer)))
        case .fabric(.write(let address, let words)): memory.write(address, words)
        case .fabric(.read(let address, let words, let tag)):
          inputs.append(.readReply(tag: tag, words: memory.read(address, words) ?? []))
        case .fabric(.interrupt): takeCompletions(at: now, &inputs, &outputs)
        case .quiesced, .violation: break
        }
      }
    }
  }

  private mutating func takeCompletions(
    at now: MonotonicTime, _ inputs: inout [RDMANIC.Input], _ outputs: inout [Output]
  ) {
    while true {
      let slot = Self.completions.address(of: completionsTaken, slotWords: RDMACompletion.slotWords)
      guard RDMACompletion.isWritten(memory.word(slot) ?? 0, number: completionsTaken),
        let completion = RDMACompletion(
          slot: memory.read(slot, RDMACompletion.slotWords) ?? [], number: completionsTaken)
      else { return }
      completionsTaken &+= 1
      guard let index = connectionIndex[completion.queuePair] else { continue }
      guard completion.status == .success else {
        if connections[index].fail() { observations.fail(index, completion.status, at: now) }
        continue
      }
      if completion.isReceive {
        inputs.append(.doorbell(connections[index].takeReply(completion, &memory, &observations, index, at: now)))
      } else {
        connections[index].takeCompletion(memory, &observations, index, at: now)
      }
      guard connections[index].finishRequest() else { continue }
      if script.pauseMicroseconds > 0 {
        outputs.append(.timer(after: script.pauseMicroseconds, .pause(connection: index)))
      } else {
        inputs += next(index, at: now)
      }
    }
  }

  /// Posts the next request of a connection. - Returns: its doorbell; nothing, where there is no request to send.
  private mutating func next(_ index: Int, at now: MonotonicTime) -> [RDMANIC.Input] {
    guard !connections[index].isIdle else { return [] }
    guard !isStopping, script.requests.map({ connections[index].finished < $0 }) ?? true else {
      connections[index].isIdle = true
      observations.idleConnections += 1
      return []
    }
    return [.doorbell(connections[index].post(&memory, at: now))]
  }
}
