// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("A reliable connection")
struct RDMAProtocolTests {
  static func options(_ mix: [PeerRequest] = PeerRequest.allCases, requests: Int = 6) -> RDMAWorldOptions {
    var options = RDMAWorldOptions()
    options.script.requests = requests
    options.script.mix = mix
    options.script.words = 20
    return options
  }

  @Test("over a perfect network sends every packet once, and answers every request", arguments: PeerRequest.allCases)
  func perfect(request: PeerRequest) throws {
    for words in [1, 8, 9, 64, 200] {
      var options = Self.options([request], requests: 20)
      options.script.words = words
      var world = try RDMAWorld(options, seed: 1)
      world.run()
      #expect(world.breaches == [], "\(words) words")
      #expect(world.nics[0].counters.retransmittedPackets == 0)
      #expect(world.peers[0].nic.counters.retransmittedPackets == 0)
    }
  }

  @Test("over a bad network delivers every message once and in order, and executes every atomic once")
  func bad() throws {
    var (lost, duplicates, atomics, timeouts) = (0, 0, 0, 0)
    for seed in 0..<1000 {
      var random = SeededGenerator(seed: UInt64(seed))
      var options = Self.options()
      options.peers = 1 + seed % 2
      options.script.words = [1, 7, 20, 64][seed / 2 % 4]
      options.link.lossPerMillion = random.next(below: 60_000)
      options.link.reorderingPerMillion = random.next(below: 60_000)
      options.link.duplicationPerMillion = random.next(below: 60_000)
      options.link.jitterMicroseconds = UInt64(random.next(below: 4))
      options.firstPSN = PacketSequenceNumber(UInt32(truncatingIfNeeded: random.next()))
      options.retransmission.baseMicroseconds = 100
      var world = try RDMAWorld(options, seed: UInt64(seed))
      world.run()
      #expect(world.breaches == [], "seed \(seed)")
      lost += world.network.lost
      let counters = [world.nics[0].counters] + world.peers.map(\.nic.counters)
      duplicates += counters.reduce(0) { $0 + $1.duplicateRequests }
      timeouts += counters.reduce(0) { $0 + $1.timeouts }
      atomics += world.nics[0].counters.atomics
    }
    #expect(lost > 1000 && duplicates > 1000 && atomics > 1000 && timeouts > 1000)
  }

  @Test("cuts a message into packets of an MTU, and has them acknowledged together")
  func segmentation() throws {
    var pair = try RDMAPair(firstPSN: 0xff_fffe)
    pair.memories[0].write(RDMAPair.data(0), (0..<30).map { UInt64($0) + 100 })
    pair.post([RDMAPair.work(.write, words: 30, remote: 5)])
    pair.run()
    let requests = pair.sent.filter { $0.operation == .write }
    #expect(requests.map(\.position) == [.first, .middle, .middle, .last])
    #expect(requests.map(\.psn.value) == [0xff_fffe, 0xff_ffff, 0, 1])
    #expect(requests.map(\.words.count) == [8, 8, 8, 6])
    #expect(pair.sent.count { $0.operation == .acknowledgement } == 1)
    #expect(pair.memories[1].read(RDMAPair.data(5), 30) == (0..<30).map { UInt64($0) + 100 })
    #expect(pair.completions().map(\.words) == [30])
  }

  @Test("never has more packets under way than its window", arguments: [1, 2, 16])
  func window(window: Int) throws {
    var pair = try RDMAPair(window: window)
    pair.post((0..<6).map { _ in RDMAPair.work(.write, words: 100) })
    var most = 0
    while let time = pair.queue.nextTime {
      pair.run(until: time.microseconds)
      let queuePair = pair.nics[0].queuePairs[0]
      most = max(most, queuePair.highest.distance(from: queuePair.unacknowledged))
    }
    #expect(most == window)
    #expect(pair.completions().count == 6)
  }

  @Test("goes back to the packet that was lost, on the word of the responder")
  func goBack() throws {
    var pair = try RDMAPair()
    pair.arrives = { _, number in number != 2 }
    pair.post([RDMAPair.work(.write, words: 64)])
    pair.run()
    #expect(pair.sent.count { $0.operation == .negativeAcknowledgement } == 1)
    #expect(pair.nics[0].counters.retransmittedPackets == 6)
    #expect(pair.nics[0].counters.timeouts == 0)
    #expect(pair.completions().map(\.status) == [.success])
  }

