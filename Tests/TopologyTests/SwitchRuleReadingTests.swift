// SPDX-License-Identifier: Apache-2.0
import Migration
import Synchronization
import Testing

@testable import Topology

/// Filters of traffic control as a kernel would list them, made of their fields by the numbers of linux/pkt_cls.h.
final class ListedFilters: NetlinkConversation {
  struct Filter {
    var kind: String
    var handle: UInt32 = 1
    var options: [UInt8]
  }

  struct Place: Hashable, Sendable {
    var interface: Int32
    var isEgress = false
  }

  private struct Course {
    var waiting: ArraySlice<[UInt8]> = []
    var readings: [Place: Int] = [:]
  }

  let family: Int32 = 28
  private let holders: [(interface: Int32, kind: String)]
  private let filters: @Sendable (Place, Int) -> [Filter]
  private let course = Mutex(Course())

  /// - Parameters:
  ///   - holders: which interfaces have a qdisc with hooks, and of what kind.
  ///   - filters: what is at a hook when it is read for the n-th time, from 0.
  init(
    holders: [(interface: Int32, kind: String)] = [], filters: @escaping @Sendable (Place, _ reading: Int) -> [Filter]
  ) {
    self.holders = holders
    self.filters = filters
  }

  /// How often each hook was read.
  var readings: [Place: Int] { course.withLock { $0.readings } }

  static func attribute(_ type: UInt16, _ payload: [UInt8]) -> [UInt8] {
    var all = bytes(UInt16(payload.count + 4))
    all += bytes(type)
    all += payload
    all += [UInt8](repeating: 0, count: (4 - payload.count % 4) % 4)
    return all
  }

  static func bytes<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
    (0..<Number.bitWidth / 8).map { UInt8(truncatingIfNeeded: number >> Number($0 * 8)) }
  }

  static func text(_ text: String) -> [UInt8] { Array(text.utf8) + [0] }

  /// TCA_KIND and TCA_OPTIONS, of filters and of actions.
  static func kind(_ kind: String, _ options: [UInt8]) -> [UInt8] { attribute(1, text(kind)) + attribute(2, options) }

  /// A flower filter that redirects packets.
  static func redirection(to interface: UInt32, actions: [[UInt8]] = [], matching keys: [UInt8] = []) -> Filter {
    // struct tc_mirred: index, capab, action TC_ACT_STOLEN, refcnt, bindcnt, eaction TCA_EGRESS_REDIR, ifindex.
    let fields: [UInt32] = [1, 0, 4, 1, 1, 1, interface]
    let parameters = fields.flatMap { bytes($0) }
    let all = actions + [kind("mirred", attribute(2, parameters))]
    let list = all.enumerated().flatMap { attribute(UInt16($0 + 1), $1) }
    // TCA_FLOWER_ACT
    return Filter(kind: "flower", options: keys + attribute(3, list))
  }

  private static func message(_ type: UInt16, _ body: [UInt8], to request: [UInt8]) -> [UInt8] {
    var all = bytes(UInt32(body.count + 16))
    all += bytes(type)
    // NLM_F_MULTI, and the request's sequence number and port.
    all += bytes(2 as UInt16)
    all += request[8..<16]
    all += body
    return all
  }

  /// A message about traffic control: struct tcmsg, and attributes.
  private static func message(
    _ type: UInt16, _ interface: Int32, handle: UInt32, parent: UInt32, info: UInt32, _ attributes: [UInt8],
    to request: [UInt8]
  ) -> [UInt8] {
    let header: [UInt32] = [0, UInt32(bitPattern: interface), handle, parent, info]
    return message(type, header.flatMap { bytes($0) } + attributes, to: request)
  }

  func take(request: [UInt8]) {
    let interface = Int32(bitPattern: request[20..<24].reversed().reduce(0 as UInt32) { $0 << 8 | UInt32($1) })
    course.withLock { course in
      var answers: [[UInt8]] = []
      // RTM_GETQDISC; TC_H_CLSACT is where a qdisc with hooks is.
      if request[4] == 38 {
        for holder in holders {
          answers.append(
            Self.message(
              36, holder.interface, handle: 0xffff_0000, parent: 0xffff_fff1, info: 0, Self.kind(holder.kind, []),
              to: request))
        }
      } else {
        let place = Place(interface: interface, isEgress: request[28] == 0xf3)
        let reading = course.readings[place, default: 0]
        course.readings[place] = reading + 1
        for filter in filters(place, reading) {
          // ETH_P_ALL at preference 1.
          answers.append(
            Self.message(
              44, interface, handle: filter.handle, parent: 0, info: 0x0001_0300,
              Self.kind(filter.kind, filter.options), to: request))
        }
      }
      // NLMSG_DONE
      answers.append(Self.message(3, [0, 0, 0, 0], to: request))
      course.waiting = answers[...]
    }
  }

  func answer() -> [UInt8]? { course.withLock { $0.waiting.popFirst() } }
}

