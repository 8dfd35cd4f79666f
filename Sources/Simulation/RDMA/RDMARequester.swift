// SPDX-License-Identifier: Apache-2.0

// The half of a queue pair that sends requests: go-back-N over 24-bit packet sequence numbers.
extension RDMAQueuePair {
  private var workEnd: PacketSequenceNumber { transient.work.last?.end ?? consumerPSN }

  // MARK: Sending

  /// Sends what may be sent, and reads what it needs for it, one read at a time.
  mutating func transmit(_ resources: inout RDMAResources) {
    while attributes.state == .readyToSend, resources.isActive, isBusy, transient.fetch == .nothing,
      !transient.awaitsReceiver, !transient.awaitsRead
    {
      guard let place = transient.work.firstIndex(where: { transient.next.distance(from: $0.end) < 0 }) else {
        if !transient.hasBadWork {
          fetchWork(&resources)
        } else if transient.work.isEmpty {
          fail(.localOperationError, &resources)
        }
        return
      }
      guard inFlight < window(resources) else { return }
      let work = transient.work[place]
      if let problem = problem(of: work, resources) {
        // What went before it is finished first.
        if place == 0, unacknowledged == work.firstPSN { fail(problem, &resources) }
        return
      }
      if work.request.operation.isAnsweredByData {
        guard repliesUnderWay < Self.mostAtomicReplies else { return }
        sendRequestForData(work, &resources)
      } else {
        let offset = transient.next.distance(from: work.firstPSN)
        let room = min(window(resources) - inFlight, resources.configuration.packetsPerRead)
        let packets = min(work.packets - offset, room)
        let start = offset * attributes.mtuWords
        let words = min(work.request.words - start, packets * attributes.mtuWords)
        if words == 0 {
          sendData([], 1, &resources)
          continue
        }
        let address = Page.advanced(work.request.localAddress, by: start)
        if resources.read(index, .requester, address: address, words: words) {
          transient.fetch = .data(first: transient.next, packets: packets)
        } else {
          transient.awaitsRead = true
        }
      }
    }
  }

  /// Packets that were sent since the oldest without an acknowledgement.
  private var inFlight: Int { transient.next.distance(from: unacknowledged) }

  private func window(_ resources: RDMAResources) -> Int {
    transient.window == 0 ? resources.configuration.windowPackets : transient.window
  }

  private var repliesUnderWay: Int {
    transient.work.reduce(0) {
      $1.request.operation.isAnsweredByData && $1.firstPSN.distance(from: transient.next) < 0 ? $0 + 1 : $0
    }
  }

  private func problem(of work: Outstanding, _ resources: RDMAResources) -> RDMACompletion.Status? {
    let request = work.request
    guard request.words > 0 else { return nil }
    let access: RDMAMemoryRegion.Access = request.operation.isAnsweredByData ? .localWrite : []
    let isAllowed = resources.allows(access, key: request.localKey, at: request.localAddress, words: request.words)
    return isAllowed ? nil : .localProtectionError
  }

  private mutating func fetchWork(_ resources: inout RDMAResources) {
    let fetched = consumer &+ UInt32(transient.work.count)
    let ring = attributes.sendQueue
    let batch = resources.configuration.workPerRead
    let count = min(
      Int(posted &- fetched), batch, 2 * batch - transient.work.count, Int(ring.depth) - ring.slot(fetched))
    guard count > 0 else { return }
    let slotWords = RDMAWorkRequest.slotWords
    let address = ring.address(of: fetched, slotWords: slotWords)
    if resources.read(index, .requester, address: address, words: count * slotWords) {
      transient.fetch = .work
    } else {
      transient.awaitsRead = true
    }
  }

  /// What the requester read has come; the wrong count of words, where that address can't be read.
  mutating func takeRequesterData(_ words: [UInt64], _ resources: inout RDMAResources) {
    let fetch = transient.fetch
    transient.fetch = .nothing
    switch fetch {
    case .nothing, .void: break
    case .work: takeWork(words, &resources)
    case .data(let first, let packets):
      // It may have gone back, or been acknowledged further, in the meantime.
      if first == transient.next { sendData(words, packets, &resources) }
    }
    transmit(&resources)
  }

