// SPDX-License-Identifier: Apache-2.0
import Migration

@testable import Simulation

/// A guest whose application answers what peers ask for. It knows nothing of a migration, but that it stands still.
struct EchoGuest {
  static let key: UInt32 = 0x5a00_17
  static let networkAddress: UInt32 = 7
  static let completionQueue: UInt32 = 31
  static let sendDepth: UInt32 = 8
  static let receiveDepth: UInt32 = 4
  static let completions = RDMAQueuePairAttributes.Ring(address: 0, depth: 512)

  /// One connection's queues and buffers, and how far its application has come.
  struct Connection {
    let number: UInt32
    let sendQueue: RDMAQueuePairAttributes.Ring
    let receiveQueue: RDMAQueuePairAttributes.Ring
    let buffer: UInt64
    let counter: UInt64
    let receives: UInt64
    let replies: UInt64
    var sent: UInt32 = 0
    var completed: UInt32 = 0
    var posted: UInt32 = 0
    /// Messages that it has answered.
    var answered = 0
    var lastNumber: UInt32?
  }

  let words: Int
  var memory: PagedMemory
  var connections: [Connection] = []
  var connectionIndex = NumberIndex()
  var taken: UInt32 = 0
  /// What should never happen.
  var complaints: [String] = []
  /// Completions with an error.
  var failed = 0

  /// A sparse number for a connection.
  static func number(_ index: Int) -> UInt32 { UInt32(0x1003 + index * 37) & 0xff_ffff }

  init(connections count: Int, words: Int) {
    self.words = words
    let message = (words + 8) / 8 * 8
    let each = 64 + 16 + message + 8 + 4 * message + 8 * message
    let shared = Int(Self.completions.depth) * RDMACompletion.slotWords
    memory = PagedMemory(pages: (shared + each * count) / Page.words)
    for index in 0..<count {
      let base = shared + each * index
      func address(_ word: Int) -> UInt64 { Page.address(ofWord: base + word) }
      connectionIndex.set(Self.number(index), to: index)
      connections.append(
        Connection(
          number: Self.number(index), sendQueue: .init(address: address(0), depth: Self.sendDepth),
          receiveQueue: .init(address: address(64), depth: Self.receiveDepth), buffer: address(80),
          counter: address(80 + message), receives: address(88 + message), replies: address(88 + 5 * message)))
    }
  }

  var messageWords: Int { (words + 8) / 8 * 8 }

  func receiveBuffer(_ index: Int, _ number: UInt32) -> UInt64 {
    Page.advanced(connections[index].receives, by: Int(number % 4) * messageWords)
  }

  func replyBuffer(_ index: Int, _ number: UInt32) -> UInt64 {
    Page.advanced(connections[index].replies, by: Int(number % 8) * messageWords)
  }

  /// Sets up a NIC for it.
  func setUp(_ nic: inout RDMANIC, _ options: RDMAWorldOptions) throws {
    try nic.makeCompletionQueue(Self.completionQueue, ring: Self.completions)
    try nic.register(
      RDMAMemoryRegion(key: Self.key, address: 0, bytes: Page.address(memory.pages), access: .everything))
    for index in connections.indices {
      let peer = options.peer(of: index)
      try nic.makeQueuePair(
        RDMAQueuePairAttributes(
          number: connections[index].number, peerAddress: RDMAWorld.peerAddress(peer.peer),
          peerNumber: RDMAWorld.peerNumber(peer.connection),
          sendQueue: connections[index].sendQueue, receiveQueue: connections[index].receiveQueue,
          sendCompletions: Self.completionQueue, receiveCompletions: Self.completionQueue, mtuWords: options.mtuWords,
          retransmission: options.retransmission, firstPSN: options.firstPSN.advanced(by: 5),
          firstPeerPSN: options.firstPSN))
    }
  }

  mutating func postReceive(_ index: Int) -> RDMADoorbell {
    let connection = connections[index]
    let receive = RDMAReceive(address: receiveBuffer(index, connection.posted), key: Self.key, words: messageWords)
    memory.write(connection.receiveQueue.address(of: connection.posted, slotWords: RDMAReceive.slotWords), receive.slot)
    connections[index].posted &+= 1
    return RDMADoorbell(queue: .receive, queuePair: connection.number, producerIndex: connections[index].posted)
  }

  /// Takes the completions that are there. - Returns: the messages that came.
  mutating func takeCompletions() -> [(connection: Int, receive: UInt32, words: Int)] {
    var came: [(Int, UInt32, Int)] = []
    while true {
      let slot = Self.completions.address(of: taken, slotWords: RDMACompletion.slotWords)
      guard let completion = RDMACompletion(slot: memory.read(slot, 4) ?? [], number: taken) else {
        return came
      }
      taken &+= 1
      guard let index = connectionIndex[completion.queuePair] else {
        complaints.append("a completion of queue pair \(completion.queuePair)")
        continue
      }
      if completion.status != .success {
        failed += 1
      } else if completion.isReceive {
        came.append((index, completion.workIndex, completion.words))
      } else {
        connections[index].completed = completion.workIndex &+ 1
      }
    }
  }

  /// Answers a message. - Returns: its doorbells; nil where the queue is full.
  mutating func answer(_ index: Int, receive: UInt32, words count: Int) -> [RDMADoorbell]? {
    let connection = connections[index]
    guard connection.sent &- connection.completed < Self.sendDepth else { return nil }
    let message = memory.read(receiveBuffer(index, receive), count) ?? []
    guard let header = message.first.flatMap({ PeerHeader(word: $0) }), !header.isReply else {
      complaints.append("connection \(index): no request in \(message)")
      return []
    }
    if let last = connection.lastNumber, header.number <= last {
      complaints.append("connection \(index): request \(header.number) after \(last)")
    }
    connections[index].lastNumber = header.number
    connections[index].answered += 1
    let data =
      header.request == .send
      ? Array(message.dropFirst()) : memory.read(connection.buffer, header.words) ?? []
    let reply = [header.reply.word] + data.map { PeerRequest.answer(to: $0) }
    let buffer = replyBuffer(index, connection.sent)
    memory.write(buffer, reply)
    let work = RDMAWorkRequest(operation: .send, words: reply.count, localAddress: buffer, localKey: Self.key)
    memory.write(connection.sendQueue.address(of: connection.sent, slotWords: RDMAWorkRequest.slotWords), work.slot)
    connections[index].sent &+= 1
    return [
      postReceive(index),
      RDMADoorbell(queue: .send, queuePair: connection.number, producerIndex: connections[index].sent),
    ]
  }
}
