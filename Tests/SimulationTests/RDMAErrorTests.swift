// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("What a reliable connection does when something is wrong")
struct RDMAErrorTests {
  @Test(
    "without any answer it fails exactly when its settings say",
    arguments: [RetransmissionScheme.fixed, .exponential], 0...7)
  func exhaustion(kind: RetransmissionScheme, retries: Int) throws {
    var settings = RetransmissionSettings()
    settings.kind = kind
    settings.baseMicroseconds = 300
    settings.limitMicroseconds = 5_000
    settings.retries = retries
    var pair = try RDMAPair(settings)
    pair.arrives = { _, _ in false }
    pair.post([RDMAPair.work(.write), RDMAPair.work(.read)])
    pair.run(until: settings.toleranceMicroseconds - 1)
    #expect(pair.completions() == [])
    pair.run()
    #expect(pair.now.microseconds == settings.toleranceMicroseconds)
    #expect(pair.completions().map(\.status) == [.retriesExceeded, .flushed])
    #expect(pair.sent.count { $0.operation == .write } == retries + 1)
    #expect(pair.nics[0].queuePair(5)?.attributes.state == .error)
    #expect(pair.nics[0].busyQueuePairs == 0)
  }

  @Test("the tolerance is the sum of the time-outs")
  func toleranceSums() {
    var settings = RetransmissionSettings()
    settings.baseMicroseconds = 100
    settings.limitMicroseconds = 1_000
    settings.retries = 5
    #expect(settings.toleranceMicroseconds == 100 + 200 + 400 + 800 + 1_000 + 1_000)
    settings.kind = .fixed
    #expect(settings.toleranceMicroseconds == 600)
  }

  @Test("an answer starts the retries anew")
  func retriesStartAnew() throws {
    var settings = RetransmissionSettings()
    settings.kind = .fixed
    settings.baseMicroseconds = 100
    settings.retries = 2
    var pair = try RDMAPair(settings)
    // Of each packet the first two are lost.
    var counts: [PacketSequenceNumber: Int] = [:]
    pair.arrives = { packet, _ in
      guard packet.operation.isRequest else { return true }
      counts[packet.psn, default: 0] += 1
      return counts[packet.psn, default: 0] > 2
    }
    for _ in 0..<5 {
      pair.post([RDMAPair.work(.write)])
      pair.run()
    }
    #expect(pair.completions().map(\.status) == Array(repeating: .success, count: 5))
  }

  @Test("a message for which no receive is posted is sent again until there is one")
  func receiverNotReady() throws {
    var pair = try RDMAPair()
    pair.memories[0].write(RDMAPair.data(0), [41, 42])
    pair.post([RDMAPair.work(.send, words: 2), RDMAPair.work(.write, words: 1, remote: 30)])
    pair.run(until: 1_000)
    #expect(pair.completions() == [])
    #expect(pair.sent.contains { $0.operation == .receiverNotReady })
    pair.postReceive(words: 2, at: 20)
    pair.run()
    #expect(pair.completions().map(\.status) == [.success, .success])
    #expect(pair.completions(1).map(\.words) == [2])
    #expect(pair.memories[1].read(RDMAPair.data(20), 2) == [41, 42])
  }

  @Test("it fails when no receive is posted for longer than its settings allow", arguments: 0...6)
  func receiverNeverReady(retries: Int) throws {
    var settings = RetransmissionSettings()
    settings.receiverNotReadyRetries = retries
    var pair = try RDMAPair(settings)
    pair.post([RDMAPair.work(.send, words: 2)])
    pair.run()
    #expect(pair.completions().map(\.status) == [.receiverNotReadyRetriesExceeded])
    #expect(pair.sent.count { $0.operation == .send } == retries + 1)
  }

  static let forbidden: [(RDMAWorkRequest, RDMAMemoryRegion.Access)] = [
    (RDMAPair.work(.write), [.remoteRead, .remoteAtomic, .localWrite]),
    (RDMAPair.work(.read), [.remoteWrite, .remoteAtomic, .localWrite]),
    (RDMAPair.work(.fetchAdd), [.remoteWrite, .remoteRead, .localWrite]),
    (RDMAPair.work(.write, words: 101), .everything), (RDMAPair.work(.write, words: 1, remote: 100), .everything),
    (RDMAPair.work(.read, words: 2, remote: 99), .everything), (RDMAPair.work(.write, remote: -1), .everything),
    (RDMAPair.work(.compareSwap, remote: 100), .everything),
  ]

