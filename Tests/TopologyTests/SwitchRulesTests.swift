// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Topology

@Suite("What a switch was told of a function, from what a kernel has answered")
struct SwitchRulesTests {
  /// Two interfaces that stand for a representor and its uplink, in one switch.
  private static let places: SwitchRulePlaces = {
    var places = SwitchRulePlaces(
      [
        Representor(
          interface: NetworkInterface(name: "rep0", index: 4), uplink: NetworkInterface(name: "up0", index: 3))
      ],
      root: SystemRoot(prefix: "/nowhere"))
    places.interfaces = [
      SwitchRulePlaces.Interface(index: 3, name: "up0", port: "p0", identity: "c0ffee"),
      SwitchRulePlaces.Interface(index: 4, name: "rep0", port: "pf0vf0", identity: "c0ffee"),
    ]
    return places
  }()

  /// Reads what was recorded, with one answer changed.
  private func rules(
    _ places: SwitchRulePlaces = places, changing answer: Int? = nil,
    _ change: @escaping @Sendable (inout [UInt8]) -> Void = { _ in }
  ) throws -> SwitchRules {
    let conversation = try WrittenConversation(
      "rules", changing: answer.map { WrittenConversation.Change(answer: $0, change: change) })
    let rules = try KernelNetwork(conversation: conversation).rules(at: places)
    conversation.end()
    return try #require(rules.first)
  }

  /// The answers that have the filters: what is for the function and another, TCP to a port, police and redirection, all that
  /// comes.
  private static let (redirection, another, port, police, everything) = (4, 6, 9, 11, 14)

  @Test("four of five rules are the function's, and their sum is what it was in tags of earlier versions")
  func whole() throws {
    let text = try rules().description
    #expect(text == "4 (8363325307846c5d)")
  }

  /// Something of a rule that a kernel numbers or counts: in which answers, behind which length and type, and at which bytes.
  private struct Counted {
    var answers: [Int]
    var head: [UInt8]
    var places: [Int]
  }

  private static let counted = [
    // Of an action's statistics TCA_STATS_BASIC, …_QUEUE and …_BASIC_HW.
    Counted(answers: [port, police, everything, redirection], head: [0x14, 0, 1, 0], places: [0, 8]),
    Counted(answers: [port, police, everything, redirection], head: [0x18, 0, 3, 0], places: [0, 16]),
    Counted(answers: [port, police, everything, redirection], head: [0x14, 0, 7, 0], places: [0, 8]),
    // Times: of all actions but police, and of that.
    Counted(answers: [port, police, everything, redirection], head: [0x24, 0, 1, 0], places: [0, 8, 24]),
    Counted(answers: [police], head: [0x24, 0, 6, 0], places: [0, 8, 24]),
    // index, refcnt and bindcnt: of gact, mirred and police.
    Counted(answers: [port, everything], head: [0x18, 0, 2, 0], places: [0, 12, 16]),
    Counted(answers: [police, redirection], head: [0x20, 0, 2, 0], places: [0, 12, 16]),
    Counted(answers: [police], head: [0x3c, 0, 1, 0], places: [0, 44, 48]),
  ]

  @Test("what a kernel numbers and counts is not in the sum")
  func numbers() throws {
    let before = try rules()
    for answer in [Self.port, Self.police, Self.everything, Self.redirection] {
      // tcm_handle and the preference; bytes are counted from the start of the message.
      #expect(try rules(changing: answer) { $0[24] = 77 } == before)
      #expect(try rules(changing: answer) { $0[34] = 99 } == before)
    }
    for counted in Self.counted {
      let head = counted.head
      for answer in counted.answers {
        for place in counted.places {
          let found = try rules(changing: answer) { bytes in
            guard let start = Self.place(of: head, in: bytes) else { return }
            #expect(bytes[start + 4 + place] != 0x5a)
            bytes[start + 4 + place] = 0x5a
          }
          #expect(found == before, "answer \(answer), \(head), \(place)")
        }
      }
    }
    // And what is next to it is in the sum.
    for (answer, head, place) in [(Self.port, [0x18, 0, 2, 0], 8), (Self.police, [0x3c, 0, 1, 0], 4)]
      as [(Int, [UInt8], Int)]
    {
      let found = try rules(changing: answer) { bytes in
        if let start = Self.place(of: head, in: bytes) { bytes[start + 4 + place] = 0x5a }
      }
      #expect(found != before, "answer \(answer), \(head), \(place)")
    }
  }

