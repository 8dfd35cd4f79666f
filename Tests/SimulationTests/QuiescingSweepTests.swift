// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("A sweep over numbers of queue pairs")
struct QuiescingSweepTests {
  private static let checksum = StreamChecksum { UInt64($0.count) }
  private static let packets = QuiescingSweepWay(quiescing: .betweenPackets, timeouts: .exponential)
  private static let drained = QuiescingSweepWay(quiescing: .drainingMessages, timeouts: .exponential)

  @Test("draining takes longer with more queue pairs, stopping between packets does not, and nothing breaks")
  func growth() throws {
    let sweep = QuiescingSweep(sizes: [1, 100, 1000])
    let rows = sweep.rows(sweep.runs.map { $0.play(checksum: Self.checksum) })
    #expect(rows.count == 12)
    #expect(rows.compactMap(\.problem) == [])
    #expect(rows.allSatisfy { $0.still.broken == 0 })
    func quiescing(_ way: QuiescingSweepWay) -> [UInt64] {
      rows.filter { $0.way == way }.map(\.result.quiescingMicroseconds)
    }
    #expect(quiescing(Self.drained)[2] > 3 * quiescing(Self.drained)[0])
    #expect(quiescing(Self.packets)[2] < 2 * quiescing(Self.packets)[0])
    let downtimes = rows.filter { $0.queuePairs == 1000 && $0.way.timeouts == .exponential }
      .map(\.result.downtimeMicroseconds)
    #expect(downtimes[1] > downtimes[0])
    #expect(rows.allSatisfy { $0.way.timeouts == .fixed || $0.result.broken == 0 })
    #expect(rows.filter { $0.queuePairs == 1 && $0.way == Self.packets }.map(\.result.imageBytes) == [16_528])
  }

  @Test("connections with fixed time-outs break in a stop that those with doubling ones outlast")
  func timeouts() {
    var broken: [RetransmissionScheme: Int] = [:]
    for kind in [RetransmissionScheme.fixed, .exponential] {
      // A larger image of fewer queue pairs.
      var world = QuiescingSweep.world(queuePairs: 200)
      world.nicRecordBytes = 256 << 10
      world.retransmission.kind = kind
      let result = QuiescingSweep.Run.playMove(Scenario(world: world, seed: 1), Self.checksum)
      #expect(result.problem == nil)
      #expect(
        result.downtimeMicroseconds
          > QuiescingSweepWay(quiescing: .betweenPackets, timeouts: .fixed).settings.toleranceMicroseconds)
      broken[kind] = result.broken
    }
    #expect(broken[.exponential] == 0)
    #expect(broken[.fixed] ?? 0 > 0)
  }

  @Test("the same run gives the same result again")
  func again() {
    let run = QuiescingSweep.Run(queuePairs: 20, way: Self.drained)
    #expect(run.play(checksum: Self.checksum) == run.play(checksum: Self.checksum))
  }

  @Test("a row counts what the move adds, and a world that breaks without one is a problem")
  func rows() {
    var result = QuiescingSweepResult()
    result.sentAgain = 7
    var still = QuiescingSweepResult()
    still.sentAgain = 5
    #expect(QuiescingSweepRow(queuePairs: 1, way: Self.packets, result: result, still: still).sentInVain == 2)
    #expect(QuiescingSweepRow(queuePairs: 1, way: Self.packets, result: still, still: result).sentInVain == 0)
    #expect(QuiescingSweepRow(queuePairs: 1, way: Self.packets, result: result, still: still).problem == nil)
    still.broken = 3
    let broken = QuiescingSweepRow(queuePairs: 1, way: Self.packets, result: result, still: still)
    #expect(broken.problem == "3 connections break without a move")
  }
}