  private mutating func takeWork(_ words: [UInt64], _ resources: inout RDMAResources) {
    guard !words.isEmpty else { return fail(.localOperationError, &resources) }
    var start = 0
    while start + RDMAWorkRequest.slotWords <= words.count {
      guard let request = RDMAWorkRequest(slot: words[start..<start + RDMAWorkRequest.slotWords]) else {
        // What went before it is finished first.
        transient.hasBadWork = true
        return
      }
      let mtu = attributes.mtuWords
      let packets = request.operation.isAtomic ? 1 : max(1, (request.words + mtu - 1) / mtu)
      transient.work.append(Outstanding(request: request, firstPSN: workEnd, packets: packets))
      start += RDMAWorkRequest.slotWords
    }
  }

  private mutating func sendData(_ words: [UInt64], _ packets: Int, _ resources: inout RDMAResources) {
    guard let work = transient.work.first(where: { transient.next.distance(from: $0.end) < 0 }) else { return }
    let mtu = attributes.mtuWords
    let offset = transient.next.distance(from: work.firstPSN)
    guard words.count == min(work.request.words - offset * mtu, packets * mtu) else {
      return fail(.localOperationError, &resources)
    }
    for number in 0..<packets {
      var sent = packet(work.request.operation == .send ? .send : .write, transient.next, resources)
      sent.position = .middle
      if offset + number == 0 {
        sent.position.insert(.first)
        sent.address = work.request.remoteAddress
        sent.key = work.request.remoteKey
        sent.length = UInt32(work.request.words)
      }
      if offset + number == work.packets - 1 { sent.position.insert(.last) }
      sent.words =
        packets == 1 ? words : Array(words[number * mtu..<min(words.count, (number + 1) * mtu)])
      let fillsWindow = inFlight + 1 >= window(resources)
      sent.asksForAcknowledgement =
        sent.position.contains(.last) || fillsWindow
        || (offset + number + 1) % resources.configuration.packetsPerAcknowledgement == 0
      send(sent, packets: 1, &resources)
    }
  }

  /// A read whose answer came in part asks for the rest only.
  private mutating func sendRequestForData(_ work: Outstanding, _ resources: inout RDMAResources) {
    let operation: RDMAPacket.Operation =
      switch work.request.operation {
      case .fetchAdd: .fetchAdd
      case .compareSwap: .compareSwap
      case .read, .send, .write: .readRequest
      }
    let offset = transient.next.distance(from: work.firstPSN)
    var sent = packet(operation, transient.next, resources)
    sent.address = Page.advanced(work.request.remoteAddress, by: offset * attributes.mtuWords)
    sent.key = work.request.remoteKey
    sent.length = UInt32(work.request.words - offset * attributes.mtuWords)
    sent.asksForAcknowledgement = true
    if work.request.operation.isAtomic { sent.words = [work.request.operand, work.request.compared] }
    send(sent, packets: work.packets - offset, &resources)
  }

  private mutating func send(_ packet: RDMAPacket, packets: Int, _ resources: inout RDMAResources) {
    resources.outputs.append(.send(packet))
    resources.counters.sentPackets += 1
    transient.next = transient.next.advanced(by: packets)
    if transient.next.distance(from: highest) > 0 {
      highest = transient.next
    } else {
      resources.counters.retransmittedPackets += 1
    }
    if transient.deadline == .max { wait(attributes.retransmission.timeout(after: transient.retries), &resources) }
  }

  // MARK: Replies

  mutating func takeReply(_ packet: RDMAPacket, _ resources: inout RDMAResources) {
    // A reply to what this end never sent.
    guard packet.psn.distance(from: highest) < (packet.operation == .acknowledgement ? 0 : 1) else { return }
    switch packet.operation {
    case .acknowledgement:
      advance(to: packet.psn.advanced(by: 1), &resources)
    case .negativeAcknowledgement:
      advance(to: packet.psn, &resources)
      guard unacknowledged == packet.psn, attributes.state == .readyToSend else { return }
      switch packet.refusal {
      case .sequenceError: transient.next = unacknowledged
      case .invalidRequest: fail(.remoteInvalidRequest, &resources)
      case .remoteAccessError: fail(.remoteAccessError, &resources)
      }
    case .receiverNotReady:
      advance(to: packet.psn, &resources)
      guard unacknowledged == packet.psn, isBusy, !transient.awaitsReceiver else { return }
      awaitReceiver(packet, &resources)
    case .readResponse, .atomicResponse: takeData(packet, &resources)
    case .send, .write, .readRequest, .fetchAdd, .compareSwap, .announcement: return
    }
    transmit(&resources)
  }

