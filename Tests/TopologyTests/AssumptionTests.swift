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

  @Test("ID-based ordering of the root port above counts as well, and each has its own remedy")
  func rootPort() throws {
    func ordering(_ port: String, _ device: String) throws -> (found: QuiescingAssumption, tree: PCITree) {
      let tree = try FixtureHost(
        text: """
          iommu on
          host pci0000:00
            00:01.0 root-port \(port)
              01:00.0 upstream ido-requests
                02:00.0 downstream ido-requests
                  03:00.0 endpoint bars=0:1M \(device)
            00:02.0 integrated bars=0:1M
          """
      ).tree
      let found = tree.assumptions(of: ["0000:03:00.0"]).first { $0.kind == .noIDOrdering }
      return (try #require(found), tree)
    }
    // A switch's own bits are about what the switch itself sends.
    #expect(try ordering("", "").found.state == .holds)
    let port = try ordering("ido-requests ido-completions", "").found
    #expect(port.state == .violated)
    #expect(
      port.evidence == "the root port 0000:00:01.0 above it has ID-based ordering on for requests and completions")
    #expect(port.remedy == "turn it off: setpci -s 0000:00:01.0 CAP_EXP+28.w=0000:0300")
    let both = try ordering("ido-requests", "ido-completions").found
    #expect(both.evidence.contains("it has ID-based ordering on for completions, and the root port 0000:00:01.0 above"))
    #expect(both.remedy?.contains("-s 0000:03:00.0 ") == true && both.remedy?.contains("-s 0000:00:01.0 ") == true)
    var tree = try ordering("", "").tree
    tree.functions[0].capabilities = nil
    #expect(tree.functions[0].kind == .rootPort)
    let unread = try #require(tree.assumptions(of: ["0000:03:00.0"]).first { $0.kind == .noIDOrdering })
    #expect(unread.state == .unknown && unread.evidence.contains("the root port 0000:00:01.0 above it"))
    #expect(tree.assumptions(of: ["0000:00:02.0"]).allSatisfy { $0.state == .holds })
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
