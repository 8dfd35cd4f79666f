// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("An RDMA NIC that is suspended")
struct RDMASuspensionTests {
  @Test("is quiet at once where no read is under way, takes doorbells, and works them off after the resume")
  func doorbells() throws {
    var pair = try RDMAPair()
    #expect(pair.nics[0].handle(.suspendActive, at: pair.now) == [.quiesced])
    pair.post([RDMAPair.work(.write)])
    #expect(pair.sent == [])
    pair.drive(0, .suspendPassive)
    pair.drive(0, .resumePassive)
    pair.drive(0, .resumeActive)
    pair.run()
    #expect(pair.completions().map(\.status) == [.success])
  }

  @Test("waits for the reads that are under way, and sends nothing of what they bring")
  func reads() throws {
    var pair = try RDMAPair()
    let doorbell = RDMADoorbell(queue: .send, queuePair: 5, producerIndex: 1)
    guard case .fabric(.read(_, _, let tag)) = pair.nics[0].handle(.doorbell(doorbell), at: pair.now).first else {
      Issue.record("no read")
      return
    }
    #expect(pair.nics[0].handle(.suspendActive, at: pair.now) == [])
    let slot = RDMAPair.work(.write).slot
    #expect(pair.nics[0].handle(.readReply(tag: tag, words: slot), at: pair.now) == [.quiesced])
  }

  @Test("drops what the network brings, without an answer")
  func packets() throws {
    var pair = try RDMAPair()
    pair.drive(1, .suspendActive)
    pair.post([RDMAPair.work(.write, words: 20)])
    pair.run(until: 100)
    #expect(pair.nics[1].counters.droppedPackets == 3)
    #expect(pair.sent.allSatisfy { $0.source == 0 })
    pair.drive(1, .resumeActive)
    pair.run()
    #expect(pair.completions().map(\.status) == [.success])
  }

  @Test("and stopped reports what arrives all the same")
  func stopped() throws {
    var pair = try RDMAPair()
    let doorbell = RDMADoorbell(queue: .send, queuePair: 5, producerIndex: 1)
    pair.drive(0, .suspendActive)
    pair.drive(0, .suspendPassive)
    #expect(pair.nics[0].handle(.doorbell(doorbell), at: pair.now) == [.violation(.doorbell(doorbell))])
    #expect(pair.nics[0].handle(.readReply(tag: 3, words: []), at: pair.now) == [.violation(.readReply(tag: 3))])
  }

  @Test("before it was quiet does not listen to an answer that comes after the resume")
  func lateReply() throws {
    var pair = try RDMAPair()
    let doorbell = RDMADoorbell(queue: .send, queuePair: 5, producerIndex: 1)
    guard case .fabric(.read(_, _, let tag)) = pair.nics[0].handle(.doorbell(doorbell), at: pair.now).first else {
      Issue.record("no read")
      return
    }
    for input: RDMANIC.Input in [.suspendActive, .suspendPassive, .resumePassive] {
      #expect(pair.nics[0].handle(input, at: pair.now) == [])
    }
    let slot = RDMAPair.work(.write).slot
    #expect(pair.nics[0].handle(.readReply(tag: tag, words: slot), at: pair.now) == [])
    let outputs = pair.nics[0].handle(.resumeActive, at: pair.now)
    #expect(outputs.contains { if case .fabric(.read(_, _, let new)) = $0 { new != tag } else { false } })
    #expect(pair.nics[0].handle(.readReply(tag: tag, words: slot), at: pair.now) == [])
  }
}
