// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// A PCIe fabric: takes packets at nodes and brings them to others, link by link, in an order that PCIe allows.
///
/// Which of the allowed orders it is comes from the random numbers and the links' spread. A packet goes up until its target is
/// below, and down from there; where a port redirects, it goes up to the root first. Time is the driver's: each call answers
/// with what follows, and when. The driver takes events of one time in the order in which it got them, because packets that
/// may not pass each other may well arrive at the same time.
///
/// What a step costs does not depend on how much is under way or how many nodes there are.
struct Fabric: Sendable {
  /// To be handed back at its time.
  struct Event: Hashable, Sendable {
    fileprivate let flight: Int32
  }

  /// What follows from a call. Each packet has one thing to do next.
  enum Output: Hashable, Sendable {
    /// Hand this back at that time.
    case later(Event, at: MonotonicTime)
    /// The packet is at the node that it goes to.
    case delivered(FabricPacket)
  }

  private struct Flight: Sendable {
    var packet: FabricPacket
    /// Where it is, or arrives next.
    var node: Int
    var isRising: Bool
    /// A port sent it on to the root: no other lets it turn.
    var isRedirected = false
  }

  /// How it is built.
  let shape: FabricShape
  /// Whether it keeps PCIe's order. Without, anything may pass anything: a world that is broken on purpose.
  private(set) var keepsOrder: Bool

  private var lanes: [FabricLane]
  private let waysDown: [Int32]
  /// The number of each node's function among those with ID-based ordering, or nil.
  private let streams: [Int?]
  private var flights: [Flight] = []
  private var free: [Int32] = []

  /// A fabric with nothing under way.
  init(_ shape: FabricShape, keepsOrder: Bool = true) {
    self.shape = shape
    self.keepsOrder = keepsOrder
    waysDown = shape.waysDown()
    var idOrdered = 0
    var streams: [Int?] = []
    for node in shape.nodes {
      streams.append(node.idOrdering.isEmpty ? nil : idOrdered)
      idOrdered += node.idOrdering.isEmpty ? 0 : 1
    }
    self.streams = streams
    lanes = []
    for node in shape.nodes {
      let lane = FabricLane(node.link, idOrdered: idOrdered, keepsOrder: keepsOrder)
      lanes += [lane, lane]
    }
  }

  /// From now on it keeps no order: a world that breaks later, when what needs order from the start is done.
  /// - Parameter holdingUp: so many microseconds more may a posted request be held up then, because nothing pushes it.
  mutating func loseOrder(holdingUp: UInt64 = 0) {
    keepsOrder = false
    for lane in lanes.indices { lanes[lane].loseOrder(holdingUp: holdingUp) }
  }

  /// How many packets are under way.
  var packetsUnderWay: Int { flights.count - free.count }

  /// A node sends a packet, whose nodes must be there and two.
  mutating func send(_ packet: FabricPacket, at now: MonotonicTime, _ random: inout SeededGenerator) -> Output {
    precondition(shape.nodes.indices.contains(packet.to) && packet.from != packet.to)
    let flight = Flight(packet: packet, node: packet.from, isRising: packet.from != 0)
    let number: Int32
    if let last = free.popLast() {
      number = last
      flights[Int(number)] = flight
    } else {
      number = Int32(flights.count)
      flights.append(flight)
    }
    return .later(Event(flight: number), at: go(Int(number), at: now, &random) ?? now)
  }

  /// A packet has come out of a link.
  mutating func handle(_ event: Event, at now: MonotonicTime, _ random: inout SeededGenerator) -> Output {
    let number = Int(event.flight)
    if flights[number].node != flights[number].packet.to, let time = go(number, at: now, &random) {
      return .later(event, at: time)
    }
    let packet = flights[number].packet
    // What the place held is let go, so that the words of a message have one owner.
    flights[number].packet.body = .configReply(tag: 0)
    free.append(event.flight)
    if case .configRead(let tag) = packet.body {
      return send(FabricPacket(from: packet.to, to: packet.from, .configReply(tag: tag)), at: now, &random)
    }
    return .delivered(packet)
  }

  /// Moves a packet on until a link takes time. - Returns: when it is at the end of that; nil when it is where it goes to.
  private mutating func go(_ number: Int, at now: MonotonicTime, _ random: inout SeededGenerator) -> MonotonicTime? {
    let requester = flights[number].packet.requester
    let to = flights[number].packet.to
    let kind = flights[number].packet.kind
    while flights[number].node != to {
      let node = flights[number].node
      let lane: Int
      if flights[number].isRising {
        lane = 2 * node
        let parent = shape.nodes[node].parent
        flights[number].node = parent
        flights[number].isRising = !turns(number, kind, at: parent, from: node)
      } else {
        let child = Int(waysDown[node * shape.nodes.count + to])
        lane = 2 * child + 1
        flights[number].node = child
      }
      let link = shape.nodes[lane / 2].link
      if link.isInside { continue }
      let ordering = shape.nodes[requester].idOrdering
      return lanes[lane].enter(
        kind, words: flights[number].packet.words, stream: streams[requester],
        isFree: ordering.contains(kind == .completion ? .completions : .requests), at: now, &random)
    }
    return nil
  }

  /// Whether a packet that comes up from a child goes down from here.
  private mutating func turns(_ number: Int, _ kind: FabricPacket.Kind, at node: Int, from child: Int) -> Bool {
    if node == 0 { return true }
    guard !flights[number].isRedirected,
      waysDown[node * shape.nodes.count + flights[number].packet.to] >= 0
    else { return false }
    let access = shape.nodes[child].accessControl
    let isRedirected =
      kind == .completion
      ? access.contains(.completionRedirect)
      : access.contains(.requestRedirect)
        && !(flights[number].packet.isTranslated && access.contains(.directTranslated))
    flights[number].isRedirected = isRedirected
    return !isRedirected
  }
}
