// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// Words of a record that are read from its front, each checked for its range.
private struct RecordReader {
  private var words: ArraySlice<UInt64>

  init(_ words: ArraySlice<UInt64>) { self.words = words }

  var isAtEnd: Bool { words.isEmpty }

  mutating func word() throws(DeviceImageError) -> UInt64 {
    guard let word = words.popFirst() else { throw .wrongLength }
    return word
  }

  /// The two halves of a word, the lower first.
  mutating func halves() throws(DeviceImageError) -> (UInt32, UInt32) {
    let word = try word()
    return (UInt32(truncatingIfNeeded: word), UInt32(word >> 32))
  }

  mutating func sequenceNumber() throws(DeviceImageError) -> PacketSequenceNumber {
    let word = try word()
    guard word < 1 << 24 else { throw .wrongValue }
    return PacketSequenceNumber(UInt32(word))
  }

  mutating func ring() throws(DeviceImageError) -> RDMAQueuePairAttributes.Ring {
    let address = try word()
    let depth = try word()
    guard depth <= RDMAQueuePairAttributes.Ring.mostDepth else { throw .wrongValue }
    return RDMAQueuePairAttributes.Ring(address: address, depth: UInt32(depth))
  }
}

private func pair(_ low: UInt32, _ high: UInt32) -> UInt64 { UInt64(low) | UInt64(high) << 32 }

extension RDMAQueuePair {
  /// The most packets of a work request.
  private static let mostPackets = RDMAWorkRequest.mostWords

  /// Its record, without the header.
  var recordWords: [UInt64] {
    let retransmission = attributes.retransmission
    let retries = UInt32(retransmission.retries) | UInt32(retransmission.receiverNotReadyRetries) << 8
    var words = [
      pair(attributes.number, UInt32(attributes.state.rawValue)),
      pair(attributes.peerAddress, attributes.peerNumber),
      attributes.sendQueue.address, UInt64(attributes.sendQueue.depth),
      attributes.receiveQueue.address, UInt64(attributes.receiveQueue.depth),
      pair(attributes.sendCompletions, attributes.receiveCompletions),
      pair(UInt32(attributes.mtuWords), retries | UInt32(retransmission.kind.rawValue) << 16),
      pair(retransmission.baseMicroseconds, retransmission.limitMicroseconds),
      pair(consumer, heldBack ?? posted), pair(receiveConsumer, receivesPosted),
      UInt64(consumerPSN.value), UInt64(unacknowledged.value), UInt64(highest.value), UInt64(expected.value),
    ]
    switch inbound {
    case .nothing: words.append(0)
    case .send(let count): words.append(pair(1, UInt32(count)))
    case .write(let address, let key, let count): words += [pair(2, UInt32(count)), address, UInt64(key)]
    }
    for reply in atomicReplies { words += [UInt64(reply.psn.value), reply.original] }
    return words
  }

  init(recordWords words: ArraySlice<UInt64>, index: Int, record: Int) throws(DeviceImageError) {
    var reader = RecordReader(words)
    let attributes = try Self.attributes(&reader)
    self.init(attributes, index: index, record: record)
    (consumer, posted) = try reader.halves()
    (receiveConsumer, receivesPosted) = try reader.halves()
    consumerPSN = try reader.sequenceNumber()
    unacknowledged = try reader.sequenceNumber()
    highest = try reader.sequenceNumber()
    expected = try reader.sequenceNumber()
    inbound = try Self.inbound(&reader)
    while !reader.isAtEnd {
      let psn = try reader.sequenceNumber()
      atomicReplies.append(AtomicReply(psn: psn, original: try reader.word()))
      guard atomicReplies.count <= Self.mostAtomicReplies, psn.distance(from: expected) < 0 else { throw .wrongValue }
    }
    transient = Transient(next: unacknowledged)
    guard isConsistent else { throw .wrongValue }
  }

  private static func attributes(_ reader: inout RecordReader) throws(DeviceImageError) -> RDMAQueuePairAttributes {
    let (number, stateNumber) = try reader.halves()
    let (peerAddress, peerNumber) = try reader.halves()
    guard let stateByte = UInt8(exactly: stateNumber),
      let state = RDMAQueuePairAttributes.State(rawValue: stateByte)
    else { throw .wrongValue }
    let sendQueue = try reader.ring()
    let receiveQueue = try reader.ring()
    let (sendCompletions, receiveCompletions) = try reader.halves()
    let (mtuWords, retries) = try reader.halves()
    guard retries < 1 << 24, let kind = RetransmissionScheme(rawValue: UInt8(retries >> 16)) else {
      throw .wrongValue
    }
    var retransmission = RetransmissionSettings()
    retransmission.kind = kind
    retransmission.retries = Int(retries & 0xff)
    retransmission.receiverNotReadyRetries = Int(retries >> 8 & 0xff)
    (retransmission.baseMicroseconds, retransmission.limitMicroseconds) = try reader.halves()
    let attributes = RDMAQueuePairAttributes(
      number: number, state: state, peerAddress: peerAddress, peerNumber: peerNumber, sendQueue: sendQueue,
      receiveQueue: receiveQueue, sendCompletions: sendCompletions, receiveCompletions: receiveCompletions,
      mtuWords: Int(mtuWords), retransmission: retransmission)
    guard attributes.isValid else { throw .wrongValue }
    return attributes
  }

  private static func inbound(_ reader: inout RecordReader) throws(DeviceImageError) -> Inbound {
    let (kind, words) = try reader.halves()
    guard words <= RDMAWorkRequest.mostWords else { throw .wrongValue }
    switch (kind, words) {
    case (0, 0): return .nothing
    case (1, _): return .send(words: Int(words))
    case (2, 1...):
      let address = try reader.word()
      let key = try reader.word()
      guard key <= UInt32.max, Page.wordIndex(address) != nil else { throw .wrongValue }
      return .write(address: address, key: UInt32(key), words: Int(words))
    default: throw .wrongValue
    }
  }

  /// Whether its numbers can be those of a queue pair.
  private var isConsistent: Bool {
    let sent = highest.distance(from: unacknowledged)
    let begun = unacknowledged.distance(from: consumerPSN)
    guard posted &- consumer <= attributes.sendQueue.depth, sent >= 0, 0...Self.mostPackets ~= begun,
      receivesPosted &- receiveConsumer <= attributes.receiveQueue.depth
    else { return false }
    switch attributes.state {
    case .error: return !isBusy && receivesPosted == receiveConsumer && inbound == .nothing
    case .reset, .initialized, .readyToReceive: return !isBusy && sent == 0 && begun == 0
    case .readyToSend: return isBusy || (sent == 0 && begun == 0)
    }
  }
}
