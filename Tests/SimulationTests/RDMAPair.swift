// SPDX-License-Identifier: Apache-2.0
import Migration

@testable import Simulation

/// Two NICs with a connection between them, and memory that answers at once; a packet takes a microsecond.
///
/// Side 0 has the queue pair 5, side 1 the queue pair 9. Each has its queues below word 1,024, and its data from there.
struct RDMAPair {
  enum Event: Sendable {
    case deliver(side: Int, RDMAPacket)
    case timer(side: Int, RDMATimer)
  }

  static let key: UInt32 = 77
  static let numbers: [UInt32] = [5, 9]
  static let sendQueue = RDMAQueuePairAttributes.Ring(address: 0, depth: 32)
  static let receiveQueue = RDMAQueuePairAttributes.Ring(address: Page.address(ofWord: 256), depth: 16)
  static let completionQueue = RDMAQueuePairAttributes.Ring(address: Page.address(ofWord: 512), depth: 64)
  static let dataWords = 1024

  var nics: [RDMANIC] = []
  var memories = [PagedMemory(pages: 512), PagedMemory(pages: 512)]
  var queue = EventQueue<Event>()
  var now = MonotonicTime(microseconds: 0)
  /// Every packet that was sent.
  var sent: [RDMAPacket] = []
  /// Which packets arrive; the number counts from 0.
  var arrives: (RDMAPacket, Int) -> Bool = { _, _ in true }
  private var posted: [UInt32] = [0, 0]
  private var receives: [UInt32] = [0, 0]
  private var taken: [UInt32] = [0, 0]

  /// - Parameter region: what side 1 lets side 0 touch: data, from word 1,024 on.
  init(
    _ settings: RetransmissionSettings = .init(), firstPSN: UInt32 = 0, window: Int = 16,
    region: (words: Int, access: RDMAMemoryRegion.Access) = (1024, .everything)
  ) throws {
    for side in 0...1 {
      var configuration = RDMANIC.Configuration(networkAddress: UInt32(side))
      configuration.windowPackets = window
      var nic = RDMANIC(configuration)
      try nic.makeCompletionQueue(1, ring: Self.completionQueue)
      let bytes = Page.address(ofWord: region.words - 1) + 8
      try nic.register(
        RDMAMemoryRegion(
          key: Self.key, address: Self.data(0), bytes: side == 0 ? 1 << 20 : bytes,
          access: side == 0 ? .everything : region.access))
      try nic.makeQueuePair(
        RDMAQueuePairAttributes(
          number: Self.numbers[side], peerAddress: UInt32(1 - side), peerNumber: Self.numbers[1 - side],
          sendQueue: Self.sendQueue, receiveQueue: Self.receiveQueue, sendCompletions: 1, receiveCompletions: 1,
          retransmission: settings, firstPSN: PacketSequenceNumber(firstPSN),
          firstPeerPSN: PacketSequenceNumber(firstPSN)))
      nics.append(nic)
    }
  }

  static func data(_ word: Int) -> UInt64 { Page.address(ofWord: dataWords + word) }

  /// A work request of side 0 between its data and that of side 1.
  static func work(
    _ operation: RDMAWorkRequest.Operation, words: Int = 1, local: Int = 0, remote: Int = 0
  ) -> RDMAWorkRequest {
    RDMAWorkRequest(
      operation: operation, words: words, localAddress: data(local), localKey: key, remoteAddress: data(remote),
      remoteKey: key)
  }

  mutating func post(_ work: [RDMAWorkRequest], from side: Int = 0) {
    for request in work {
      memories[side].write(
        Self.sendQueue.address(of: posted[side], slotWords: RDMAWorkRequest.slotWords), request.slot)
      posted[side] += 1
    }
    let doorbell = RDMADoorbell(queue: .send, queuePair: Self.numbers[side], producerIndex: posted[side])
    drive(side, .doorbell(doorbell))
  }

  mutating func postReceive(words: Int, at word: Int = 0, key: UInt32 = RDMAPair.key, on side: Int = 1) {
    let receive = RDMAReceive(address: Self.data(word), key: key, words: words)
    memories[side].write(
      Self.receiveQueue.address(of: receives[side], slotWords: RDMAReceive.slotWords), receive.slot)
    receives[side] += 1
    let doorbell = RDMADoorbell(queue: .receive, queuePair: Self.numbers[side], producerIndex: receives[side])
    drive(side, .doorbell(doorbell))
  }

  /// The completions of a side that were not taken yet.
  mutating func completions(_ side: Int = 0) -> [RDMACompletion] {
    var found: [RDMACompletion] = []
    while true {
      let address = Self.completionQueue.address(of: taken[side], slotWords: RDMACompletion.slotWords)
      let slot = memories[side].read(address, RDMACompletion.slotWords) ?? []
      guard let completion = RDMACompletion(slot: slot, number: taken[side]) else { return found }
      found.append(completion)
      taken[side] += 1
    }
  }

  /// Runs until nothing is left to happen before that time.
  mutating func run(until end: UInt64 = 10_000_000) {
    while let time = queue.nextTime, time.microseconds <= end, let (_, event) = queue.take() {
      now = time
      switch event {
      case .deliver(let side, let packet): drive(side, .packet(packet))
      case .timer(let side, let timer): drive(side, .timer(timer))
      }
    }
  }

  mutating func drive(_ side: Int, _ input: RDMANIC.Input) {
    for output in nics[side].handle(input, at: now) {
      switch output {
      case .send(let packet):
        sent.append(packet)
        guard arrives(packet, sent.count - 1) else { continue }
        queue.put(.deliver(side: 1 - side, packet), at: now.adding(microseconds: 1))
      case .timer(let after, let timer): queue.put(.timer(side: side, timer), at: now.adding(microseconds: after))
      case .fabric(.write(let address, let words)): memories[side].write(address, words)
      case .fabric(.read(let address, let words, let tag)):
        drive(side, .readReply(tag: tag, words: memories[side].read(address, words) ?? []))
      case .fabric(.interrupt), .quiesced, .violation: break
      }
    }
  }
}