@Suite("Which filters of traffic control are read, and when")
struct SwitchRuleReadingTests {
  private typealias Filter = ListedFilters.Filter
  private typealias Place = ListedFilters.Place

  private static let interfaces: [(Int32, String)] = [(3, "up0"), (4, "rep0"), (5, "rep1"), (7, "vxlan_sys_4789")]

  private static func places(_ representors: Int32..., names: [(Int32, String)] = interfaces) -> SwitchRulePlaces {
    var places = SwitchRulePlaces(
      representors.map {
        Representor(
          interface: NetworkInterface(name: "rep", index: $0), uplink: NetworkInterface(name: "up0", index: 3))
      }, root: SystemRoot(prefix: "/nowhere"))
    places.interfaces = names.map { SwitchRulePlaces.Interface(index: $0, name: $1) }
    return places
  }

  private static let holders: [(interface: Int32, kind: String)] = [3, 4, 5, 7].map {
    ($0, $0 == 7 ? "ingress" : "clsact")
  }

  /// What is found of one function, whose representor is 4, where only its own filters and these are.
  private func rules(
    at interface: Int32 = 7, _ filter: Filter, names: [(Int32, String)] = interfaces
  ) throws -> SwitchRules {
    let conversation = ListedFilters(holders: Self.holders) { place, _ in
      place == Place(interface: interface) ? [filter] : []
    }
    return try #require(
      try KernelNetwork(conversation: conversation).rules(at: Self.places(4, names: names)).first)
  }

  @Test("what comes out of a tunnel, or from another function, and is sent to a function is one of its rules")
  func everywhere() throws {
    let come = ListedFilters.redirection(to: 4)
    var seen: Set<SwitchRules> = []
    for interface: Int32 in [3, 4, 5, 7] {
      let found = try rules(at: interface, come)
      #expect(found.count == 1 && seen.insert(found).inserted, "\(interface)")
    }
    var names = Self.interfaces
    names[3].1 = "genev_sys_6081"
    let other = try rules(come, names: names)
    #expect(seen.insert(other).inserted)
    for interface: Int32 in [3, 5, 7] {
      #expect(try rules(at: interface, ListedFilters.redirection(to: 5)).count == 0, "\(interface)")
    }
  }

  @Test("of several functions each has its own rules, and what they are read from is read for all of them at once")
  func several() throws {
    let conversation = ListedFilters(holders: Self.holders) { place, _ in
      switch place.interface {
      case 4: [ListedFilters.redirection(to: 5)]
      case 7: [ListedFilters.redirection(to: 4), ListedFilters.redirection(to: 5)]
      default: []
      }
    }
    let network = KernelNetwork(conversation: conversation)
    let found = try network.rules(at: Self.places(4, 5))
    // At both hooks of its representor and at the tunnel; and at the ingress of the other's representor.
    #expect(found.map(\.count) == [3, 2])
    // Twice, to see that nothing changes.
    var expected: [Place: Int] = [:]
    for interface: Int32 in [3, 4, 5, 7] { expected[Place(interface: interface)] = 2 }
    for interface: Int32 in [4, 5] { expected[Place(interface: interface, isEgress: true)] = 2 }
    #expect(conversation.readings == expected)
    let alone = try network.rules(at: Self.places(4)) + network.rules(at: Self.places(5))
    #expect(alone == found)
  }

  @Test("a tunnel's other end is in the sum, and the host's own address is not")
  func tunnels() throws {
    func encapsulated(_ from: [UInt8], _ to: [UInt8]) throws -> SwitchRules {
      // TCA_TUNNEL_KEY_ENC_IPV4_SRC and …_DST, or those of IPv6; TCA_TUNNEL_KEY_PARMS with TCA_TUNNEL_KEY_ACT_SET.
      let first: UInt16 = from.count == 4 ? 3 : 5
      let fields: [UInt32] = [1, 0, 3, 1, 1, 1]
      let parameters = fields.flatMap { ListedFilters.bytes($0) }
      let options =
        ListedFilters.attribute(2, parameters) + ListedFilters.attribute(first, from)
        + ListedFilters.attribute(first + 1, to)
      return try rules(
        at: 4, ListedFilters.redirection(to: 7, actions: [ListedFilters.kind("tunnel_key", options)]))
    }
    for size in [4, 16] {
      let (here, there) = ([UInt8](repeating: 1, count: size), [UInt8](repeating: 2, count: size))
      let other = [UInt8](repeating: 3, count: size)
      #expect(try encapsulated(here, there) == encapsulated(other, there))
      #expect(try encapsulated(here, there) != encapsulated(here, other))
    }
  }

  @Test("an interface that a filter spells counts by its name in the switch")
  func spelled() throws {
    // TCA_FLOWER_INDEV
    func come(_ name: String) -> Filter {
      ListedFilters.redirection(to: 4, matching: ListedFilters.attribute(2, ListedFilters.text(name)))
    }
    let before = try rules(at: 3, come("rep0"))
    var names = Self.interfaces
    names[1].1 = "rep9"
    #expect(try rules(at: 3, come("rep9"), names: names) == before)
    #expect(try rules(at: 3, come("rep0"), names: names) != before)
    #expect(try rules(at: 3, come("up0")) != before)
  }

  @Test("the hash tables of u32, which the kernel lists among its filters, are none")
  func tables() throws {
    // A link to a table is in its filter's options; a table's are its divisor.
    let (table, filter) = (0x8000_0000 as UInt32, 0x8000_0800 as UInt32)
    let divisor = ListedFilters.attribute(4, [1, 0, 0, 0])
    #expect(try rules(at: 4, Filter(kind: "u32", handle: table, options: divisor)).count == 0)
    #expect(try rules(at: 4, Filter(kind: "u32", handle: filter, options: divisor)).count == 1)
  }

  @Test("filters are read until two readings agree, and where they never do that is an error")
  func settling() throws {
    let come = ListedFilters.redirection(to: 4)
    let passed = ListedFilters(holders: Self.holders) { place, reading in
      place.interface == 7 && reading != 0 ? [come] : []
    }
    #expect(try KernelNetwork(conversation: passed).rules(at: Self.places(4)).map(\.count) == [1])
    #expect(passed.readings[Place(interface: 7)] == 3)
    let restless = ListedFilters(holders: Self.holders) { place, reading in
      place.interface == 7 && reading % 2 == 0 ? [come] : []
    }
    #expect(throws: NetlinkError(errno: .interrupted, words: "")) {
      try KernelNetwork(conversation: restless).rules(at: Self.places(4))
    }
    #expect(restless.readings[Place(interface: 7)] == 8)
  }

  @Test("so is a hook that a limit is to be set at")
  func surveys() throws {
    let cookie = Cookie.random()
    let passed = ListedFilters { _, reading in reading == 0 ? [] : [ListedFilters.redirection(to: 4)] }
    #expect(try KernelNetwork(conversation: passed).survey(.ingress, of: 4, for: cookie).others == 1)
    #expect(passed.readings == [Place(interface: 4): 3])
    let restless = ListedFilters { _, reading in reading % 2 == 0 ? [] : [ListedFilters.redirection(to: 4)] }
    #expect(throws: NetlinkError(errno: .interrupted, words: "")) {
      try KernelNetwork(conversation: restless).survey(.ingress, of: 4, for: cookie)
    }
    #expect(restless.readings == [Place(interface: 4): 8])
  }

  @Test("as many interfaces as there are are read")
  func many() throws {
    let all = (10..<700).map { (interface: Int32($0), kind: "ingress") }
    let conversation = ListedFilters(holders: all) { _, _ in [ListedFilters.redirection(to: 4)] }
    #expect(try KernelNetwork(conversation: conversation).rules(at: Self.places(4)).map(\.count) == [690])
  }
}
