// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("Connections of a NIC that is moved")
struct RDMAMoveTests {
  /// A small world that is frozen at some moment, on a network of some quality.
  static func options(_ seed: Int) -> RDMAWorldOptions {
    var random = SeededGenerator(seed: UInt64(seed) &* 77)
    var options = RDMAProtocolTests.options()
    options.peers = 1 + seed % 2
    options.script.words = [1, 7, 20, 64, 100][seed % 5]
    options.firstPSN = PacketSequenceNumber(seed % 3 == 0 ? 0xff_fff0 : UInt32(truncatingIfNeeded: random.next()))
    options.retransmission.baseMicroseconds = 100
    options.freezeAt = 1 + UInt64(random.next(below: 300))
    options.downtime = UInt64(random.next(below: 3000))
    options.processorsRunLong = seed % 4 < 2
    options.guestNIC.mostOutstandingReads = [1, 2, 64][seed / 4 % 3]
    if seed % 3 == 0 { options.preCopyAt = UInt64(random.next(below: Int(options.freezeAt ?? 1))) }
    if seed % 2 == 1 {
      options.link.lossPerMillion = random.next(below: 20_000)
      options.link.reorderingPerMillion = random.next(below: 20_000)
      options.link.duplicationPerMillion = random.next(below: 20_000)
    }
    return options
  }

  @Test("lose nothing, see nothing twice and do not break, wherever they are frozen")
  func frozen() throws {
    var (halfSent, unfinished, resent) = (0, 0, 0)
    for seed in 0..<1000 {
      var world = try RDMAWorld(Self.options(seed), seed: UInt64(seed))
      world.run()
      #expect(world.breaches == [], "seed \(seed)")
      let pairs = world.nics[0].queuePairs
      halfSent += pairs.count { $0.inbound != .nothing || $0.unacknowledged != $0.consumerPSN }
      unfinished += pairs.count { $0.isBusy }
      resent += world.nics[1].counters.retransmittedPackets
    }
    // The moments were of the kind that matters.
    #expect(halfSent > 100 && unfinished > 100 && resent > 100)
  }

  @Test(
    "lose nothing where the NIC comes back instead, at whatever point",
    arguments: RDMAWorldOptions.Way.allCases.dropFirst(), [RDMANIC.Quiescing.betweenPackets, .drainingMessages])
  func comesBack(way: RDMAWorldOptions.Way, quiescing: RDMANIC.Quiescing) throws {
    for seed in 0..<200 {
      var options = Self.options(seed)
      options.way = way
      options.guestNIC.quiescing = quiescing
      var world = try RDMAWorld(options, seed: UInt64(seed))
      world.run()
      #expect(world.breaches == [], "seed \(seed)")
    }
  }

  @Test("are drained before the NIC is quiet, where it is to drain them")
  func drained() throws {
    for seed in 0..<300 {
      var options = Self.options(seed)
      options.guestNIC.quiescing = .drainingMessages
      options.processorsRunLong = true
      var world = try RDMAWorld(options, seed: UInt64(seed))
      world.run()
      #expect(world.breaches == [], "seed \(seed)")
      guard world.nics[0].activity == .stopped else { continue }
      #expect(world.nics[0].queuePairs.allSatisfy { !$0.isBusy })
    }
  }

  @Test("make the NIC wait for no message: it is quiet as soon as its reads are answered")
  func quietTimes() throws {
    var (between, draining) = (0 as UInt64, 0 as UInt64)
    for seed in 0..<200 {
      for quiescing in [RDMANIC.Quiescing.betweenPackets, .drainingMessages] {
        var options = Self.options(seed)
        options.guestNIC.quiescing = quiescing
        options.freezeAt = 20
        options.preCopyAt = nil
        var world = try RDMAWorld(options, seed: UInt64(seed))
        world.run()
        let wait = (world.quietAt ?? 20) - 20
        if quiescing == .betweenPackets {
          // No read takes longer than that in this world.
          #expect(wait <= 4, "seed \(seed)")
          between += wait
        } else {
          draining += wait
        }
      }
    }
    #expect(between > 0 && draining > 2 * between)
  }

  @Test(
    "outlast a stop that is shorter than their settings allow, and break in a longer one",
    arguments: [RetransmissionScheme.fixed, .exponential], [0, 3, 7])
  func tolerance(kind: RetransmissionScheme, retries: Int) throws {
    var settings = RetransmissionSettings()
    settings.kind = kind
    settings.baseMicroseconds = 2_000
    settings.limitMicroseconds = 50_000
    settings.retries = retries
    for (downtime, survives) in [(0.8, true), (1.05, false)] {
      for seed in 0..<20 {
        // A peer that only waits for the guest's message has nothing to send again, and so nothing that could break.
        let mix: [PeerRequest] = survives ? [.send, .fetchAdd] : [.fetchAdd]
        var options = RDMAProtocolTests.options(mix, requests: 40)
        options.retransmission = settings
        options.freezeAt = 100
        // The last retransmission has to come after the resume, not only the error.
        let bound =
          Double(survives ? settings.lastRetransmissionMicroseconds : settings.toleranceMicroseconds) * downtime
        options.downtime = UInt64(bound)
        guard !survives || retries > 0 else { continue }
        var world = try RDMAWorld(options, seed: UInt64(seed))
        world.run()
        if survives {
          #expect(world.breaches == [], "seed \(seed)")
        } else {
          #expect(world.failures.count == options.connections, "seed \(seed)")
          #expect(world.failures.allSatisfy { $0.status == .retriesExceeded })
          #expect(world.mismatches == 0 && world.violations == [])
        }
      }
    }
  }

  @Test("are not disturbed by pre-copy, of which only what changed is taken again")
  func preCopy() throws {
    var options = RDMAProtocolTests.options(requests: 20)
    options.connections = 40
    options.script.pauseMicroseconds = 400
    var world = try RDMAWorld(options, seed: 3)
    while world.answered < 60, world.step() {}
    _ = world.nics[0].takeChangedRecords()
    #expect(world.nics[0].changedRecords == 0)
    for _ in 0..<20 { _ = world.step() }
    let changed = world.nics[0].takeChangedRecords()
    #expect(changed.count <= 20 && Set(changed).count == changed.count)
  }

  @Test("keep going on a NIC that takes less from the network than comes")
  func inboundLimit() throws {
    var times: [UInt64] = []
    for limit in [nil, RDMAInboundLimit(packetsPerMillisecond: 40, burstPackets: 4)] {
      var options = RDMAProtocolTests.options([.writeAndSend])
      options.script.words = 64
      options.retransmission.kind = .fixed
      var world = try RDMAWorld(options, seed: 1)
      world.nics[0].setInboundLimit(limit)
      world.run()
      #expect(world.breaches == [])
      #expect((world.nics[0].counters.limitedPackets > 0) == (limit != nil))
      times.append(world.now.microseconds)
    }
    #expect(times[1] > 2 * times[0])
  }
}