  @Test("reports each gap once, and so needs no time-out")
  func gaps() throws {
    var pair = try RDMAPair()
    // Lost is packet 2 when it is first sent, 5 when it is sent again, and 11 when it is sent for the third time.
    let lost: [UInt32: Int] = [2: 1, 5: 2, 11: 3]
    var sent: [UInt32: Int] = [:]
    pair.arrives = { packet, _ in
      guard packet.operation == .write else { return true }
      sent[packet.psn.value, default: 0] += 1
      return sent[packet.psn.value] != lost[packet.psn.value]
    }
    pair.post([RDMAPair.work(.write, words: 128)])
    pair.run()
    #expect(pair.sent.count { $0.operation == .negativeAcknowledgement } == 3)
    #expect(pair.nics[0].counters.timeouts == 0)
    #expect(pair.completions().map(\.status) == [.success])
  }

  @Test("an atomic whose answer was lost is answered from memory, and not executed again", arguments: 1...3)
  func lostAtomicResponse(losses: Int) throws {
    var pair = try RDMAPair()
    pair.memories[1].write(RDMAPair.data(0), [1000])
    var left = losses
    pair.arrives = { packet, _ in
      guard packet.operation == .atomicResponse, left > 0 else { return true }
      left -= 1
      return false
    }
    var work = RDMAPair.work(.fetchAdd, local: 10)
    work.operand = 7
    pair.post([work])
    pair.run()
    #expect(pair.completions().map(\.status) == [.success])
    #expect(pair.memories[0].word(RDMAPair.data(10)) == 1000)
    #expect(pair.memories[1].word(RDMAPair.data(0)) == 1007)
    #expect(pair.nics[1].counters.atomics == 1)
    #expect(pair.nics[1].counters.duplicateRequests == losses)
  }

  @Test("atomics of different connections on one word are executed one after the other")
  func sharedWord() throws {
    var nic = RDMANIC(RDMANIC.Configuration(networkAddress: 0))
    let ring = RDMAQueuePairAttributes.Ring(address: 0, depth: 16)
    try nic.makeCompletionQueue(1, ring: ring)
    try nic.register(RDMAMemoryRegion(key: 3, address: 0, bytes: 4096, access: .everything))
    let now = MonotonicTime(microseconds: 0)
    var outputs: [RDMANIC.Output] = []
    for number: UInt32 in 0..<20 {
      try nic.makeQueuePair(
        RDMAQueuePairAttributes(
          number: number, peerAddress: 1, peerNumber: 4, sendQueue: ring, receiveQueue: ring, sendCompletions: 1,
          receiveCompletions: 1))
      var packet = RDMAPacket(
        source: 1, destination: 0, queuePair: number, psn: PacketSequenceNumber(0), operation: .fetchAdd)
      packet.key = 3
      packet.words = [1, 0]
      nic.handle(.packet(packet), at: now, into: &outputs)
    }
    // Memory answers the oldest read with what it has then.
    var word: UInt64 = 100
    var originals: [UInt64] = []
    while !outputs.isEmpty {
      switch outputs.removeFirst() {
      case .fabric(.read(_, _, let tag)):
        let asked = word
        outputs += nic.handle(.readReply(tag: tag, words: [asked]), at: now)
      case .fabric(.write(_, let words)): word = words[0]
      case .send(let packet): originals += packet.words
      case .fabric(.interrupt), .timer, .quiesced, .violation: break
      }
    }
    #expect(originals == Array(100..<120) && word == 120)
  }

  @Test("a read of which a part was lost asks for the rest only")
  func lostReadResponse() throws {
    var pair = try RDMAPair()
    pair.memories[1].write(RDMAPair.data(0), (0..<40).map { UInt64($0) + 7 })
    var isLost = false
    pair.arrives = { packet, _ in
      guard packet.operation == .readResponse, packet.psn.value == 2, !isLost else { return true }
      isLost = true
      return false
    }
    pair.post([RDMAPair.work(.read, words: 40, local: 50)])
    pair.run()
    let requests = pair.sent.filter { $0.operation == .readRequest }
    #expect(requests.map(\.psn.value).prefix(2) == [0, 2])
    #expect(requests.map(\.length).prefix(2) == [40, 24])
    #expect(pair.memories[0].read(RDMAPair.data(50), 40) == (0..<40).map { UInt64($0) + 7 })
    #expect(pair.completions().map(\.status) == [.success])
  }

  @Test("sequence numbers know which of two comes first, across the wrap")
  func sequenceNumbers() {
    let last = PacketSequenceNumber(0xff_ffff)
    #expect(last.advanced(by: 1).value == 0)
    #expect(PacketSequenceNumber(3).distance(from: last) == 4)
    #expect(last.distance(from: PacketSequenceNumber(3)) == -4)
    #expect(PacketSequenceNumber(0).advanced(by: -1) == last)
    #expect(PacketSequenceNumber(0x7f_ffff).distance(from: PacketSequenceNumber(0)) == 0x7f_ffff)
    #expect(PacketSequenceNumber(0x80_0000).distance(from: PacketSequenceNumber(0)) == -0x80_0000)
  }
}
