// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What the cable between a NIC and the switch is like, in both directions. Chances are parts in a million.
public struct NetworkLink: Hashable, Sendable {
  /// Microseconds from one end to the other.
  public var delayMicroseconds: UInt64 = 2
  /// Up to so many microseconds more on the way to the switch; order is kept.
  public var jitterMicroseconds: UInt64 = 0
  public var lossPerMillion = 0
  public var duplicationPerMillion = 0
  /// How often a packet is held up, so that later ones pass it.
  public var reorderingPerMillion = 0
  /// Up to so many microseconds, at least 1, is it held up then.
  public var holdUpMicroseconds: UInt64 = 20

  /// A link that loses nothing.
  public init() {}
}

/// A switch with a port for each NIC. It learns from what it sees where an address is, and sends what it has not learned
/// to all ports.
struct Network: Sendable {
  /// A packet that leaves the switch.
  struct Delivery: Hashable, Sendable {
    let port: Int
    let time: MonotonicTime
    let packet: RDMAPacket
  }

  private struct Port: Sendable {
    var link: NetworkLink
    var isConnected = true
    /// When the last packet of those that keep their order reached the switch.
    var lastArrival: UInt64 = 0
  }

  private var ports: [Port] = []
  private var learned = NumberIndex()
  /// Packets that were lost on a link.
  private(set) var lost = 0
  /// Packets that went to all ports, because nobody knew where to.
  private(set) var flooded = 0

  init() {}

  /// Adds a port. - Returns: its number, counted from 0.
  mutating func addPort(_ link: NetworkLink = NetworkLink()) -> Int {
    ports.append(Port(link: link))
    return ports.count - 1
  }

  /// What a port's link is like.
  subscript(link port: Int) -> NetworkLink {
    get { ports[port].link }
    set { ports[port].link = newValue }
  }

  /// Pulls a cable, or puts it in again. What is under way arrives.
  mutating func setConnected(_ isConnected: Bool, port: Int) { ports[port].isConnected = isConnected }

  /// Where the switch believes that an address is.
  func port(of address: UInt32) -> Int? { learned[address] }

  /// Takes a packet from a port, and appends where and when it arrives.
  mutating func send(
    _ packet: RDMAPacket, from port: Int, at now: MonotonicTime, _ random: inout SeededGenerator,
    into deliveries: inout [Delivery]
  ) {
    guard ports[port].isConnected else { return }
    let jitter = ports[port].link.jitterMicroseconds
    let wait = jitter == 0 ? 0 : random.next() % (jitter + 1)
    let inOrder = max(now.microseconds + ports[port].link.delayMicroseconds + wait, ports[port].lastArrival)
    ports[port].lastArrival = inOrder
    for time in crossing(port, from: inOrder, &random) {
      learned.set(packet.source, to: port)
      if packet.destination != RDMAPacket.broadcast, let known = learned[packet.destination] {
        leave(packet, known, from: time, &random, into: &deliveries)
        continue
      }
      flooded += 1
      for other in ports.indices where other != port {
        leave(packet, other, from: time, &random, into: &deliveries)
      }
    }
  }

  private mutating func leave(
    _ packet: RDMAPacket, _ port: Int, from time: UInt64, _ random: inout SeededGenerator,
    into deliveries: inout [Delivery]
  ) {
    guard ports[port].isConnected else { return }
    let delayed = time + ports[port].link.delayMicroseconds
    for arrival in crossing(port, from: delayed, &random) {
      deliveries.append(Delivery(port: port, time: MonotonicTime(microseconds: arrival), packet: packet))
    }
  }

  /// When a packet comes out of a link: never, once or twice.
  private mutating func crossing(_ port: Int, from time: UInt64, _ random: inout SeededGenerator) -> Crossing {
    let link = ports[port].link
    var crossing = Crossing(first: time)
    guard link.lossPerMillion + link.duplicationPerMillion + link.reorderingPerMillion > 0 else { return crossing }
    if random.happens(link.duplicationPerMillion) { crossing.second = time + holdUp(link, &random) }
    if random.happens(link.reorderingPerMillion) { crossing.first = time + holdUp(link, &random) }
    if random.happens(link.lossPerMillion) {
      lost += 1
      crossing.first = crossing.second
      crossing.second = nil
    }
    return crossing
  }

  private func holdUp(_ link: NetworkLink, _ random: inout SeededGenerator) -> UInt64 {
    1 + random.next() % max(1, link.holdUpMicroseconds)
  }

  /// The times at which the copies of a packet come out of a link.
  private struct Crossing: Sequence, IteratorProtocol {
    var first: UInt64?
    var second: UInt64?

    init(first: UInt64) { self.first = first }

    mutating func next() -> UInt64? {
      defer {
        first = second
        second = nil
      }
      return first
    }
  }
}

extension SeededGenerator {
  /// Whether something happens that does so in that many parts of a million.
  fileprivate mutating func happens(_ perMillion: Int) -> Bool { perMillion > 0 && next(below: 1_000_000) < perMillion }
}
