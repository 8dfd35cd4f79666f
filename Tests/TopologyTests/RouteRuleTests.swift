// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing
import TopologyFixtures

@testable import Topology

/// The rules of routing that the described hosts do not show, one at a time.
struct RouteRuleTests {
  private func link(
    _ tree: PCITree, _ from: String, _ to: String, _ mapping: BARMapping = .unknown
  ) -> Reachability.Link {
    tree.reachability(of: ["0000:" + from, "0000:" + to]) { _, _ in mapping }[0, 1]
  }

  /// Two devices below one switch whose ports have these controls on.
  private func pair(_ controls: String, ats: String = "on", iommu: String = "on", root: String = "uf") throws -> PCITree
  {
    try FixtureHost(
      text: """
        iommu \(iommu)
        host pci0000:00
          00:01.0 root-port acs=\(root)
            01:00.0 upstream
              02:00.0 downstream acs=\(controls)
                03:00.0 endpoint bars=0:1M ats=\(ats) \(iommu == "on" ? "group=1" : "")
              02:01.0 downstream acs=off
                04:00.0 endpoint bars=0:1M
        """
    ).tree
  }

  @Test("the lowest common ancestor is the nearest port above both, and nothing across host bridges")
  func ancestors() throws {
    let tree = try FixtureHost(.hgx).tree
    let expected: [(String, String, String?)] = [
      ("13:00.0", "14:00.1", "0000:11:00.0"), ("14:00.1", "13:00.0", "0000:11:00.0"),
      ("14:00.0", "14:00.1", "0000:12:01.0"), ("95:00.0", "96:00.0", "0000:93:00.0"),
      ("95:00.0", "97:00.0", "0000:91:00.0"), ("95:00.0", "92:00.0", "0000:92:00.0"),
      ("13:00.0", "23:00.0", nil), ("13:00.0", "83:00.0", nil), ("13:00.0", "ff:00.0", nil),
    ]
    for (first, second, ancestor) in expected {
      #expect(tree.commonAncestor("0000:" + first, "0000:" + second) == ancestor, "\(first) and \(second)")
    }
  }

  @Test("translated requests go straight through only with ATS on, the BAR mapped, and no port that blocks them")
  func directTranslated() throws {
    #expect(link(try pair("rr,dt"), "03:00.0", "04:00.0").path == .direct(at: "0000:01:00.0"))
    #expect(link(try pair("rr,dt", ats: "off"), "03:00.0", "04:00.0").path == .redirected(through: "pci0000:00"))
    #expect(link(try pair("rr,dt,tb"), "03:00.0", "04:00.0").path == .redirected(through: "pci0000:00"))
    #expect(link(try pair("rr,dt"), "03:00.0", "04:00.0", .notMapped).path == .none)
    #expect(link(try pair("rr,dt", iommu: "off"), "03:00.0", "04:00.0", .notMapped).exists)
  }

  @Test(
    "source validation, completion redirect and upstream forwarding at the deciding port change nothing",
    arguments: ["sv", "cr", "uf", "sv,cr,uf", "ec"])
  func noPart(controls: String) throws {
    #expect(link(try pair(controls), "03:00.0", "04:00.0").path == .direct(at: "0000:01:00.0"))
  }

  @Test("what is redirected below a root port without upstream forwarding counts, and the reason names the port")
  func upstreamForwarding() throws {
    let clear = link(try pair("rr"), "03:00.0", "04:00.0")
    let blocked = link(try pair("rr", root: "rr"), "03:00.0", "04:00.0")
    #expect(clear.path == .redirected(through: "pci0000:00") && clear.origin == .observed)
    #expect(blocked.path == clear.path && blocked.origin == .assumed)
    #expect(blocked.reason.contains("0000:00:01.0"))
  }

