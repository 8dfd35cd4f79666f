// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("The image of an RDMA NIC")
struct RDMAImageTests {
  /// The image of a NIC in the midst of its work.
  static func image(connections: Int = 4, seed: UInt64 = 5) throws -> [[UInt64]] {
    var options = RDMAProtocolTests.options(requests: 30)
    options.connections = connections
    options.freezeAt = 90
    var world = try RDMAWorld(options, seed: seed)
    while world.image.isEmpty, world.step() {}
    return world.image
  }

  static func stoppedNIC() -> RDMANIC {
    var nic = RDMANIC(RDMANIC.Configuration(networkAddress: EchoGuest.networkAddress))
    _ = nic.handle(.suspendPassive, at: MonotonicTime(microseconds: 0))
    return nic
  }

  @Test("has a record for each object, none of which grows with the others")
  func size() throws {
    let small = try Self.image(connections: 10)
    let large = try Self.image(connections: 1000)
    #expect(small.count == 3 + 10 && large.count == 3 + 1000)
    #expect((small + large).allSatisfy { $0.count <= 27 })
  }

  @Test("takes queue pairs along in every state, and each goes on as what it is")
  func states() throws {
    let states: [RDMAQueuePairAttributes.State] = [.reset, .initialized, .readyToReceive, .readyToSend, .error]
    let ring = RDMAQueuePairAttributes.Ring(address: 0, depth: 16)
    var nic = RDMANIC(RDMANIC.Configuration(networkAddress: 0))
    try nic.makeCompletionQueue(1, ring: ring)
    for (index, state) in states.enumerated() {
      var attributes = RDMAQueuePairAttributes(
        number: UInt32(index) * 1000, peerAddress: 1, peerNumber: 4, sendQueue: ring, receiveQueue: ring,
        sendCompletions: 1, receiveCompletions: 1)
      attributes.state = state
      try nic.makeQueuePair(attributes)
    }
    var loaded = Self.stoppedNIC()
    for record in 0..<nic.recordCount { try loaded.load(record, nic.record(record)) }
    let now = MonotonicTime(microseconds: 0)
    _ = loaded.handle(.resumePassive, at: now)
    _ = loaded.handle(.resumeActive, at: now)
    #expect(loaded.queuePairs.map(\.attributes.state) == states)
    let doorbells = states.indices.map { index in
      loaded.handle(
        .doorbell(RDMADoorbell(queue: .send, queuePair: UInt32(index) * 1000, producerIndex: 1)), at: now)
    }
    // Not connected: nothing. Ready: the work is read. Failed: it is flushed, with an interrupt.
    #expect(doorbells.map(\.count) == [0, 0, 0, 1, 2])
    try loaded.setState(.initialized, of: 0)
    try loaded.setState(.readyToSend, of: 2000)
    #expect(throws: RDMACommandError.badParameter) { try loaded.setState(.readyToReceive, of: 4000) }
  }

  @Test("can be loaded in part and again, and is what was saved")
  func again() throws {
    let image = try Self.image()
    var nic = Self.stoppedNIC()
    for (index, record) in image.enumerated() {
      #expect(throws: DeviceImageError.incomplete) { try nic.checkLoaded() }
      try nic.load(index, record)
      try nic.load(index, record)
    }
    try nic.checkLoaded()
    #expect((0..<nic.recordCount).map { nic.record($0) } == image)
    #expect(throws: DeviceImageError.outOfOrder) { try nic.load(image.count + 1, image[3]) }
    #expect(throws: DeviceImageError.wrongNumber) { try nic.load(image.count, image[3]) }
    #expect(throws: DeviceImageError.wrongNumber) { try nic.load(4, image[3]) }
    #expect(throws: DeviceImageError.wrongKind) { try nic.load(1, image[3]) }
    #expect(throws: DeviceImageError.wrongKind) { try nic.load(0, image[3]) }
    #expect(throws: DeviceImageError.wrongLength) { try nic.load(3, []) }
    #expect(throws: DeviceImageError.wrongLength) { try nic.load(3, Array(image[3].dropLast())) }
    #expect((0..<nic.recordCount).map { nic.record($0) } == image)
    _ = nic.handle(.resumePassive, at: MonotonicTime(microseconds: 0))
    #expect(throws: DeviceImageError.notResuming) { try nic.load(3, image[3]) }
  }

