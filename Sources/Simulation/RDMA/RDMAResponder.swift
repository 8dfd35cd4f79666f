// SPDX-License-Identifier: Apache-2.0

// The half of a queue pair that answers requests, one after the other, in the order of their packet sequence numbers.
extension RDMAQueuePair {
  /// Answers a request, or begins to: one that needs memory read keeps those behind it waiting.
  mutating func respond(to packet: RDMAPacket, _ resources: inout RDMAResources) {
    let distance = packet.psn.distance(from: expected)
    guard distance >= 0 else { return respond(toDuplicate: packet, &resources) }
    guard distance == 0 else {
      guard !transient.hasRefused else { return }
      refuse(.sequenceError, &resources)
      transient.hasRefused = true
      return
    }
    transient.hasRefused = false
    switch packet.operation {
    case .send: takeSend(packet, &resources)
    case .write: takeWrite(packet, &resources)
    case .readRequest:
      guard inbound == .nothing, packet.length > 0, packet.length <= RDMAWorkRequest.mostWords else {
        return refuse(.invalidRequest, &resources)
      }
      guard allowsRead(packet, resources) else { return refuse(.remoteAccessError, &resources) }
      begin(.read(packet), &resources)
    case .fetchAdd, .compareSwap:
      guard inbound == .nothing, packet.words.count == 2 else { return refuse(.invalidRequest, &resources) }
      guard resources.allows(.remoteAtomic, key: packet.key, at: packet.address, words: 1) else {
        return refuse(.remoteAccessError, &resources)
      }
      begin(.atomic(packet), &resources)
    case .readResponse, .atomicResponse, .acknowledgement, .negativeAcknowledgement, .receiverNotReady, .announcement:
      return
    }
  }

  /// It was executed before. It is answered again, and not executed again.
  private mutating func respond(toDuplicate packet: RDMAPacket, _ resources: inout RDMAResources) {
    resources.counters.duplicateRequests += 1
    switch packet.operation {
    case .send, .write:
      if packet.asksForAcknowledgement { acknowledge(&resources) }
    case .readRequest:
      let end = packet.psn.advanced(by: packets(of: Int(packet.length)))
      guard packet.length > 0, packet.length <= RDMAWorkRequest.mostWords, end.distance(from: expected) <= 0,
        allowsRead(packet, resources)
      else { return }
      begin(.read(packet), &resources)
    case .fetchAdd, .compareSwap:
      guard let reply = atomicReplies.first(where: { $0.psn == packet.psn }) else { return }
      sendAtomicResponse(reply, &resources)
    case .readResponse, .atomicResponse, .acknowledgement, .negativeAcknowledgement, .receiverNotReady, .announcement:
      return
    }
  }

  private func packets(of words: Int) -> Int { max(1, (words + attributes.mtuWords - 1) / attributes.mtuWords) }

  private func allowsRead(_ packet: RDMAPacket, _ resources: RDMAResources) -> Bool {
    resources.allows(.remoteRead, key: packet.key, at: packet.address, words: Int(packet.length))
  }

  // MARK: Replies

  private func acknowledge(_ resources: inout RDMAResources) {
    resources.outputs.append(.send(packet(.acknowledgement, expected.advanced(by: -1), resources)))
    resources.counters.sentPackets += 1
  }

  /// Refuses the request that was expected. Unless it only came too early, the connection is over.
  private mutating func refuse(_ refusal: RDMAPacket.Refusal, _ resources: inout RDMAResources) {
    var reply = packet(.negativeAcknowledgement, expected, resources)
    reply.refusal = refusal
    resources.outputs.append(.send(reply))
    resources.counters.sentPackets += 1
    if refusal != .sequenceError { fail(.flushed, &resources) }
  }

  private func sendAtomicResponse(_ reply: AtomicReply, _ resources: inout RDMAResources) {
    var response = packet(.atomicResponse, reply.psn, resources)
    response.words = [reply.original]
    resources.outputs.append(.send(response))
    resources.counters.sentPackets += 1
  }

  // MARK: Sends and writes

  /// Whether a packet of data is where it may be in its message, and as long as it has to be there.
  private func isWellFormed(_ packet: RDMAPacket, inMessage: Bool) -> Bool {
    guard packet.position.contains(.first) != inMessage else { return false }
    return packet.position.contains(.last)
      ? packet.words.count <= attributes.mtuWords : packet.words.count == attributes.mtuWords
  }

  private mutating func takeSend(_ packet: RDMAPacket, _ resources: inout RDMAResources) {
    var written = 0
    if case .send(let words) = inbound { written = words }
    let inMessage = inbound != .nothing
    guard isWellFormed(packet, inMessage: inMessage), packet.position.contains(.first) || inMessage else {
      return refuse(.invalidRequest, &resources)
    }
    if case .write = inbound { return refuse(.invalidRequest, &resources) }
    guard let receive = transient.receives.first else {
      if receivesPosted != receiveConsumer { return begin(.receives(packet), &resources) }
      var reply = self.packet(.receiverNotReady, expected, resources)
      reply.length = resources.configuration.receiverNotReadyMicroseconds
      resources.outputs.append(.send(reply))
      resources.counters.sentPackets += 1
      transient.hasRefused = true
      return
    }
    let end = written + packet.words.count
    guard end <= receive.words,
      end == 0 || resources.allows(.localWrite, key: receive.key, at: receive.address, words: end)
    else {
      refuseReceive(end <= receive.words ? .localProtectionError : .localLengthError, &resources)
      return
    }
    write(packet.words, at: Page.advanced(receive.address, by: written), &resources)
    if packet.position.contains(.last) {
      inbound = .nothing
      transient.receives.removeFirst()
      complete(isReceive: true, .success, words: end, &resources)
    } else {
      inbound = .send(words: end)
    }
    finish(packet, &resources)
  }

