// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("What peers see of a NIC that was moved wrongly")
struct RDMAJudgeTests {
  enum Fault: CaseIterable {
    case renumbered, expectedIsOneMore, expectedIsOneLess, unacknowledgedIsOneMore, atomicsForgotten, doorbellLost
    case keyChanged, consumerIsOneMore
  }

  /// Words of a queue pair's record, behind its header.
  private enum Word {
    static let numbers = 1
    static let consumer = 10
    static let unacknowledged = 13
    static let highest = 14
    static let expected = 15
    static let inbound = 16
  }

  private static func damage(_ fault: Fault, _ words: inout [UInt64]) {
    func move(_ word: Int, by count: Int) {
      words[word] = UInt64(PacketSequenceNumber(UInt32(words[word])).advanced(by: count).value)
    }
    let isQueuePair = words[0] & 0xffff_ffff == 4
    switch fault {
    case .keyChanged: if words[0] & 0xffff_ffff == 3 { words[1] ^= 1 }
    case _ where !isQueuePair: break
    case .renumbered: words[Word.numbers] ^= 1
    case .expectedIsOneMore: move(Word.expected, by: 1)
    case .expectedIsOneLess: move(Word.expected, by: -1)
    case .unacknowledgedIsOneMore:
      guard words[Word.unacknowledged] != words[Word.highest] else { return }
      move(Word.unacknowledged, by: 1)
    case .atomicsForgotten:
      let inbound = words[Word.inbound] & 0xffff_ffff == 2 ? 3 : 1
      words = Array(words[..<(Word.inbound + inbound)])
      words[0] = words[0] & 0xffff_ffff | UInt64(words.count) << 32
    case .consumerIsOneMore:
      let (consumer, posted) = (words[Word.consumer] & 0xffff_ffff, words[Word.consumer] >> 32)
      if consumer + 1 < posted { words[Word.consumer] += 1 }
    case .doorbellLost: break
    }
  }

  private static func run(_ fault: Fault?, seed: Int) throws -> [String] {
    var options = RDMAMoveTests.options(seed)
    options.script.mix = fault == .atomicsForgotten ? [.fetchAdd] : options.script.mix
    options.freezeAt = 10 + options.freezeAt! % 100
    options.preCopyAt = nil
    options.processorsRunLong = true
    options.losesDoorbells = fault == .doorbellLost
    if let fault { options.damage = { _, words in damage(fault, &words) } }
    var world = try RDMAWorld(options, seed: UInt64(seed))
    world.run(events: 20_000)
    return world.breaches
  }

  @Test("a NIC that was moved as it is leaves nothing to complain of")
  func sound() throws {
    for seed in 0..<100 { #expect(try Self.run(nil, seed: seed) == []) }
  }

  @Test("each fault is seen within a hundred runs", arguments: Fault.allCases)
  func seen(fault: Fault) throws {
    #expect(try (0..<100).contains { try !Self.run(fault, seed: $0).isEmpty })
  }
}