  @Test("what a rule says is in the sum, and so is where it is")
  func content() throws {
    var seen: Set<SwitchRules> = [try rules()]
    func expectOther(_ found: SwitchRules, _ count: UInt32 = 4, _ what: Comment) {
      #expect(found.count == count && seen.insert(found).inserted, what)
    }
    expectOther(try rules(changing: Self.port) { $0[32] = 0x86 }, 4, "another protocol")
    expectOther(try rules(changing: Self.port) { Self.replace([0x12, 0xb7], [0x12, 0xb8], &$0) }, 4, "another port")
    expectOther(
      try rules(changing: Self.police) { Self.replace([2, 0, 0, 0, 0, 0x22], [2, 0, 0, 0, 0, 0x23], &$0) }, 4,
      "another address")
    expectOther(
      try rules(changing: Self.police) { Self.replace(Array("police".utf8), Array("qolice".utf8), &$0) }, 4,
      "an action that is not known")
    expectOther(
      try rules(changing: Self.everything) { Self.replace(Array("matchall".utf8), Array("mutchall".utf8), &$0) }, 4,
      "a filter that is not known")
    // Of three interfaces the uplink alone is `p0`.
    var places = Self.places
    places.interfaces[0].port = "pf0vf1"
    expectOther(try rules(places), 4, "another port of the switch")
    places.interfaces[0].identity = "decaf"
    expectOther(try rules(places), 4, "a port of another switch counts by its interface")
    // The number at the end of what follows TCA_EGRESS_REDIR.
    expectOther(
      try rules(changing: Self.redirection) {
        Self.replace([1, 0, 0, 0, 4, 0, 0, 0, 0x24], [1, 0, 0, 0, 9, 0, 0, 0, 0x24], &$0)
      },
      3, "another function's")
  }

  private static func place(of bytes: [UInt8], in all: [UInt8]) -> Int? {
    let place = all.indices.dropLast(bytes.count - 1).first { Array(all[$0..<$0 + bytes.count]) == bytes }
    #expect(place != nil, "no \(bytes)")
    return place
  }

  private static func replace(_ old: [UInt8], _ new: [UInt8], _ bytes: inout [UInt8]) {
    if let place = place(of: old, in: bytes) { bytes.replaceSubrange(place..<place + old.count, with: new) }
  }

  @Test("whatever bit of an answer is wrong, nothing traps, and no rule is made up")
  func damage() throws {
    for answer in [Self.port, Self.police, Self.everything, Self.redirection, Self.another] {
      for bit in stride(from: 0, to: 3600, by: 11) {
        let conversation = try WrittenConversation(
          "rules",
          changing: WrittenConversation.Change(answer: answer) { bytes in
            if bit / 8 < bytes.count { bytes[bit / 8] ^= 1 << UInt8(bit % 8) }
          })
        if let rules = try? KernelNetwork(conversation: conversation).rules(at: Self.places) {
          #expect(rules.allSatisfy { $0.count <= 5 })
        }
      }
    }
  }

  @Test("an error of a dump is told, and a number that is no error of a kernel's is one of the protocol")
  func errors() throws {
    for (bytes, number) in [([0xf3, 0xff, 0xff, 0xff], 13), ([0, 0, 0, 0x80], 71)] as [([UInt8], Int32)] {
      let conversation = try WrittenConversation(
        "rules", changing: WrittenConversation.Change(answer: 2) { $0.replaceSubrange(16..<20, with: bytes) })
      #expect(throws: NetlinkError(errno: .init(rawValue: number), words: "")) {
        try KernelNetwork(conversation: conversation).rules(at: Self.places)
      }
    }
  }

  @Test(
    "a function's VLAN, checks and trust are those that its own number has, and a number that is not there has none")
  func functions() throws {
    func link(_ number: UInt16) throws -> FunctionLink {
      let conversation = try WrittenConversation("functions")
      let link = try KernelNetwork(conversation: conversation).link(ofFunction: number, interface: 4)
      conversation.end()
      return link
    }
    #expect(
      try link(0)
        == FunctionLink(mac: [0, 0, 0, 0, 0, 0], vlan: 0, priority: 0, spoofCheck: false, isTrusted: true))
    #expect(
      try link(1)
        == FunctionLink(
          mac: [2, 0, 0, 0, 0xab, 0xcd], vlan: 7, priority: 3, isProviders: true, spoofCheck: true, isTrusted: false))
    #expect(throws: NetlinkError(errno: .init(rawValue: 61), words: "")) { try link(2) }
  }

  @Test("a driver that says nothing of checks and trust is not taken at its word")
  func unsaid() throws {
    let conversation = try WrittenConversation(
      "functions",
      changing: WrittenConversation.Change(answer: 0) { bytes in
        for head: [UInt8] in [[0x0c, 0, 4, 0, 1, 0, 0, 0], [0x0c, 0, 9, 0, 1, 0, 0, 0]] {
          guard let place = bytes.indices.dropLast(12).first(where: { Array(bytes[$0..<$0 + 8]) == head }) else {
            return
          }
          bytes.replaceSubrange(place + 8..<place + 12, with: [0xff, 0xff, 0xff, 0xff])
        }
      })
    let link = try KernelNetwork(conversation: conversation).link(ofFunction: 1, interface: 4)
    #expect(link.spoofCheck == nil && link.isTrusted == nil && link.vlan == 7)
  }
}
