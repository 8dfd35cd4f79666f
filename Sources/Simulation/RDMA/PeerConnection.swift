// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// The application on one connection of a peer, and where in the peer's memory its things are.
struct PeerConnection: Sendable {
  let connection: Peer.Connection
  private let script: Peer.Script
  private let key: UInt32
  private let firstWord: Int

  /// Requests that are done.
  private(set) var finished = 0
  /// It failed, or has nothing more to do.
  var isIdle = false

  private var workPosted: UInt32 = 0
  private var receivesPosted: UInt32 = 0
  private var request = PeerRequest.send
  private var isOpen = false
  private var isSent = false
  private var isAnswered = false
  private var postedAt = MonotonicTime(microseconds: 0)
  /// The number of the last request that wrote the guest's buffer.
  private var lastWritten: UInt32?
  /// What has to be in the guest's word for atomics.
  private var counter: UInt64 = 0

  private static let sendDepth: UInt32 = 4
  private static let receiveDepth: UInt32 = 2

  init(_ connection: Peer.Connection, _ script: Peer.Script, key: UInt32, firstWord: Int) {
    self.connection = connection
    self.script = script
    self.key = key
    self.firstWord = firstWord
  }

  // MARK: Places in memory

  private static var queueWords: Int {
    Int(sendDepth) * RDMAWorkRequest.slotWords + Int(receiveDepth) * RDMAReceive.slotWords
  }

  /// Words of memory that a connection needs: its queues, a message to send, data, and a message for each receive.
  static func memoryWords(_ script: Peer.Script) -> Int {
    let words = queueWords + (1 + script.words) * (1 + Int(receiveDepth)) + script.words
    // Queues begin where a page does.
    return (words + Page.words - 1) / Page.words * Page.words
  }

  private func address(_ word: Int) -> UInt64 { Page.address(ofWord: firstWord + word) }

  var sendQueue: RDMAQueuePairAttributes.Ring { .init(address: address(0), depth: Self.sendDepth) }
  var receiveQueue: RDMAQueuePairAttributes.Ring {
    .init(address: address(Int(Self.sendDepth) * RDMAWorkRequest.slotWords), depth: Self.receiveDepth)
  }
  private var message: UInt64 { address(Self.queueWords) }
  private var data: UInt64 { address(Self.queueWords + 1 + script.words) }
  private func receiveBuffer(_ index: UInt32) -> UInt64 {
    address(Self.queueWords + (1 + script.words) * (1 + Int(index % Self.receiveDepth)) + script.words)
  }

  // MARK: Requests

  private func word(_ number: UInt32, _ word: Int) -> UInt64 {
    PeerRequest.word(seed: script.seed, queuePair: connection.number, number: number, word: word)
  }

  private func words(_ number: UInt32) -> [UInt64] { (0..<script.words).map { word(number, $0) } }

  /// The number of the request at hand.
  private var number: UInt32 { UInt32(truncatingIfNeeded: finished) }

  /// What the request at hand is: what was never written can't be read back.
  private var choice: PeerRequest {
    let choice = script.mix[Int(word(number, -1) % UInt64(script.mix.count))]
    return choice == .read && lastWritten == nil ? .writeAndSend : choice
  }

  /// Posts the request at hand. - Returns: its doorbell.
  mutating func post(_ memory: inout PagedMemory, at now: MonotonicTime) -> RDMADoorbell {
    request = choice
    isOpen = true
    isSent = false
    isAnswered = !request.wantsReply
    postedAt = now
    let header = PeerHeader(request: request, words: script.words, number: number)
    switch request {
    case .writeAndSend:
      memory.write(data, words(number))
      memory.write(message, [header.word])
      var write = work(.write, words: script.words, at: data, connection.buffer)
      write.isSignaled = false
      put(write, &memory)
      put(work(.send, words: 1, at: message, 0), &memory)
      lastWritten = number
    case .send:
      memory.write(message, [header.word] + words(number))
      put(work(.send, words: 1 + script.words, at: message, 0), &memory)
    case .read: put(work(.read, words: script.words, at: data, connection.buffer), &memory)
    case .fetchAdd, .compareSwap:
      var atomic = work(request == .fetchAdd ? .fetchAdd : .compareSwap, words: 1, at: data, connection.counter)
      atomic.operand = word(number, 0)
      atomic.compared = counter
      put(atomic, &memory)
    }
    return RDMADoorbell(queue: .send, queuePair: connection.number, producerIndex: workPosted)
  }

