// SPDX-License-Identifier: Apache-2.0
import Testing
import TopologyFixtures

@testable import Topology

struct AssumptionTests {
  private func states(_ found: [QuiescingAssumption]) -> [String] {
    found.map { "\($0.kind.rawValue) \($0.state.rawValue)" }
  }

  @Test("a device whose ordering is plain has nothing against it; a virtual function also shares its way")
  func holds() throws {
    let tree = try FixtureHost(.hgx).tree
    #expect(states(tree.assumptions(of: ["0000:13:00.0"])) == ["readable holds", "no-id-ordering holds"])
    let found = tree.assumptions(of: ["0000:14:00.1"])
    #expect(states(found) == ["readable holds", "no-id-ordering holds", "shared-path holds"])
    #expect(found.allSatisfy { $0.device == "0000:14:00.1" && $0.remedy == nil && !$0.evidence.hasSuffix(".") })
    #expect(found[2].evidence.contains("0000:14:00.0") && found[2].evidence.contains("0000:12:01.0"))
  }

  @Test("ID-based ordering of the physical function counts for its virtual functions, and the remedy names it")
  func ordering() throws {
    for address in ["0000:24:00.0", "0000:24:00.1"] {
      let found = try FixtureHost(.hgx).tree.assumptions(of: [address])
      let ordering = try #require(found.first { $0.kind == .noIDOrdering })
      #expect(ordering.state == .violated && ordering.device == address)
      #expect(ordering.evidence.contains("requests") && !ordering.evidence.contains("completions"))
      #expect(ordering.remedy == "turn it off: setpci -s 0000:24:00.0 CAP_EXP+28.w=0000:0300")
    }
  }

  @Test("what could not be read is unknown, and the remedy is to read it as root; the tree's shape is known anyway")
  func unknown() throws {
    let found = try FixtureHost(.hgx, configBytes: 64).tree.assumptions(of: ["0000:24:00.1"])
    #expect(states(found) == ["readable unknown", "no-id-ordering unknown", "shared-path holds"])
    #expect(found[0].remedy?.contains("root") == true && found[1].remedy?.contains("root") == true)
  }

  @Test("a virtual function away from its physical function's port is a violation, one without it is unknown")
  func path() throws {
    var tree = try FixtureHost(.multihost).tree
    let index = try #require(tree.functions.firstIndex { $0.address == "0000:22:00.0" })
    tree.functions[index].physicalFunction = "0000:a1:00.0"
    let away = try #require(tree.assumptions(of: ["0000:22:00.0"]).last)
    #expect(away.kind == .sharedPath && away.state == .violated && away.remedy?.contains("0000:20:01.0") == true)
    tree.functions[index].physicalFunction = "0000:ff:00.0"
    #expect(tree.assumptions(of: ["0000:22:00.0"]).last?.state == .unknown)
  }

  @Test("an address that is not there is one unknown, and functions come in the order that was asked")
  func order() throws {
    let found = try FixtureHost(.server).tree.assumptions(of: ["0000:98:00.0", "0000:ff:00.0", "0000:16:00.2"])
    #expect(
      found.map(\.device) == ["0000:98:00.0", "0000:98:00.0", "0000:ff:00.0"]
        + Array(repeating: "0000:16:00.2", count: 3))
    #expect(found[2].state == .unknown && found[2].evidence.contains("there is no"))
  }
}
