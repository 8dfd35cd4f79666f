// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

/// By which way packets go: told by the time that they take.
@Suite("Ways through the fabric")
struct FabricRouteTests {
  /// Two functions below a switch: 20 microseconds on the way by the switch, 220 by the root.
  static func arrival(_ kind: FabricPacket.Kind, _ access: FabricShape.AccessControl, isTranslated: Bool = false)
    -> UInt64
  {
    var shape = FabricShape()
    let port = shape.addSwitch(under: 0, .init(delay: 100))
    let first = shape.addFunction(under: port, .init(delay: 10), accessControl: access)
    let second = shape.addFunction(under: port, .init(delay: 10))
    var driver = FabricDriver(shape)
    driver.send(.sample(kind, from: first, to: second, 1, isTranslated: isTranslated), at: 0)
    driver.run()
    return driver.deliveries[0].time
  }

  @Test("packets turn at the switch, unless the port above redirects their kind")
  func redirect() {
    for kind in FabricPacket.Kind.allCases {
      #expect(Self.arrival(kind, []) == 20)
      #expect(Self.arrival(kind, .redirect) == 220)
    }
    #expect(Self.arrival(.posted, .requestRedirect) == 220)
    #expect(Self.arrival(.completion, .requestRedirect) == 20)
    #expect(Self.arrival(.posted, .completionRedirect) == 20)
    #expect(Self.arrival(.completion, .completionRedirect) == 220)
  }

  @Test("a translated request turns where the port says so, and an untranslated one does not")
  func translated() {
    let access: FabricShape.AccessControl = [.requestRedirect, .directTranslated]
    #expect(Self.arrival(.posted, access, isTranslated: true) == 20)
    #expect(Self.arrival(.posted, access) == 220)
    #expect(Self.arrival(.posted, .requestRedirect, isTranslated: true) == 220)
  }

  @Test("what a lower switch sends on goes to the root, though an upper one would let it turn")
  func nested() {
    var shape = FabricShape()
    let upper = shape.addSwitch(under: 0, .init(delay: 1000))
    let lower = shape.addSwitch(under: upper, .init(delay: 100))
    let first = shape.addFunction(under: lower, .init(delay: 10), accessControl: .redirect)
    let second = shape.addFunction(under: lower, .init(delay: 10))
    let third = shape.addFunction(under: upper, .init(delay: 10))
    var driver = FabricDriver(shape)
    driver.send(.sample(.posted, from: first, to: second, 1), at: 0)
    driver.send(.sample(.posted, from: third, to: second, 2), at: 0)
    driver.send(.sample(.posted, from: 0, to: second, 3), at: 0)
    driver.run()
    #expect(driver.deliveries.map(\.time) == [120, 1110, 2220])
    #expect(driver.deliveries.map(\.packet.number) == [2, 3, 1])
  }

  @Test("functions of one device reach each other inside it")
  func multifunction() {
    var shape = FabricShape()
    let device = shape.addMultifunction(under: 0, .init(delay: 5))
    let first = shape.addFunction(under: device, .inside)
    let second = shape.addFunction(under: device, .inside, control: first)
    #expect(shape.nodes[second].control == first && shape.nodes[first].control == first)
    var driver = FabricDriver(shape)
    driver.send(.sample(.posted, from: first, to: second, 1), at: 3)
    driver.send(.sample(.posted, from: second, to: 0, 2), at: 3)
    driver.run()
    #expect(driver.deliveries.map(\.time) == [3, 8])
  }

  @Test("a link carries so many words in a microsecond, and both directions for themselves")
  func rate() {
    var shape = FabricShape()
    let function = shape.addFunction(under: 0, .init(delay: 10, wordsPerMicrosecond: 4))
    var driver = FabricDriver(shape)
    for number in 0..<5 {
      driver.send(
        FabricPacket(from: function, to: 0, .write(address: UInt64(number), words: Array(repeating: 0, count: 7))),
        at: 0)
      driver.send(.sample(.nonPosted, from: 0, to: function, UInt64(number)), at: 100)
    }
    driver.run()
    #expect(driver.deliveries.map(\.time) == [12, 14, 16, 18, 20, 111, 111, 111, 111, 112])
  }

  @Test("a packet takes as many steps among four devices as among five hundred, and with little or much under way")
  func steps() {
    func steps(devices: Int, packets: Int) -> Int {
      var shape = FabricShape()
      var functions: [Int] = []
      for _ in 0..<devices / 2 {
        let port = shape.addSwitch(under: 0, .init(delay: 1, spread: 3))
        for _ in 0..<2 { functions.append(shape.addFunction(under: port, .init(delay: 1, spread: 3))) }
      }
      var driver = FabricDriver(shape)
      for number in 0..<packets {
        driver.send(
          .sample(.posted, from: functions[number % devices], to: functions[(number + 2) % devices], UInt64(number)),
          at: 0)
      }
      driver.run()
      return driver.steps / packets
    }
    #expect(steps(devices: 4, packets: 100) == 5)
    #expect(steps(devices: 500, packets: 100) == 5)
    #expect(steps(devices: 500, packets: 20_000) == 5)
  }
}