  @Test("a function that is no PCI function, or is not there, may reach and be reached")
  func notInTree() throws {
    let relation = try FixtureHost(.hgx).tree.reachability(of: ["0000:13:00.0", nil, "0000:fe:00.0"])
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2)] {
      #expect(relation[from, to].path == .unknown && relation[from, to].origin == .assumed)
    }
    #expect(relation[0, 1].reason == "the second is no PCI function")
    #expect(relation[2, 0].reason.contains("0000:fe:00.0"))
  }

  @Test("controls that could not be read are taken to be off, and the reason says so")
  func unread() throws {
    let tree = try FixtureHost(.hgx, configBytes: 64).tree
    let link = link(tree, "23:00.0", "24:00.0")
    #expect(link.path == .direct(at: "0000:21:00.0") && link.origin == .assumed)
    #expect(link.reason.contains("could not be read"))
    #expect(self.link(tree, "13:00.0", "23:00.0").path == .redirected(through: "pci0000:10"))
  }

  @Test("between root ports that do not redirect, devices of one IOMMU group are not taken for isolated")
  func sharedGroup() throws {
    func tree(_ controls: String, groups: (Int, Int)) throws -> PCITree {
      try FixtureHost(
        text: """
          iommu on
          host pci0000:00
            00:01.0 root-port \(controls)
              01:00.0 endpoint bars=0:1M group=\(groups.0)
            00:01.1 root-port
              02:00.0 endpoint bars=0:1M group=\(groups.1)
          """
      ).tree
    }
    #expect(link(try tree("", groups: (1, 1)), "01:00.0", "02:00.0", .notMapped).reason.contains("IOMMU group 1"))
    #expect(link(try tree("", groups: (1, 2)), "01:00.0", "02:00.0", .notMapped).path == .none)
    #expect(link(try tree("acs=rr", groups: (1, 1)), "01:00.0", "02:00.0", .notMapped).path == .none)
    #expect(
      link(try tree("", groups: (1, 1)), "01:00.0", "02:00.0", .mapped).path == .redirected(through: "pci0000:00"))
  }

  @Test("what no IOMMU is above is not kept from what is not mapped, though the system has one elsewhere")
  func untranslated() throws {
    func host(_ group: String) throws -> FixtureHost {
      try FixtureHost(
        text: """
          iommu on
          host pci0000:00
            00:01.0 root-port acs=uf
              01:00.0 upstream
                02:00.0 downstream acs=rr
                  03:00.0 endpoint bars=0:1M \(group)
                02:01.0 downstream acs=rr
                  04:00.0 endpoint bars=0:1M group=8
            00:02.0 root-port acs=rr
              05:00.0 endpoint bars=0:1M group=9
          """)
    }
    let noIOMMU = try host("group=7")
    try noIOMMU.write("sys/kernel/iommu_groups/7/name", "vfio-noiommu")
    for tree in [try host("").tree, noIOMMU.tree] {
      #expect(tree.hasIOMMU)
      for target in ["04:00.0", "05:00.0"] {
        #expect(link(tree, "03:00.0", target, .notMapped).path == .redirected(through: "pci0000:00"))
        #expect(link(try host("group=7").tree, "03:00.0", target, .notMapped).path == .none)
      }
      // The other way there is one.
      #expect(link(tree, "05:00.0", "03:00.0", .notMapped).path == .none)
    }
  }

  @Test("on a root bus of conventional PCI devices reach each other on the bus")
  func conventionalRoot() throws {
    let tree = try FixtureHost(
      text: """
        iommu on
        host pci0000:00
          00:00.0 conventional class=0x060000
          00:03.0 conventional bars=0:1M
          00:04.0 conventional bars=0:1M
        """
    ).tree
    #expect(tree["0000:00:00.0"]?.kind == .integrated && tree["0000:00:03.0"]?.kind == .conventional)
    #expect(link(tree, "00:03.0", "00:04.0", .notMapped).path == .direct(at: "pci0000:00"))
  }

  @Test("a tree with a ring of parents, which nobody has, is walked to an end")
  func ring() {
    let tree = PCITree(
      functions: [("a", "b"), ("b", "c"), ("c", "b")].map { address, parent in
        PCIFunction(
          address: address, parent: parent, hostBridge: "pci0000:00", kind: .bridge, identity: "1:1", classCode: 0,
          bars: [.init(index: 0, start: 0, size: 4096, isIO: false, isPrefetchable: false)])
      }, hasIOMMU: true)
    #expect(tree.commonAncestor("a", "c") == "b")
    #expect(tree.reachability(of: ["a", "b", "c"]).reaches(0, 2))
  }

  // Without an index of the tree this takes many minutes.
  @Test("a relation over hundreds of devices in a tree of thousands is no matter", .timeLimit(.minutes(1)))
  func large() {
    var functions: [PCIFunction] = []
    func add(_ address: String, below parent: String?, _ kind: PCIFunction.Kind) {
      functions.append(
        PCIFunction(
          address: address, parent: parent, hostBridge: "pci0000:00", kind: kind, identity: "1:1", classCode: 0,
          bars: [.init(index: 0, start: 0, size: 4096, isIO: false, isPrefetchable: false)]))
    }
    for number in 0..<4000 {
      let port = "0000:00:\(number).0"
      add(port, below: nil, .rootPort)
      add("0000:01:\(number).0", below: port, .endpoint)
    }
    let relation = PCITree(functions: functions, hasIOMMU: true).reachability(
      of: (3600..<4000).map { "0000:01:\($0).0" })
    #expect(relation[0, 399].path == .redirected(through: "pci0000:00"))
  }
}