  @Test("with any bit wrong is refused, or makes a NIC that works in its own way; nothing traps")
  func flips() throws {
    let image = try Self.image()
    var refused = 0
    var taken = 0
    for (index, record) in image.enumerated() {
      for bit in 0..<64 * record.count {
        var nic = Self.stoppedNIC()
        do {
          for (place, words) in image.enumerated() {
            var words = words
            if place == index { words[bit / 64] ^= 1 << UInt64(bit % 64) }
            try nic.load(place, words)
          }
          try nic.checkLoaded()
          taken += 1
        } catch {
          refused += 1
          continue
        }
        let now = MonotonicTime(microseconds: 10)
        _ = nic.handle(.resumePassive, at: now)
        var outputs = nic.handle(.resumeActive, at: now)
        for queuePair in nic.queuePairs {
          for operation: RDMAPacket.Operation in [.send, .write, .fetchAdd, .acknowledgement, .readResponse] {
            var packet = RDMAPacket(
              source: queuePair.attributes.peerAddress, destination: EchoGuest.networkAddress,
              queuePair: queuePair.attributes.number, psn: queuePair.expected, operation: operation)
            if operation == .acknowledgement || operation == .readResponse { packet.psn = queuePair.unacknowledged }
            if operation == .fetchAdd { packet.words = [1, 1] }
            outputs += nic.handle(.packet(packet), at: now)
          }
        }
        for output in outputs {
          guard case .fabric(.read(_, let words, let tag)) = output else { continue }
          _ = nic.handle(.readReply(tag: tag, words: Array(repeating: 2, count: words)), at: now)
        }
      }
    }
    #expect(refused > 1000 && taken > 1000)
  }

  @Test("of 100,000 queue pairs is not looked through for an event: a request changes as few records as among 100")
  func scale() throws {
    var counts: [[Int]] = []
    for connections in [100, 100_000] {
      var nic = RDMANIC(RDMANIC.Configuration(networkAddress: 0))
      let ring = RDMAQueuePairAttributes.Ring(address: 0, depth: 16)
      try nic.makeCompletionQueue(1, ring: ring)
      for index in 0..<connections {
        try nic.makeQueuePair(
          RDMAQueuePairAttributes(
            number: UInt32(index * 131 % (1 << 24)), peerAddress: 1, peerNumber: 4, sendQueue: ring, receiveQueue: ring,
            sendCompletions: 1, receiveCompletions: 1))
      }
      _ = nic.takeChangedRecords()
      let now = MonotonicTime(microseconds: 1)
      var outputs: [RDMANIC.Output] = []
      var inputs: [RDMANIC.Input] = [
        .doorbell(RDMADoorbell(queue: .send, queuePair: 50 * 131, producerIndex: 1))
      ]
      let work = RDMAWorkRequest(operation: .write, words: 0, localAddress: 0, localKey: 0)
      var events = 0
      while let input = inputs.popLast() {
        let before = outputs.count
        nic.handle(input, at: now, into: &outputs)
        events += 1
        for output in outputs[before...] {
          if case .fabric(.read(_, _, let tag)) = output { inputs.append(.readReply(tag: tag, words: work.slot)) }
          if case .send(let packet) = output {
            var reply = packet
            (reply.source, reply.destination, reply.queuePair) = (1, 0, 50 * 131)
            reply.operation = .acknowledgement
            inputs.append(.packet(reply))
          }
        }
      }
      counts.append([events, outputs.count, nic.takeChangedRecords().count, nic.busyQueuePairs])
    }
    #expect(counts[0] == counts[1])
    #expect(counts[0][2] == 2)
  }

  @Test("of a NIC that was reset is empty, and nothing from before the reset counts")
  func reset() throws {
    var pair = try RDMAPair()
    var tags: [UInt32] = []
    pair.memories[0].write(RDMAPair.sendQueue.address(of: 0, slotWords: 8), RDMAPair.work(.write).slot)
    let doorbell = RDMADoorbell(queue: .send, queuePair: 5, producerIndex: 1)
    for output in pair.nics[0].handle(.doorbell(doorbell), at: pair.now) {
      if case .fabric(.read(_, _, let tag)) = output { tags.append(tag) }
    }
    #expect(tags.count == 1)
    pair.nics[0].reset()
    #expect(pair.nics[0].recordCount == 1)
    for tag in tags {
      let outputs = pair.nics[0].handle(.readReply(tag: tag, words: RDMAPair.work(.write).slot), at: pair.now)
      #expect(outputs == [])
    }
  }
}
