// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing
import TopologyFixtures

@testable import Topology

/// Configuration spaces that are cut, lie or are noise: the scan ends, and says nothing that is not so.
struct DamagedConfigurationTests {
  static let description = """
    iommu on
    host pci0000:00
      00:01.0 root-port acs=sv,rr,cr,uf
        01:00.0 endpoint bars=0:1M acs=rr ats=on sriov relaxed ido-requests
        01:00.1 endpoint bars=0:1M acs=rr ats=on vf-of=01:00.0
    """
  static let device = "0000:01:00.0"

  @Test("however short what can be read is, capabilities are the true ones or unknown")
  func cut() throws {
    let whole = try #require(try FixtureHost(text: Self.description).tree[Self.device])
    // The lists end at 0x200; registers are whole words.
    let sizes = Set(stride(from: 0, through: 4096, by: 256)).union(stride(from: 0x3e, through: 0x200, by: 2))
    let host = try FixtureHost(text: Self.description)
    let file = host.folder.appendingPathComponent("\(host.path(of: Self.device))/config")
    let bytes = try Data(contentsOf: file)
    for size in sizes.sorted() {
      try bytes.prefix(size).write(to: file)
      let function = try #require(host.tree[Self.device])
      #expect(function.capabilities == nil || function.capabilities == whole.capabilities, "\(size) bytes")
      #expect(function.kind == .endpoint)
      if size <= 0x100 { #expect(function.capabilities == nil, "\(size) bytes") }
    }
    #expect(host.tree[Self.device]?.capabilities != nil)
  }

  @Test("lists that run in a circle end", arguments: [(0x41, UInt8(0x40)), (0x61, 0x40), (0x103, 0x10), (0x153, 0x15)])
  func circle(place: Int, next: UInt8) throws {
    let host = try FixtureHost(text: Self.description)
    try host.setConfiguration(of: Self.device) { $0[place] = next }
    #expect(host.tree.functions.count == 3)
  }

  @Test("a list that leads out of what can be read, or to ones, leaves the capabilities unknown")
  func leadsNowhere() throws {
    let host = try FixtureHost(text: Self.description)
    // The last extended capability says that another follows, where there are only ones.
    try host.setConfiguration(of: Self.device) { bytes in
      bytes[0x1f3] = 0x80
      for place in 0x800..<0x810 { bytes[place] = 0xff }
    }
    #expect(host.tree[Self.device]?.capabilities == nil)
  }

  @Test("a function whose registers are all ones, as one that was just unplugged, has unknown capabilities")
  func ones() throws {
    let host = try FixtureHost(text: Self.description)
    try host.setConfiguration(of: Self.device) { $0 = Array(repeating: 0xff, count: $0.count) }
    let tree = host.tree
    #expect(tree[Self.device]?.capabilities == nil && tree[Self.device]?.kind == .endpoint)
    #expect(tree["0000:00:01.0"]?.capabilities != nil)
  }

  @Test("noise in place of registers ends neither the process nor the scan")
  func noise() throws {
    let host = try FixtureHost(text: Self.description)
    var state: UInt64 = 4711
    for round in 0..<80 {
      try host.setConfiguration(of: Self.device) { bytes in
        for place in (round % 2 == 0 ? 0 : 0x40)..<bytes.count {
          state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
          bytes[place] = UInt8(truncatingIfNeeded: state >> 56)
        }
        // Every other round has a list to follow.
        bytes[0x06] |= 0x10
        if round % 4 == 1 { bytes.replaceSubrange(0x40..<0x44, with: [0x10, 0, 0x02, 0]) }
      }
      #expect(host.tree.functions.count == 3)
    }
  }

  @Test("noise in place of attributes leaves a function out, or has the scan make the best of it")
  func attributes() throws {
    for name in ["vendor", "device", "class", "resource", "numa_node", "current_link_width", "current_link_speed"] {
      for text in ["", "0x", "-", String(repeating: "9", count: 400), "0xffffffffffffffff 0x0 0x200", "\u{0}"] {
        let host = try FixtureHost(text: Self.description)
        try host.write("\(host.path(of: Self.device))/\(name)", text)
        #expect(host.tree.functions.count >= 1)
      }
    }
    #expect(PCIScanner.bars("0x0 0xffffffffffffffff 0x200\n0x5 0x4 0x200\n0x1000 0x1fff 0x0").isEmpty)
    #expect(PCIScanner.bars("0x0 0xfff 0x200").map(\.size) == [4096])
  }

  @Test("where libpci would end the process, as over a path that is too long for it, capabilities are unknown")
  func givesUp() throws {
    let host = try FixtureHost(text: Self.description)
    let long = SystemRoot(prefix: host.root.prefix + String(repeating: "/.", count: 600))
    let tree = PCIScanner(root: long).tree()
    #expect(tree.functions.count == 3 && tree.functions.allSatisfy { $0.capabilities == nil })
    #expect(tree["0000:00:01.0"]?.kind == .rootPort)
  }
}
