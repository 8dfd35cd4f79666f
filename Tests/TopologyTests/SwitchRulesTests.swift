// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Topology

@Suite("What a switch was told of a function, from what a kernel has answered")
struct SwitchRulesTests {
  private static let places: SwitchRulePlaces = {
    var places = SwitchRulePlaces(
      Representor(
        interface: NetworkInterface(name: "rep0", index: 4), uplink: NetworkInterface(name: "up0", index: 3)),
      root: SystemRoot(prefix: "/nowhere"))
    places.names[3] = "p0"
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
    return rules
  }

  /// The answers that have the filters: TCP to a port, police and redirection, all that comes, and what is for the function.
  private static let (port, police, everything, redirection, another) = (7, 9, 12, 15, 17)

  @Test("four of five rules are the function's, and their sum is what it was in tags of earlier versions")
  func whole() throws {
    let text = try rules().description
    #expect(text == "4 (8363325307846c5d)")
  }

  @Test("what a kernel numbers and counts is not in the sum", arguments: [port, police, everything, redirection])
  func numbers(answer: Int) throws {
    let before = try rules()
    // tcm_handle and the preference; bytes are counted from the start of the message.
    #expect(try rules(changing: answer) { $0[24] = 77 } == before)
    #expect(try rules(changing: answer) { $0[34] = 99 } == before)
    // What of an action's statistics, times and numbers the kernel would have otherwise.
    let marked: [[UInt8]] = [
      [0x14, 0, 1, 0], [0x18, 0, 3, 0], [0x14, 0, 7, 0], [0x24, 0, 1, 0],
    ]
    for head in marked {
      #expect(
        try rules(changing: answer) { bytes in
          guard let place = bytes.indices.dropLast(8).first(where: { Array(bytes[$0..<$0 + 4]) == head }) else {
            return
          }
          bytes[place + 4] = 0x5a
        } == before, "\(head)")
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
    places.names[3] = "pf0vf1"
    expectOther(try rules(places), 4, "another port of the switch")
    // The number at the end of what follows TCA_EGRESS_REDIR.
    expectOther(
      try rules(changing: Self.redirection) {
        Self.replace([1, 0, 0, 0, 4, 0, 0, 0, 0x24], [1, 0, 0, 0, 9, 0, 0, 0, 0x24], &$0)
      },
      3, "another function's")
  }

  private static func replace(_ old: [UInt8], _ new: [UInt8], _ bytes: inout [UInt8]) {
    let place = bytes.indices.dropLast(old.count - 1).first { Array(bytes[$0..<$0 + old.count]) == old }
    #expect(place != nil)
    if let place { bytes.replaceSubrange(place..<place + old.count, with: new) }
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
          #expect(rules.count <= 5)
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