  private func work(
    _ operation: RDMAWorkRequest.Operation, words: Int, at address: UInt64, _ remote: UInt64
  ) -> RDMAWorkRequest {
    RDMAWorkRequest(
      operation: operation, words: words, localAddress: address, localKey: key, remoteAddress: remote,
      remoteKey: connection.key)
  }

  private mutating func put(_ work: RDMAWorkRequest, _ memory: inout PagedMemory) {
    memory.write(sendQueue.address(of: workPosted, slotWords: RDMAWorkRequest.slotWords), work.slot)
    workPosted &+= 1
  }

  // MARK: Answers

  /// Posts a receive for each place that there is. - Returns: the doorbell.
  mutating func postFirstReceives(_ memory: inout PagedMemory) -> RDMADoorbell {
    for _ in 1..<Self.receiveDepth { _ = postReceive(&memory) }
    return postReceive(&memory)
  }

  private mutating func postReceive(_ memory: inout PagedMemory) -> RDMADoorbell {
    let receive = RDMAReceive(address: receiveBuffer(receivesPosted), key: key, words: 1 + script.words)
    memory.write(receiveQueue.address(of: receivesPosted, slotWords: RDMAReceive.slotWords), receive.slot)
    receivesPosted &+= 1
    return RDMADoorbell(queue: .receive, queuePair: connection.number, producerIndex: receivesPosted)
  }

  /// A message has come from the guest. - Returns: the doorbell of the receive that takes its place.
  mutating func takeReply(
    _ completion: RDMACompletion, _ memory: inout PagedMemory, _ observations: inout PeerObservations, _ index: Int,
    at now: MonotonicTime
  ) -> RDMADoorbell {
    let reply = memory.read(receiveBuffer(completion.workIndex), completion.words) ?? []
    let header = PeerHeader(request: request, isReply: true, words: script.words, number: number)
    let isRight =
      isOpen && !isAnswered && completion.words == 1 + script.words && reply.first == header.word
      && (0..<script.words).allSatisfy {
        reply[1 + $0] == script.answerer.answer(to: word(number, $0), at: $0)
      }
    if isRight {
      isAnswered = true
      observations.answer(postedAt: postedAt, at: now, keep: script.keepsRoundTrips)
    } else {
      observations.mismatch(index, number, at: now)
    }
    return postReceive(&memory)
  }

  /// The request's last work request is done.
  mutating func takeCompletion(
    _ memory: PagedMemory, _ observations: inout PeerObservations, _ index: Int, at now: MonotonicTime
  ) {
    isSent = true
    var isRight = isOpen
    switch request {
    case .writeAndSend, .send: break
    case .read: isRight = isOpen && memory.read(data, script.words) == words(lastWritten ?? 0)
    case .fetchAdd, .compareSwap:
      isRight = isOpen && memory.word(data) == counter
      counter = request == .fetchAdd ? counter &+ word(number, 0) : word(number, 0)
    }
    guard isRight else { return observations.mismatch(index, number, at: now) }
    if !request.wantsReply { observations.answer(postedAt: postedAt, at: now, keep: script.keepsRoundTrips) }
  }

  /// Goes on to the next request, where this one is sent and answered.
  mutating func finishRequest() -> Bool {
    guard isOpen, isSent, isAnswered else { return false }
    isOpen = false
    finished += 1
    return true
  }

  /// The connection is over. - Returns: false where it was before.
  mutating func fail() -> Bool {
    defer { isIdle = true }
    return !isIdle
  }
}
