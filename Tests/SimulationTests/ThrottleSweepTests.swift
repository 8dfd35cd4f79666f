// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("A sweep over rates of a NIC, with and without limits")
struct ThrottleSweepTests {
  private static let checksum = StreamChecksum { UInt64($0.count) }

  private static func rows(_ rates: [UInt64]) -> [ThrottleSweepRow] {
    let sweep = ThrottleSweep(rates: rates, guestBytes: 5_000_000_000)
    return sweep.rows(sweep.runs.map { $0.play(checksum: checksum) })
  }

  @Test("below the link's rate a move ends without a limit, above it only with one")
  func convergence() {
    let rows = Self.rows([4, 12, 20, 32])
    #expect(rows.compactMap(\.result.problem) == [])
    func endings(_ way: ThrottleSweepWay) -> [ThrottleSweepResult.Ending] {
      rows.filter { $0.way == way }.map(\.result.ending)
    }
    #expect(endings(.giveUp) == [.moved, .moved, .gaveUp, .gaveUp])
    #expect(endings(.force) == [.moved, .moved, .forced, .forced])
    #expect(endings(.throttle) == [.moved, .moved, .moved, .moved])
    let limit = ThrottleSweep.downtimeLimit(guestBytes: 5_000_000_000)
    for row in rows {
      let downtime = row.result.downtimeMicroseconds
      switch row.result.ending {
      case .moved: #expect(downtime.map { $0 < limit * 11 / 10 } == true, "\(row)")
      case .forced: #expect(downtime.map { $0 > limit * 2 } == true, "\(row)")
      case .gaveUp, .failed: #expect(downtime == nil, "\(row)")
      }
      let isLimited = row.way == .throttle && row.gigabits > ThrottleSweep.linkGigabits
      #expect(row.result.limits.isEmpty == !isLimited, "\(row)")
      #expect((row.result.limitedMicroseconds > 0) == isLimited, "\(row)")
    }
  }

  @Test("a faster NIC takes more rounds as long as it is slower than the link")
  func rounds() {
    let rounds = Self.rows([2, 8, 14]).filter { $0.way == .giveUp }.map(\.result.rounds)
    #expect(rounds.count == 3)
    #expect(zip(rounds, rounds.dropFirst()).allSatisfy { $0 < $1 }, "\(rounds)")
  }

  @Test("rows are in the order of rates and ways, whatever the order of runs is")
  func order() {
    let sweep = ThrottleSweep(rates: [4, 2, 8])
    let results = sweep.runs.map { run in
      var result = ThrottleSweepResult()
      result.rounds = Int(run.gigabits) * 10 + (ThrottleSweepWay.allCases.firstIndex(of: run.way) ?? 0)
      return result
    }
    #expect(sweep.rows(results).map(\.gigabits) == [4, 4, 4, 2, 2, 2, 8, 8, 8])
    #expect(sweep.rows(results).map(\.result.rounds) == [40, 41, 42, 20, 21, 22, 80, 81, 82])
    #expect(sweep.runs.map(\.gigabits).first == 8)
  }

  @Test("the same run gives the same result again")
  func again() {
    let run = ThrottleSweep.Run(gigabits: 20, way: .throttle, guestBytes: 1_000_000_000)
    #expect(run.play(checksum: Self.checksum) == run.play(checksum: Self.checksum))
  }

  @Test("the guest of the whole sweep has 100 GB, 16 GB of which are written to, and may stand still for 300 ms")
  func sizes() throws {
    let run = try #require(ThrottleSweep().runs.first)
    let memory = try #require(run.scenario.memory)
    #expect(memory.pages * memory.pageBytes > 99_999_990_000)
    #expect(memory.writers.map { $0.pages.count * memory.pageBytes } == [16_000_000_000])
    #expect(run.scenario.link.bytesPerMicrosecond == 2000)
    #expect(run.scenario.save.memory?.downtimeLimit == 300_000)
    #expect(ThrottleSweep.imageBytes(guestBytes: run.guestBytes) == 64_000_000)
  }
}
