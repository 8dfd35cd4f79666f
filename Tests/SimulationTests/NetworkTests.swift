// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("A network that learns")
struct NetworkTests {
  private func packet(from source: UInt32, to destination: UInt32) -> RDMAPacket {
    RDMAPacket(
      source: source, destination: destination, queuePair: 0, psn: PacketSequenceNumber(0), operation: .announcement)
  }

  @Test("sends to all what it does not know, and to one what it has seen; an address may move")
  func learning() {
    var network = Network()
    var random = SeededGenerator(seed: 1)
    let ports = (0..<4).map { _ in network.addPort() }
    func reached(_ port: Int, _ packet: RDMAPacket) -> [Int] {
      var deliveries: [Network.Delivery] = []
      network.send(packet, from: port, at: MonotonicTime(microseconds: 0), &random, into: &deliveries)
      return deliveries.map(\.port)
    }
    #expect(reached(ports[0], packet(from: 10, to: 11)) == [1, 2, 3])
    #expect(reached(ports[1], packet(from: 11, to: 10)) == [0])
    #expect(reached(ports[0], packet(from: 10, to: 11)) == [1])
    #expect(reached(ports[2], packet(from: 11, to: RDMAPacket.broadcast)) == [0, 1, 3])
    #expect(reached(ports[0], packet(from: 10, to: 11)) == [2])
    network.setConnected(false, port: 2)
    #expect(reached(ports[0], packet(from: 10, to: 11)) == [])
  }

  @Test("keeps the order on a link that only delays, and loses what its link loses")
  func order() {
    var network = Network()
    var random = SeededGenerator(seed: 1)
    var link = NetworkLink()
    link.jitterMicroseconds = 50
    _ = network.addPort(link)
    _ = network.addPort()
    var deliveries: [Network.Delivery] = []
    for time in 0..<1000 {
      var sent = packet(from: 1, to: 2)
      sent.psn = PacketSequenceNumber(UInt32(time))
      network.send(sent, from: 0, at: MonotonicTime(microseconds: UInt64(time)), &random, into: &deliveries)
    }
    #expect(deliveries.map(\.time) == deliveries.map(\.time).sorted())
    #expect(deliveries.map(\.packet.psn.value) == (0..<1000).map { UInt32($0) })
    network[link: 0].lossPerMillion = 100_000
    network[link: 1].duplicationPerMillion = 100_000
    deliveries = []
    for _ in 0..<1000 {
      network.send(packet(from: 1, to: 2), from: 0, at: MonotonicTime(microseconds: 0), &random, into: &deliveries)
    }
    #expect(70...130 ~= network.lost)
    #expect(70...130 ~= deliveries.count - (1000 - network.lost))
  }
}
