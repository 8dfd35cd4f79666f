// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

/// PCIe's table "Ordering Rules", written down here from the specification, against what the fabric does.
@Suite("The order of packets on the fabric")
struct FabricOrderingTests {
  static let seeds: UInt64 = 2000
  typealias Kind = FabricPacket.Kind

  /// The rows: who wants to pass. The columns: who was there before. Without relaxed or ID-based ordering.
  static let mayPass: [(later: Kind, earlier: Kind, allowed: Bool)] = [
    (.posted, .posted, false), (.posted, .nonPosted, true), (.posted, .completion, true),
    (.nonPosted, .posted, false), (.nonPosted, .nonPosted, true), (.nonPosted, .completion, true),
    (.completion, .posted, false), (.completion, .nonPosted, true), (.completion, .completion, true),
  ]

  /// Two functions below a switch, whose link to the root is where packets pass each other.
  static func pair(idOrdering: FabricShape.IDOrdering = []) -> (shape: FabricShape, first: Int, second: Int) {
    var shape = FabricShape()
    let port = shape.addSwitch(under: 0, .init(delay: 2, spread: 6))
    let first = shape.addFunction(under: port, .init(delay: 1), idOrdering: idOrdering)
    let second = shape.addFunction(under: port, .init(delay: 1), idOrdering: idOrdering)
    return (shape, first, second)
  }

  /// How often what was sent later is there first.
  static func passes(
    _ shape: FabricShape, _ earlier: FabricPacket, _ later: FabricPacket, keepsOrder: Bool = true
  ) -> Int {
    (0..<seeds).count { seed in
      var driver = FabricDriver(shape, seed: seed, keepsOrder: keepsOrder)
      driver.send(earlier, at: 0)
      driver.send(later, at: 1)
      driver.run()
      return driver.deliveries.map(\.packet.number) == [2, 1]
    }
  }

  @Test("every cell of the table: what may not pass never does, what may pass does", arguments: mayPass)
  func table(later: Kind, earlier: Kind, allowed: Bool) {
    let (shape, first, second) = Self.pair()
    for sender in [first, second] {
      let count = Self.passes(
        shape, .sample(earlier, from: first, to: 0, 1), .sample(later, from: sender, to: 0, 2))
      #expect((count > 0) == allowed, "\(count) of \(Self.seeds)")
    }
  }

  @Test("with ID-based ordering a packet passes others' writes, and never its own function's", arguments: mayPass)
  func idOrdering(later: Kind, earlier: Kind, allowed: Bool) {
    for idOrdering in [FabricShape.IDOrdering.requests, .completions] {
      let (shape, first, second) = Self.pair(idOrdering: idOrdering)
      let isSent = idOrdering.contains(later == .completion ? .completions : .requests)
      let own = Self.passes(shape, .sample(earlier, from: first, to: 0, 1), .sample(later, from: first, to: 0, 2))
      let other = Self.passes(shape, .sample(earlier, from: first, to: 0, 1), .sample(later, from: second, to: 0, 2))
      #expect((own > 0) == allowed)
      #expect((other > 0) == (allowed || isSent))
    }
  }

  @Test("in the broken fabric a completion passes a write", arguments: mayPass)
  func broken(later: Kind, earlier: Kind, allowed: Bool) {
    let (shape, first, _) = Self.pair()
    let (before, after) = (
      FabricPacket.sample(earlier, from: first, to: 0, 1), FabricPacket.sample(later, from: first, to: 0, 2)
    )
    #expect(Self.passes(shape, before, after, keepsOrder: false) > 0)
  }

  @Test("of five packets, exactly the orders that the table allows are seen")
  func allOrders() {
    let kinds: [Kind] = [.nonPosted, .posted, .completion, .nonPosted, .posted]
    var shape = FabricShape()
    let function = shape.addFunction(under: 0, .init(delay: 1, spread: 9))
    var seen: Set<[UInt64]> = []
    for seed in 0..<20_000 {
      var driver = FabricDriver(shape, seed: UInt64(seed))
      for (index, kind) in kinds.enumerated() {
        driver.send(.sample(kind, from: function, to: 0, UInt64(index)), at: 0)
      }
      driver.run()
      seen.insert(driver.deliveries.map(\.packet.number))
    }
    var legal: Set<[UInt64]> = []
    func extend(_ order: [UInt64]) {
      if order.count == kinds.count { legal.insert(order) }
      for next in kinds.indices where !order.contains(UInt64(next)) {
        let passed = (0..<next).filter { !order.contains(UInt64($0)) }
        let isLegal = passed.allSatisfy { earlier in
          Self.mayPass.contains { $0.later == kinds[next] && $0.earlier == kinds[earlier] && $0.allowed }
        }
        if isLegal { extend(order + [UInt64(next)]) }
      }
    }
    extend([])
    #expect(seen == legal)
  }

  @Test("in any tree a write is there before whatever its sender sends to the same place after it")
  func endToEnd() {
    for seed in 0..<Self.seeds {
      var random = SeededGenerator(seed: seed)
      let (shape, functions) = randomShape(&random, functions: 2 + random.next(below: 4))
      let ends = [0] + functions
      var driver = FabricDriver(shape, seed: seed)
      for number in 0..<40 {
        let from = ends[random.next(below: ends.count)]
        let to = ends[random.next(below: ends.count)]
        guard from != to else { continue }
        // A port that redirects one kind and not the other sends them different ways, where nothing keeps their order.
        let kind: Kind = random.next(below: 2) == 0 ? .posted : .nonPosted
        driver.send(.sample(kind, from: from, to: to, UInt64(number)), at: UInt64(number / 4))
      }
      driver.run()
      #expect(driver.fabric.packetsUnderWay == 0)
      var latest: [[Int]: UInt64] = [:]
      for delivery in driver.deliveries {
        let way = [delivery.packet.from, delivery.packet.to]
        if delivery.packet.kind == .posted {
          #expect(latest[way] ?? 0 <= delivery.packet.number, "seed \(seed)")
        }
        latest[way] = max(latest[way] ?? 0, delivery.packet.number)
      }
    }
  }

  @Test("the same seed gives the same run")
  func deterministic() {
    func run() -> [FabricDriver.Delivery] {
      var random = SeededGenerator(seed: 5)
      let (shape, functions) = randomShape(&random, functions: 6)
      var driver = FabricDriver(shape, seed: 9)
      for number in 0..<500 {
        let kind = Kind.allCases[random.next(below: 3)]
        driver.send(.sample(kind, from: functions[number % 6], to: functions[(number + 1) % 6], UInt64(number)), at: 0)
      }
      driver.run()
      return driver.deliveries
    }
    #expect(run() == run())
  }
}