  private mutating func awaitReceiver(_ packet: RDMAPacket, _ resources: inout RDMAResources) {
    let most = attributes.retransmission.receiverNotReadyRetries
    guard most == RetransmissionSettings.mostRetries || transient.receiverNotReadyRetries < most else {
      return fail(.receiverNotReadyRetriesExceeded, &resources)
    }
    transient.receiverNotReadyRetries += 1
    transient.retries = 0
    transient.awaitsReceiver = true
    transient.next = unacknowledged
    wait(UInt64(packet.length), &resources)
  }

  private mutating func takeData(_ packet: RDMAPacket, _ resources: inout RDMAResources) {
    advance(to: packet.psn, &resources)
    guard unacknowledged == packet.psn, attributes.state == .readyToSend, let work = transient.work.first,
      work.request.operation.isAnsweredByData, packet.psn.distance(from: work.firstPSN) >= 0
    else { return }
    let start = packet.psn.distance(from: work.firstPSN) * attributes.mtuWords
    guard packet.words.count == min(attributes.mtuWords, work.request.words - start) else { return }
    let address = Page.advanced(work.request.localAddress, by: start)
    resources.outputs.append(.fabric(.write(address: address, words: packet.words)))
    progress(to: packet.psn.advanced(by: 1), &resources)
  }

  /// Everything before that packet has arrived.
  private mutating func advance(to end: PacketSequenceNumber, _ resources: inout RDMAResources) {
    // What was not read from the queue again since a resume is acknowledged again too.
    var reached = end.distance(from: workEnd) > 0 ? workEnd : end
    guard reached.distance(from: unacknowledged) > 0 else { return }
    for work in transient.work where work.request.operation.isAnsweredByData {
      guard reached.distance(from: work.firstPSN) > 0 else { break }
      // An answer with data was lost: it is asked for again.
      reached = unacknowledged.distance(from: work.firstPSN) > 0 ? unacknowledged : work.firstPSN
      transient.next = reached
      break
    }
    if reached != unacknowledged { progress(to: reached, &resources) }
  }

  private mutating func progress(to reached: PacketSequenceNumber, _ resources: inout RDMAResources) {
    unacknowledged = reached
    if transient.next.distance(from: reached) < 0 { transient.next = reached }
    while let oldest = transient.work.first, oldest.end.distance(from: reached) <= 0 {
      transient.work.removeFirst()
      consumerPSN = oldest.end
      if oldest.request.isSignaled {
        complete(isReceive: false, .success, words: oldest.request.words, &resources)
      } else {
        consumer &+= 1
      }
      if !isBusy { resources.busyQueuePairs -= 1 }
    }
    transient.retries = 0
    transient.receiverNotReadyRetries = 0
    if transient.window > 0 {
      transient.window = transient.window + 1 >= resources.configuration.windowPackets ? 0 : transient.window + 1
    }
    guard !transient.awaitsReceiver else { return }
    transient.deadline = .max
    if inFlight > 0 { wait(attributes.retransmission.timeout(after: 0), &resources) }
  }

  // MARK: Time-outs

  /// Sets the deadline. One timer per queue pair is under way: it looks at the deadline when it comes, and only one that
  /// would come too late is asked for anew.
  private mutating func wait(_ microseconds: UInt64, _ resources: inout RDMAResources) {
    transient.deadline = resources.now + microseconds
    if transient.timer > transient.deadline { requestTimer(&resources) }
  }

  private mutating func requestTimer(_ resources: inout RDMAResources) {
    transient.timerGeneration &+= 1
    transient.timer = transient.deadline
    let timer = RDMATimer(
      queuePair: UInt32(index), generation: transient.timerGeneration, epoch: resources.epoch)
    resources.outputs.append(.timer(after: transient.deadline - resources.now, timer))
  }

  mutating func takeTimer(generation: UInt32, _ resources: inout RDMAResources) {
    guard generation == transient.timerGeneration, transient.timer != .max else { return }
    transient.timer = .max
    guard transient.deadline != .max else { return }
    guard resources.now >= transient.deadline else { return requestTimer(&resources) }
    transient.deadline = .max
    if transient.awaitsReceiver {
      transient.awaitsReceiver = false
    } else if transient.retries == attributes.retransmission.retries {
      return fail(.retriesExceeded, &resources)
    } else {
      transient.retries += 1
      resources.counters.timeouts += 1
      transient.window = max(1, window(resources) / 2)
      transient.next = unacknowledged
      wait(attributes.retransmission.timeout(after: transient.retries), &resources)
    }
    transmit(&resources)
  }
}
