// SPDX-License-Identifier: Apache-2.0

/// What software sets when it makes a queue pair. All of it is in the image.
struct RDMAQueuePairAttributes: Hashable, Sendable {
  /// The states of a queue pair, with the numbers that the InfiniBand verbs give them. Each survives a migration (DA2).
  enum State: UInt8, Hashable, Sendable {
    case reset = 0
    case initialized = 1
    case readyToReceive = 2
    case readyToSend = 3
    case error = 6
  }

  /// A queue in memory: so many slots, from an address on.
  struct Ring: Hashable, Sendable {
    var address: UInt64
    /// Slots: a power of two, so that an index that wraps around finds its slot.
    var depth: UInt32

    static let mostDepth: UInt32 = 1 << 18

    var isValid: Bool {
      depth > 0 && depth <= Self.mostDepth && depth & (depth - 1) == 0 && Page.wordIndex(address) != nil
    }

    func slot(_ index: UInt32) -> Int { Int(index & (depth - 1)) }

    func address(of index: UInt32, slotWords: Int) -> UInt64 {
      Page.advanced(address, by: slot(index) * slotWords)
    }
  }

  /// The number, 24 bits.
  var number: UInt32
  var state = State.readyToSend
  var peerAddress: UInt32
  var peerNumber: UInt32
  var sendQueue: Ring
  var receiveQueue: Ring
  var sendCompletions: UInt32
  var receiveCompletions: UInt32
  /// Words of the largest packet.
  var mtuWords = 8
  var retransmission = RetransmissionSettings()
  /// The PSN of the first packet that it sends.
  var firstPSN = PacketSequenceNumber(0)
  /// The PSN of the first packet that the peer sends.
  var firstPeerPSN = PacketSequenceNumber(0)

  static let mostMTUWords = 512

  /// Whether every value by itself is one that a queue pair can have.
  var isValid: Bool {
    number < 1 << 24 && peerNumber < 1 << 24 && sendQueue.isValid && receiveQueue.isValid
      && 1...Self.mostMTUWords ~= mtuWords && retransmission.isValid
  }
}

/// One end of a reliable connection.
///
/// What stands before ``transient`` is what a migration takes along; what is in ``transient`` a resume finds again.
struct RDMAQueuePair: Sendable {
  var attributes: RDMAQueuePairAttributes
  /// Its place among the NIC's queue pairs.
  let index: Int
  /// The number of its record in the image.
  let record: Int

  // The requester.

  /// Indices of work requests, from the oldest that is not finished to the last that a doorbell told of.
  var consumer: UInt32 = 0
  var posted: UInt32 = 0
  /// Where messages are drained: what doorbells told of since that began. It becomes ``posted`` on resume.
  var heldBack: UInt32?
  /// The PSN of the first packet of the oldest work request that is not finished.
  var consumerPSN: PacketSequenceNumber
  /// The oldest packet without an acknowledgement.
  var unacknowledged: PacketSequenceNumber
  /// The packet after the last that was ever sent.
  var highest: PacketSequenceNumber

  // The responder.

  var receiveConsumer: UInt32 = 0
  var receivesPosted: UInt32 = 0
  /// The packet that is to come next.
  var expected: PacketSequenceNumber
  var inbound = Inbound.nothing
  /// Answers to the last atomics, oldest first, so that none is executed twice.
  var atomicReplies: [AtomicReply] = []

  var transient: Transient

  /// The message that is coming in, of which the last packet was not seen.
  enum Inbound: Hashable, Sendable {
    case nothing
    /// A send, so many words of which are in the oldest receive.
    case send(words: Int)
    /// A write: where the rest of it goes, and how much that is.
    case write(address: UInt64, key: UInt32, words: Int)
  }

  struct AtomicReply: Hashable, Sendable {
    let psn: PacketSequenceNumber
    let original: UInt64
  }

  /// The most atomic replies that are kept, and the most reads and atomics that a requester has under way.
  static let mostAtomicReplies = 4
  /// The most packets that wait for the responder.
  static let mostHeldPackets = 64

  init(_ attributes: RDMAQueuePairAttributes, index: Int, record: Int) {
    self.attributes = attributes
    self.index = index
    self.record = record
    consumerPSN = attributes.firstPSN
    unacknowledged = attributes.firstPSN
    highest = attributes.firstPSN
    expected = attributes.firstPeerPSN
    transient = Transient(next: attributes.firstPSN)
  }

  /// Whether work is posted that is not finished.
  var isBusy: Bool { consumer != posted }

  // MARK: Doorbells

  mutating func take(_ doorbell: RDMADoorbell, _ resources: inout RDMAResources) {
    let isSend = doorbell.queue == .send
    let before = isSend ? heldBack ?? posted : receivesPosted
    let depth = isSend ? attributes.sendQueue.depth : attributes.receiveQueue.depth
    let taken = doorbell.producerIndex &- (isSend ? consumer : receiveConsumer)
    let mayPost = attributes.state != .reset && (!isSend || attributes.state.rawValue >= 3)
    guard mayPost, taken <= depth, Int32(bitPattern: doorbell.producerIndex &- before) >= 0 else {
      resources.counters.badDoorbells += 1
      return
    }
    if !isSend {
      receivesPosted = doorbell.producerIndex
    } else if resources.holdsDoorbellsBack {
      heldBack = doorbell.producerIndex
    } else {
      let wasBusy = isBusy
      posted = doorbell.producerIndex
      if isBusy, !wasBusy { resources.busyQueuePairs += 1 }
    }
    if attributes.state == .error {
      fail(.flushed, &resources)
    } else if isSend {
      transmit(&resources)
    }
  }

