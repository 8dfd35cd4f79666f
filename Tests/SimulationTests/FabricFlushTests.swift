// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

/// The argument of docs/quiescing.md, on the fabric: when A's driver has its answer, and then B's driver commands B, A's
/// writes are at B before the command. And where it does not hold, what a flush does.
@Suite("Answers that push writes")
struct FabricFlushTests {
  static let seeds: UInt64 = 3000
  static let slow = FabricShape.Link(delay: 1, spread: 8)

  /// A and B somewhere in a fabric.
  struct Place {
    var shape = FabricShape()
    var a = 0
    var b = 0
  }

  enum Layout: CaseIterable {
    case oneSwitch, oneSwitchRedirecting, twoRootPorts, twoSwitches, oneDevice

    var place: Place {
      var place = Place()
      switch self {
      case .oneSwitch, .oneSwitchRedirecting:
        let access: FabricShape.AccessControl = self == .oneSwitch ? [] : .redirect
        let port = place.shape.addSwitch(under: 0, slow)
        place.a = place.shape.addFunction(under: port, slow, accessControl: access)
        place.b = place.shape.addFunction(under: port, slow, accessControl: access)
      case .twoRootPorts:
        place.a = place.shape.addFunction(under: 0, slow)
        place.b = place.shape.addFunction(under: 0, slow)
      case .twoSwitches:
        let upper = place.shape.addSwitch(under: 0, slow)
        let (left, right) = (place.shape.addSwitch(under: upper, slow), place.shape.addSwitch(under: upper, slow))
        place.a = place.shape.addFunction(under: left, slow)
        place.b = place.shape.addFunction(under: right, slow)
      case .oneDevice:
        let device = place.shape.addMultifunction(under: 0, slow)
        place.a = place.shape.addFunction(under: device, .inside)
        place.b = place.shape.addFunction(under: device, .inside)
      }
      return place
    }
  }

  /// Both are VFs, and their drivers' commands go through a PF: behind the port that A and B share, or on a link of its own.
  static func withPF(idOrdering: FabricShape.IDOrdering, shared: Bool) -> Place {
    var place = Place()
    let port = place.shape.addSwitch(under: 0, slow)
    func add() -> Int {
      // A PF that shares the link with its VF, or has one of its own.
      let device = shared ? place.shape.addMultifunction(under: port, slow) : port
      let link = shared ? .inside : FabricShape.Link(delay: 1, spread: 30)
      let pf = place.shape.addFunction(under: shared ? device : 0, shared ? .inside : slow, idOrdering: idOrdering)
      return place.shape.addFunction(under: device, link, control: pf)
    }
    place.a = add()
    place.b = add()
    return place
  }

  /// A sends writes, then its answer. When that is at the root, so many rounds of flushing, and then B's command.
  /// - Returns: whether all writes were at B before the command.
  static func holds(
    _ place: Place, seed: UInt64, rounds: Int = 0, keepsOrder: Bool = true
  ) -> Bool {
    let (a, b) = (place.a, place.b)
    var driver = FabricDriver(place.shape, seed: seed, keepsOrder: keepsOrder)
    for number in 0..<3 { driver.send(.sample(.posted, from: a, to: b, UInt64(number)), at: 0) }
    driver.send(FabricPacket(from: place.shape.nodes[a].control, to: 0, .commandReply(number: 1)), at: 0)
    var round = 0
    var open = 0
    driver.run { delivery in
      guard delivery.packet.to == 0 else { return [] }
      open -= round > 0 ? 1 : 0
      guard open == 0 else { return [] }
      guard round < rounds else {
        return [FabricPacket(from: 0, to: place.shape.nodes[b].control, .command(number: 2))]
      }
      round += 1
      open = 2
      return [a, b].map { FabricPacket(from: 0, to: $0, .configRead(tag: UInt64(round))) }
    }
    let last = driver.deliveries.filter { $0.packet.kind == .posted || $0.packet.body == .command(number: 2) }
    #expect(last.count == 4)
    return last.last?.packet.body == .command(number: 2)
  }

  static func failures(_ place: Place, rounds: Int = 0, keepsOrder: Bool = true) -> Int {
    (0..<seeds).count { !holds(place, seed: $0, rounds: rounds, keepsOrder: keepsOrder) }
  }

  @Test("an answer on the link of the writes pushes them ahead of the next command", arguments: Layout.allCases)
  func sharedPath(layout: Layout) {
    #expect(Self.failures(layout.place) == 0)
  }

  @Test("without PCIe's order it does not", arguments: Layout.allCases.filter { $0 != .oneDevice })
  func broken(layout: Layout) {
    #expect(Self.failures(layout.place, keepsOrder: false) > 0)
  }

  @Test("an answer by a PF behind the same port pushes them too")
  func sharedPF() {
    #expect(Self.failures(Self.withPF(idOrdering: [], shared: true)) == 0)
  }

  @Test("an answer by a PF on another link does not; one round of config reads at one time is too few, two do")
  func otherLink() {
    let place = Self.withPF(idOrdering: [], shared: false)
    #expect(Self.failures(place) > 0)
    #expect(Self.failures(place, rounds: 1) > 0)
    #expect(Self.failures(place, rounds: 2) == 0)
  }

  @Test("nor does an answer with ID-based ordering, and a flush mends it")
  func idOrdered() {
    let place = Self.withPF(idOrdering: .completions, shared: true)
    #expect(Self.failures(place) > 0)
    // B's command comes down B's own link here, so that it pushes the writes itself once they are past the switch.
    #expect(Self.failures(place, rounds: 1) == 0)
    #expect(Self.failures(place, rounds: 2) == 0)
  }

  @Test("a seed at which one round does not do, and two do")
  func oneRoundSeed() {
    let place = Self.withPF(idOrdering: [], shared: false)
    let seed: UInt64 = 0
    #expect(!Self.holds(place, seed: seed, rounds: 1))
    #expect(Self.holds(place, seed: seed, rounds: 2))
  }

  @Test("a function's configuration space answers behind the function's own writes")
  func configRead() {
    for seed in 0..<Self.seeds {
      let place = Layout.twoRootPorts.place
      var driver = FabricDriver(place.shape, seed: seed)
      driver.send(FabricPacket(from: 0, to: place.a, .configRead(tag: 7)), at: 0)
      driver.send(.sample(.posted, from: place.a, to: 0, 1), at: 0)
      driver.run()
      let packets = driver.deliveries.map(\.packet)
      #expect(
        packets == [
          .sample(.posted, from: place.a, to: 0, 1), FabricPacket(from: place.a, to: 0, .configReply(tag: 7)),
        ])
    }
  }
}