  @Test("what the region does not allow is refused and not done, and both ends fail", arguments: 0..<forbidden.count)
  func remoteAccess(number: Int) throws {
    let (work, access) = Self.forbidden[number]
    var pair = try RDMAPair(region: (100, access))
    let before = pair.memories[1].read(RDMAPair.data(-8), 200)
    pair.post([RDMAPair.work(.write, words: 0), work, RDMAPair.work(.send)])
    pair.run()
    #expect(pair.completions().map(\.status) == [.success, .remoteAccessError, .flushed])
    #expect(pair.memories[1].read(RDMAPair.data(-8), 200) == before)
    #expect(pair.nics.allSatisfy { $0.queuePairs[0].attributes.state == .error })
  }

  @Test("the last word of a region may be touched, and a key that is not there may not")
  func bounds() throws {
    var pair = try RDMAPair(region: (100, .everything))
    var wrong = RDMAPair.work(.write)
    wrong.remoteKey += 1
    pair.post([RDMAPair.work(.write, words: 100), RDMAPair.work(.fetchAdd, remote: 99), wrong])
    pair.run()
    #expect(pair.completions().map(\.status) == [.success, .success, .remoteAccessError])
  }

  @Test("a word that is only partly in the region is not in it, and an address that carries no content is in none")
  func partly() {
    var region = RDMAMemoryRegion(key: 1, address: 4096, bytes: 12, access: .remoteRead)
    #expect(region.allows(.remoteRead, at: 4096, words: 1))
    #expect(!region.allows(.remoteRead, at: 4096, words: 2))
    #expect(!region.allows(.remoteWrite, at: 4096, words: 1))
    region = RDMAMemoryRegion(key: 1, address: 0, bytes: .max, access: .remoteRead)
    #expect(!region.allows(.remoteRead, at: 4, words: 1) && !region.allows(.remoteRead, at: 64, words: 1))
    #expect(region.allows(.remoteRead, at: 8, words: 1 << 16))
    #expect(!region.allows(.remoteRead, at: 0xffff_ffff_ffff_f000, words: 9))
  }

  @Test("a wrong key of its own fails the work request in its turn")
  func localProtection() throws {
    var pair = try RDMAPair()
    var wrong = RDMAPair.work(.write)
    wrong.localKey += 1
    pair.post([RDMAPair.work(.write, words: 80), wrong, RDMAPair.work(.write)])
    pair.run()
    #expect(pair.completions().map(\.status) == [.success, .localProtectionError, .flushed])
  }

  @Test("a message longer than the receive fails both ends")
  func tooLong() throws {
    var pair = try RDMAPair()
    pair.postReceive(words: 9)
    pair.post([RDMAPair.work(.send, words: 10)])
    pair.run()
    #expect(pair.completions().map(\.status) == [.remoteInvalidRequest])
    #expect(pair.completions(1).map(\.status) == [.localLengthError])
  }

  @Test("nonsense in the send queue fails the connection, after what went before it")
  func nonsense() throws {
    var pair = try RDMAPair()
    pair.memories[0].write(RDMAPair.sendQueue.address(of: 1, slotWords: 8), Array(repeating: .max, count: 8))
    pair.memories[0].write(RDMAPair.sendQueue.address(of: 0, slotWords: 8), RDMAPair.work(.write).slot)
    pair.drive(0, .doorbell(RDMADoorbell(queue: .send, queuePair: 5, producerIndex: 2)))
    pair.run()
    #expect(pair.completions().map(\.status) == [.success, .localOperationError])
  }

  @Test("a doorbell that goes back or too far is not believed")
  func badDoorbells() throws {
    var pair = try RDMAPair()
    pair.post([RDMAPair.work(.write), RDMAPair.work(.write)])
    pair.run()
    for index in [1, 35, 1 << 31, UInt32.max] {
      pair.drive(0, .doorbell(RDMADoorbell(queue: .send, queuePair: 5, producerIndex: index)))
    }
    pair.drive(0, .doorbell(RDMADoorbell(queue: .send, queuePair: 6, producerIndex: 3)))
    pair.run()
    #expect(pair.nics[0].counters.badDoorbells == 5)
    #expect(pair.completions().count == 2)
  }
}
