// SPDX-License-Identifier: Apache-2.0
import Migration

@testable import Simulation

/// Drives a fabric alone: what is delivered, when and in which order.
struct FabricDriver {
  struct Delivery: Hashable {
    let time: UInt64
    let packet: FabricPacket
  }

  enum Event {
    case fabric(Fabric.Event)
    case send(FabricPacket)
  }

  var fabric: Fabric
  var random: SeededGenerator
  var queue = EventQueue<Event>()
  var deliveries: [Delivery] = []
  /// How many calls there were.
  var steps = 0

  init(_ shape: FabricShape, seed: UInt64 = 1, keepsOrder: Bool = true) {
    fabric = Fabric(shape, keepsOrder: keepsOrder)
    random = SeededGenerator(seed: seed)
  }

  mutating func send(_ packet: FabricPacket, at time: UInt64) {
    queue.put(.send(packet), at: MonotonicTime(microseconds: time))
  }

  /// Runs to the end. - Parameter react: what is sent, at once, because of a delivery.
  mutating func run(_ react: (Delivery) -> [FabricPacket] = { _ in [] }) {
    while let (now, event) = queue.take() {
      steps += 1
      let output =
        switch event {
        case .send(let packet): fabric.send(packet, at: now, &random)
        case .fabric(let event): fabric.handle(event, at: now, &random)
        }
      switch output {
      case .later(let event, let time): queue.put(.fabric(event), at: time)
      case .delivered(let packet):
        let delivery = Delivery(time: now.microseconds, packet: packet)
        deliveries.append(delivery)
        for answer in react(delivery) { queue.put(.send(answer), at: now) }
      }
    }
  }
}

extension FabricPacket {
  /// One of each kind, told apart by a number.
  static func sample(_ kind: Kind, from: Int, to: Int, _ number: UInt64, isTranslated: Bool = false) -> FabricPacket {
    let body: Body =
      switch kind {
      case .posted: .write(address: number, words: [number])
      case .nonPosted: .read(address: 0, words: 1, tag: number)
      case .completion: .readReply(tag: number, words: [number])
      }
    return FabricPacket(from: from, to: to, isTranslated: isTranslated, body)
  }

  /// The number given to ``sample(_:from:to:_:isTranslated:)``.
  var number: UInt64 {
    switch body {
    case .write(let address, _): address
    case .read(_, _, let tag), .readReply(let tag, _), .configRead(let tag), .configReply(let tag): tag
    case .command(let number), .commandReply(let number): number
    }
  }
}

/// A tree with functions at random places.
func randomShape(_ random: inout SeededGenerator, functions count: Int) -> (shape: FabricShape, functions: [Int]) {
  var shape = FabricShape()
  var inner = [0]
  func link(_ random: inout SeededGenerator) -> FabricShape.Link {
    .init(
      delay: UInt64(random.next(below: 3)), spread: UInt64(random.next(below: 5)),
      wordsPerMicrosecond: UInt64(random.next(below: 3)))
  }
  func access(_ random: inout SeededGenerator) -> FabricShape.AccessControl {
    FabricShape.AccessControl(rawValue: UInt8(random.next(below: 8)))
  }
  for _ in 0..<random.next(below: 4) {
    let parent = inner[random.next(below: inner.count)]
    if random.next(below: 3) == 0 {
      inner.append(shape.addMultifunction(under: parent, link(&random), accessControl: access(&random)))
    } else {
      inner.append(shape.addSwitch(under: parent, link(&random), accessControl: access(&random)))
    }
  }
  var functions: [Int] = []
  for _ in 0..<count {
    let parent = inner[random.next(below: inner.count)]
    let link = shape.nodes[parent].kind == .multifunction ? .inside : link(&random)
    functions.append(shape.addFunction(under: parent, link, accessControl: access(&random)))
  }
  return (shape, functions)
}
