// SPDX-License-Identifier: Apache-2.0
public import Migration

/// One world with ever more queue pairs, moved in four ways: its NIC stops between two packets or drains messages (DA4), and
/// time-outs double or stay what they are (DA3). Beside these it is played without a move.
///
/// The guest is as busy as its NIC lets it be: peers ask again soon after they have an answer, vCPUs are faster than the
/// NIC's PCIe link, and so almost every connection has an answer posted that waits for that link.
public struct QuiescingSweep: Sendable {
  /// One run of a sweep.
  public struct Run: Hashable, Sendable {
    /// Connections of the NIC, each of which has a queue pair.
    public let queuePairs: Int
    /// The way of the move; nil where there is none.
    public let way: QuiescingSweepWay?
  }

  /// The numbers of queue pairs, in their order.
  public let sizes: [Int]

  /// - Parameter sizes: numbers of queue pairs, each 1 to 131,072.
  public init(sizes: [Int] = [1, 10, 100, 1000, 10_000, 100_000]) { self.sizes = sizes }

  /// The runs that it takes: for each size the one without a move and then those of each way. The longest come first, so that
  /// threads that take them in turn end together.
  public var runs: [Run] {
    sizes.sorted(by: >).flatMap { size in
      [Run(queuePairs: size, way: nil)] + QuiescingSweepWay.allCases.map { Run(queuePairs: size, way: $0) }
    }
  }

  /// The rows that runs give, in the order of sizes and ways.
  /// - Parameter results: of each run, in the order of ``runs``.
  public func rows(_ results: [QuiescingSweepResult]) -> [QuiescingSweepRow] {
    let known = Dictionary(uniqueKeysWithValues: zip(runs, results))
    return sizes.flatMap { size in
      QuiescingSweepWay.allCases.compactMap { way in
        guard let result = known[Run(queuePairs: size, way: way)],
          let still = known[Run(queuePairs: size, way: nil)]
        else { return nil }
        return QuiescingSweepRow(queuePairs: size, way: way, result: result, still: still)
      }
    }
  }

  /// Microseconds of the first time-out.
  public static let timeoutMicroseconds: UInt32 = 1000

  /// The world of so many queue pairs, without what the ways differ in.
  public static func world(queuePairs: Int) -> WorldDescription {
    var world = WorldDescription(name: "sweep", workload: .nic)
    world.connections = queuePairs
    world.words = 16
    world.packetWords = 8
    // A tenth of the time that an answer takes where all connections want one.
    world.pauseMicroseconds = UInt64(queuePairs) * 15 / 100
    world.usesAtomics = false
    world.instructionsPerMicrosecond = 1000
    world.pcieWordsPerMicrosecond = 20
    world.firstRequestAt = 50 + UInt64(queuePairs) / 8
    // A little slower than the NIC can answer: peers that all began at once would wait for a sign of their first requests.
    world.startMicroseconds = UInt64(queuePairs) * 22 / 10
    world.moveAt = 1000 + world.firstRequestAt + world.startMicroseconds * 7 / 10
    // Enough that a few connections are busy for 12 ms, and each of many to the end of the stop.
    world.requests = 5 + 12_000 / max(60, queuePairs)
    world.retransmission.baseMicroseconds = timeoutMicroseconds
    world.retransmission.limitMicroseconds = 1_000_000
    world.nicRecordBytes = 4096
    // Guest memory is not what is measured: a page takes as much of the channel as its words do.
    world.guestPageBytes = 64
    world.channel.bytesPerMicrosecond = 50_000
    // Every record changes all the time.
    world.preCopies = false
    return world
  }
}

/// How a NIC stops, and how connections wait.
public struct QuiescingSweepWay: Hashable, Sendable {
  /// How the NIC comes to rest.
  public let quiescing: WorldDescription.Quiescing
  /// How time-outs change from one retransmission to the next.
  public let timeouts: RetransmissionScheme

  /// All of them.
  public static let allCases: [QuiescingSweepWay] = [.exponential, .fixed].flatMap { timeouts in
    WorldDescription.Quiescing.allCases.map { QuiescingSweepWay(quiescing: $0, timeouts: timeouts) }
  }

  /// One way.
  public init(quiescing: WorldDescription.Quiescing, timeouts: RetransmissionScheme) {
    self.quiescing = quiescing
    self.timeouts = timeouts
  }

  /// What connections have that are moved so.
  public var settings: RetransmissionSettings {
    var settings = QuiescingSweep.world(queuePairs: 1).retransmission
    settings.kind = timeouts
    return settings
  }
}