  // MARK: Errors

  /// The connection is over: its oldest work request tells why, and everything else is flushed.
  mutating func fail(_ status: RDMACompletion.Status, _ resources: inout RDMAResources) {
    if isBusy { resources.busyQueuePairs -= 1 }
    if attributes.state != .error { resources.counters.failedQueuePairs += 1 }
    attributes.state = .error
    posted = heldBack ?? posted
    heldBack = nil
    var status = status
    while consumer != posted {
      complete(isReceive: false, status, words: 0, &resources)
      status = .flushed
    }
    while receiveConsumer != receivesPosted { complete(isReceive: true, .flushed, words: 0, &resources) }
    inbound = .nothing
    transient.rest(next: unacknowledged)
    resources.releaseAtomicUnit(of: index)
  }

  /// Tells of the oldest work request or receive, and is done with it.
  mutating func complete(
    isReceive: Bool, _ status: RDMACompletion.Status, words: Int, _ resources: inout RDMAResources
  ) {
    let completion = RDMACompletion(
      queuePair: attributes.number, isReceive: isReceive, status: status,
      workIndex: isReceive ? receiveConsumer : consumer, words: words)
    resources.complete(completion, isReceive ? attributes.receiveCompletions : attributes.sendCompletions)
    if isReceive { receiveConsumer &+= 1 } else { consumer &+= 1 }
  }

  // MARK: Packets

  /// A packet to the peer.
  func packet(
    _ operation: RDMAPacket.Operation, _ psn: PacketSequenceNumber, _ resources: RDMAResources
  ) -> RDMAPacket {
    RDMAPacket(
      source: resources.networkAddress, destination: attributes.peerAddress, queuePair: attributes.peerNumber, psn: psn,
      operation: operation)
  }

  mutating func take(_ packet: RDMAPacket, _ resources: inout RDMAResources) {
    let state = attributes.state
    guard packet.source == attributes.peerAddress, state == .readyToSend || state == .readyToReceive else {
      resources.counters.strayPackets += 1
      return
    }
    if !packet.operation.isRequest {
      if state == .readyToSend { takeReply(packet, &resources) }
    } else if transient.task == nil {
      respond(to: packet, &resources)
    } else if transient.held.count < Self.mostHeldPackets {
      transient.held.append(packet)
    } else {
      resources.counters.droppedPackets += 1
    }
  }
}

extension RDMAQueuePair {
  /// What is not in the image (DA5), because a resume finds it again: what was read from the queues in memory, reads
  /// under way, timers, retry counts, congestion, and the packets that had not been answered.
  struct Transient: Sendable {
    /// The packet to send next.
    var next: PacketSequenceNumber
    /// Work requests read from memory, from ``RDMAQueuePair/consumer`` on.
    var work: [Outstanding] = []
    /// After ``work`` comes something that is no work request.
    var hasBadWork = false
    var fetch = Fetch.nothing
    /// It waits for a read of the requester, and for one of the responder.
    var awaitsRead = false
    var awaitsResponderRead = false
    /// When the connection has waited long enough, in microseconds; the largest number where it does not wait.
    var deadline = UInt64.max
    /// When the timer that was asked for last will come; the largest number where none will.
    var timer = UInt64.max
    var timerGeneration: UInt32 = 0
    var retries = 0
    var receiverNotReadyRetries = 0
    /// The receiver had no receive posted; nothing is sent until ``deadline``.
    var awaitsReceiver = false
    /// Packets that congestion lets be under way; 0 stands for the most.
    var window = 0

    /// Receives read from memory, from ``RDMAQueuePair/receiveConsumer`` on.
    var receives: [RDMAReceive] = []
    var task: Task?
    var held: [RDMAPacket] = []
    /// A gap was reported; more of the same is not.
    var hasRefused = false

    init(next: PacketSequenceNumber) { self.next = next }

    /// Stops everything, but remembers which timers and reads are void.
    mutating func rest(next: PacketSequenceNumber) {
      let before = self
      self = Transient(next: next)
      timerGeneration = before.timerGeneration &+ 1
      fetch = before.fetch == .nothing ? .nothing : .void
      if before.task != nil { task = before.awaitsResponderRead ? nil : .void }
    }
  }

  /// A work request that is not finished, and the packets that it takes.
  struct Outstanding: Hashable, Sendable {
    let request: RDMAWorkRequest
    let firstPSN: PacketSequenceNumber
    let packets: Int

    var end: PacketSequenceNumber { firstPSN.advanced(by: packets) }
  }

  /// What the requester reads from memory.
  enum Fetch: Hashable, Sendable {
    case nothing
    case work
    /// The data of so many packets, from that one on.
    case data(first: PacketSequenceNumber, packets: Int)
    /// What nobody wants any more.
    case void
  }

  /// The request for which the responder reads memory.
  enum Task: Hashable, Sendable {
    case receives(RDMAPacket)
    case read(RDMAPacket)
    case atomic(RDMAPacket)
    /// What nobody wants any more.
    case void
  }
}