  /// The receive can't take what came: it says so itself, and the sender hears of an invalid request.
  private mutating func refuseReceive(_ status: RDMACompletion.Status, _ resources: inout RDMAResources) {
    complete(isReceive: true, status, words: 0, &resources)
    refuse(.invalidRequest, &resources)
  }

  private mutating func takeWrite(_ packet: RDMAPacket, _ resources: inout RDMAResources) {
    var (address, key, left) = (packet.address, packet.key, Int(packet.length))
    let inMessage = inbound != .nothing
    if case .write(let nextAddress, let nextKey, let words) = inbound {
      (address, key, left) = (nextAddress, nextKey, words)
    }
    if case .send = inbound { return refuse(.invalidRequest, &resources) }
    let isLast = packet.position.contains(.last)
    guard isWellFormed(packet, inMessage: inMessage), left <= RDMAWorkRequest.mostWords,
      isLast ? packet.words.count == left : packet.words.count < left
    else { return refuse(.invalidRequest, &resources) }
    guard left == 0 || resources.allows(.remoteWrite, key: key, at: address, words: left) else {
      return refuse(.remoteAccessError, &resources)
    }
    write(packet.words, at: address, &resources)
    let next = Page.advanced(address, by: packet.words.count)
    inbound = isLast ? .nothing : .write(address: next, key: key, words: left - packet.words.count)
    finish(packet, &resources)
  }

  private func write(_ words: [UInt64], at address: UInt64, _ resources: inout RDMAResources) {
    if !words.isEmpty { resources.outputs.append(.fabric(.write(address: address, words: words))) }
  }

  /// A packet of data has been handed to the fabric: only now may it be acknowledged.
  private mutating func finish(_ packet: RDMAPacket, _ resources: inout RDMAResources) {
    expected = expected.advanced(by: 1)
    if packet.asksForAcknowledgement { acknowledge(&resources) }
  }

  // MARK: Requests for which memory is read

  private mutating func begin(_ task: Task, _ resources: inout RDMAResources) {
    transient.task = task
    continueTask(&resources)
  }

  /// Starts the read for the request at hand, once there is one free.
  mutating func continueTask(_ resources: inout RDMAResources) {
    transient.awaitsResponderRead = false
    guard resources.isActive else { return }
    var isUnderWay = true
    switch transient.task {
    case nil, .void: return
    case .receives:
      let ring = attributes.receiveQueue
      let count = min(
        Int(receivesPosted &- receiveConsumer), resources.configuration.workPerRead,
        Int(ring.depth) - ring.slot(receiveConsumer))
      let address = ring.address(of: receiveConsumer, slotWords: RDMAReceive.slotWords)
      isUnderWay = resources.read(index, .responder, address: address, words: count * RDMAReceive.slotWords)
    case .read(let packet):
      isUnderWay = resources.read(index, .responder, address: packet.address, words: Int(packet.length))
    case .atomic(let packet):
      isUnderWay =
        resources.takeAtomicUnit(index) && resources.read(index, .responder, address: packet.address, words: 1)
    }
    transient.awaitsResponderRead = !isUnderWay
  }

  /// What the responder read has come.
  mutating func takeResponderData(_ words: [UInt64], _ resources: inout RDMAResources) {
    let task = transient.task
    transient.task = nil
    switch task {
    case nil, .void: break
    case .receives(let packet):
      var start = 0
      while start + RDMAReceive.slotWords <= words.count {
        transient.receives.append(RDMAReceive(slot: words[start..<start + RDMAReceive.slotWords]))
        start += RDMAReceive.slotWords
      }
      if start == 0 {
        refuseReceive(.localOperationError, &resources)
      } else {
        respond(to: packet, &resources)
      }
    case .read(let packet): sendReadResponse(packet, words, &resources)
    case .atomic(let packet): execute(packet, words, &resources)
    }
    while transient.task == nil, !transient.held.isEmpty, attributes.state != .error {
      respond(to: transient.held.removeFirst(), &resources)
    }
  }

  private mutating func sendReadResponse(_ packet: RDMAPacket, _ words: [UInt64], _ resources: inout RDMAResources) {
    guard words.count == Int(packet.length) else { return refuse(.remoteAccessError, &resources) }
    let (mtu, count) = (attributes.mtuWords, packets(of: words.count))
    for number in 0..<count {
      var response = self.packet(.readResponse, packet.psn.advanced(by: number), resources)
      response.position = .middle
      if number == 0 { response.position.insert(.first) }
      if number == count - 1 { response.position.insert(.last) }
      response.words = count == 1 ? words : Array(words[number * mtu..<min(words.count, (number + 1) * mtu)])
      resources.outputs.append(.send(response))
    }
    resources.counters.sentPackets += count
    if packet.psn == expected { expected = expected.advanced(by: count) }
  }

  private mutating func execute(_ packet: RDMAPacket, _ words: [UInt64], _ resources: inout RDMAResources) {
    defer { resources.releaseAtomicUnit(of: index) }
    guard words.count == 1 else { return refuse(.remoteAccessError, &resources) }
    let original = words[0]
    if packet.operation == .fetchAdd {
      write([original &+ packet.words[0]], at: packet.address, &resources)
    } else if original == packet.words[1] {
      write([packet.words[0]], at: packet.address, &resources)
    }
    let reply = AtomicReply(psn: packet.psn, original: original)
    if atomicReplies.count == Self.mostAtomicReplies { atomicReplies.removeFirst() }
    atomicReplies.append(reply)
    expected = expected.advanced(by: 1)
    resources.counters.atomics += 1
    sendAtomicResponse(reply, &resources)
  }
}
