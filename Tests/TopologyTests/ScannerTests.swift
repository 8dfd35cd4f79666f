// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Testing
import TopologyFixtures

@testable import Topology

/// What the scanner reads of the described hosts.
struct ScannerTests {
  @Test(
    "every function has the kind, place and identity that its description says", arguments: FixtureHost.Name.allCases)
  func shape(name: FixtureHost.Name) throws {
    let host = try FixtureHost(name)
    let tree = host.tree
    #expect(tree.functions.map(\.address) == host.description.functions.map(\.address).sorted())
    for described in host.description.functions {
      let function = try #require(tree[described.address])
      let kind: PCIFunction.Kind =
        switch described.kind {
        case .rootPort: .rootPort
        case .upstream: .switchUpstreamPort
        case .downstream: .switchDownstreamPort
        case .bridge: .bridge
        case .endpoint: .endpoint
        case .integrated: .integrated
        case .conventional: .conventional
        }
      #expect(function.kind == kind, "\(described.address)")
      #expect(function.parent == described.parent && function.hostBridge == described.hostBridge)
      #expect(function.driver == described.driver && function.group == described.group)
      #expect(function.numaNode == described.node && function.physicalFunction == described.physicalFunction)
    }
    #expect(tree.hasIOMMU == (name != .laptop))
  }

  @Test(
    "without root the kinds are the same, and capabilities are unknown, not absent",
    arguments: FixtureHost.Name.allCases)
  func withoutRoot(name: FixtureHost.Name) throws {
    let read = try FixtureHost(name).tree
    let unread = try FixtureHost(name, configBytes: 64).tree
    #expect(unread.functions.map(\.kind) == read.functions.map(\.kind))
    #expect(unread.functions.allSatisfy { $0.capabilities == nil })
    #expect(read.functions.allSatisfy { $0.capabilities != nil })
  }

  @Test("access control is what exists and what is on of it, and nil where there is none")
  func accessControl() throws {
    let tree = try FixtureHost(.hgx).tree
    let all: PCIFunction.AccessControl = [
      .sourceValidation, .translationBlocking, .requestRedirect, .completionRedirect, .upstreamForwarding,
      .directTranslated,
    ]
    let some = try #require(tree["0000:22:00.0"]?.capabilities)
    #expect(some.accessControl == all)
    #expect(some.accessControlEnabled == all.subtracting(.translationBlocking))
    let off = try #require(tree["0000:12:00.0"]?.capabilities)
    #expect(off.accessControl == all && off.accessControlEnabled == [])
    let none = try #require(tree["0000:82:00.0"]?.capabilities)
    #expect(none.accessControl == nil && none.accessControlEnabled == [])
  }

  @Test("ATS is on, off or absent; ordering of a virtual function is its physical function's")
  func addressTranslation() throws {
    let tree = try FixtureHost(.hgx).tree
    #expect(tree["0000:23:00.0"]?.capabilities?.addressTranslation == true)
    #expect(tree["0000:13:00.0"]?.capabilities?.addressTranslation == false)
    #expect(tree["0000:95:00.0"]?.capabilities?.addressTranslation == .some(nil))
    for address in ["0000:14:00.0", "0000:14:00.1", "0000:14:00.2"] {
      #expect(tree[address]?.capabilities?.relaxedOrdering == true)
      #expect(tree[address]?.capabilities?.idOrderedRequests == false)
    }
    for address in ["0000:24:00.0", "0000:24:00.1"] {
      #expect(tree[address]?.capabilities?.idOrderedRequests == true)
      #expect(tree[address]?.capabilities?.idOrderedCompletions == false)
    }
    #expect(tree["0000:13:00.0"]?.capabilities?.relaxedOrdering == false)
  }

  @Test("BARs have their sizes and spaces; the ROM, windows of bridges and ranges for virtual functions are left out")
  func bars() throws {
    let tree = try FixtureHost(.hgx).tree
    let gpu = try #require(tree["0000:13:00.0"]).bars
    #expect(gpu.map(\.index) == [0, 2, 4] && gpu.map(\.size) == [16 << 20, 128 << 30, 32 << 20])
    #expect(gpu.allSatisfy { $0.isPrefetchable && !$0.isIO && $0.start != 0 })
    #expect(tree["0000:14:00.0"]?.bars.count == 1 && tree["0000:10:01.0"]?.bars == [])
    let laptop = try FixtureHost(.laptop).tree
    let card = try #require(laptop["0000:03:00.0"])
    #expect(card.bars.map(\.isIO) == [true, false] && card.bars.map(\.size) == [32, 16384])
    #expect(card.hasMemory && laptop["0000:03:02.0"]?.hasMemory == false)
    #expect(card.bars.allSatisfy { !$0.isPrefetchable })
  }

  @Test("links are as the kernel says them; virtual and integrated functions have none")
  func links() throws {
    let tree = try FixtureHost(.hgx).tree
    #expect(tree["0000:13:00.0"]?.link == .init(speed: "32.0 GT/s PCIe", width: 16))
    #expect(tree["0000:15:00.0"]?.link == .init(speed: "16.0 GT/s PCIe", width: 4))
    #expect(tree["0000:14:00.1"]?.link == nil)
    #expect(try FixtureHost(.laptop).tree["0000:00:02.0"]?.link == nil)
  }

  @Test("identity and class are sysfs's, as a virtual function's own registers have neither")
  func identity() throws {
    let function = try #require(try FixtureHost(.hgx).tree["0000:14:00.1"])
    #expect(function.identity == "15b3:101e" && function.classCode == 0x020700)
    #expect(function.physicalFunction == "0000:14:00.0")
  }

  @Test("titles come from the list of PCI ids where this machine has one, and not where nobody asked")
  func titles() throws {
    let host = try FixtureHost(.server)
    #expect(host.tree.functions.allSatisfy { $0.title == nil })
    let title = PCIScanner(root: host.root).tree()["0000:16:00.2"]?.title
    #expect(title == nil || title?.contains("Mellanox") == true)
  }

  @Test("RDMA devices are looked for only where somebody wants them")
  func withoutRDMA() throws {
    let host = try FixtureHost(.hgx)
    #expect(PCIScanner(root: host.root).tree(titles: false).rdmaDevices.count == 5)
    #expect(PCIScanner(root: host.root).tree(titles: false, rdma: false).rdmaDevices.isEmpty)
  }

  // What waits for a pipe's other end waits for ever.
  @Test("pipes and device nodes in the place of attributes are not read", .timeLimit(.minutes(1)))
  func strangeFiles() throws {
    let host = try FixtureHost(.server)
    let home = "\(host.folder.path)/\(host.path(of: "0000:17:00.0"))"
    for name in ["numa_node", "config", "current_link_width"] {
      try FileManager.default.removeItem(atPath: "\(home)/\(name)")
      try #require(unsafe mkfifo("\(home)/\(name)", 0o600) == 0)
    }
    try FileManager.default.removeItem(atPath: "\(home)/current_link_speed")
    try FileManager.default.createSymbolicLink(
      atPath: "\(home)/current_link_speed", withDestinationPath: "/dev/zero")
    let function = try #require(host.tree["0000:17:00.0"])
    #expect(function.numaNode == nil && function.capabilities == nil && function.link == nil)
  }

  @Test("of an attribute no more is kept than the kernel's have, and nothing that a terminal would obey")
  func strangeText() throws {
    let host = try FixtureHost(.server)
    let home = host.path(of: "0000:17:00.0")
    try host.write("\(home)/current_link_speed", String(repeating: "16", count: 1 << 20))
    try FileManager.default.removeItem(atPath: "\(host.folder.path)/\(home)/driver")
    try host.link("\(home)/driver", to: "sys/bus/pci/drivers/a\u{1b}[2J\n\u{9b}b\u{2028}\u{202e}é")
    let function = try #require(host.tree["0000:17:00.0"])
    #expect(function.link?.speed.count == 128)
    #expect(function.driver == "a\u{fffd}[2J\u{fffd}\u{fffd}b\u{fffd}\u{fffd}é")
    #expect(try Inventory(root: host.root).device(.pci("0000:17:00.0")).driver == function.driver)
  }

  @Test("a tree that is changed answers by what it is then")
  func changed() throws {
    var tree = try FixtureHost(.server).tree
    let place = try #require(tree.functions.firstIndex { $0.address == "0000:16:00.2" })
    let physical = try #require(tree.functions[place].physicalFunction)
    #expect(tree.virtualFunctions(of: physical).contains { $0.address == "0000:16:00.2" })
    tree.functions[place].physicalFunction = nil
    #expect(!tree.virtualFunctions(of: physical).contains { $0.address == "0000:16:00.2" })
    let removed = tree.functions.remove(at: place)
    #expect(tree[removed.address] == nil)
    #expect(tree.children(of: try #require(removed.parent)).allSatisfy { $0.address != removed.address })
    tree.functions = []
    #expect(tree.hostBridges.isEmpty)
  }

  @Test("what is missing is left out: functions that are going, names that are none, a system without PCI")
  func going() throws {
    let host = try FixtureHost(.server)
    try FileManager.default.removeItem(
      at: host.folder.appendingPathComponent("\(host.path(of: "0000:17:00.0"))/resource"))
    try FileManager.default.removeItem(
      at: host.folder.appendingPathComponent("\(host.path(of: "0000:16:00.1"))/config"))
    try host.link("sys/bus/pci/devices/0000:40:00.0", to: "sys/devices/gone")
    try host.link("sys/bus/pci/devices/nonsense", to: host.path(of: "0000:98:00.0"))
    try host.link("sys/bus/pci/devices/0000:41:00.9", to: host.path(of: "0000:98:00.0"))
    let tree = host.tree
    #expect(tree["0000:17:00.0"] == nil && tree.functions.count == host.description.functions.count - 1)
    #expect(tree["0000:16:00.1"] != nil && tree["0000:16:00.1"]?.capabilities == nil)
    // Its virtual function's controls are reserved, and so unknown.
    #expect(tree["0000:16:00.3"]?.capabilities == nil && tree["0000:16:00.2"]?.capabilities != nil)
    let nothing = PCIScanner(root: SystemRoot(prefix: "/nonexistent")).tree()
    #expect(nothing == PCITree(functions: [], hasIOMMU: false))
  }

  @Test("a host bridge below a function, as VMD's, has a tree of its own, in a segment of more digits")
  func nestedHostBridge() {
    let place = PCIScanner.place(of: "/sys/devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:1b.0/10000:e1:00.0")
    #expect(place.hostBridge == "pci10000:e0" && place.parent == "10000:e0:1b.0")
    let top = PCIScanner.place(of: "/sys/devices/platform/x/pci0004:40/0004:40:00.0")
    #expect(top.hostBridge == "pci0004:40" && top.parent == nil)
    #expect(PCIAddress("10000:e1:00.0")?.segment == 0x10000)
  }

  @Test(
    "what is no PCI address is not taken for one",
    arguments: [
      "", "0000:00:00", "0000:00:20.0", "0000:00:1f.8", "0000:0g:00.0", "00:00.0", "0000:00:00.0.0", "0000:+1:00.0",
    ])
  func addresses(text: String) { #expect(PCIAddress(text) == nil) }

  @Test("groups that VFIO makes up where there is no IOMMU are no IOMMU")
  func noIOMMU() throws {
    let host = try FixtureHost(
      text: """
        iommu off
        host pci0000:00
          00:01.0 root-port
            01:00.0 endpoint bars=0:1M group=0
        """)
    #expect(host.tree.hasIOMMU)
    try host.write("sys/kernel/iommu_groups/0/name", "vfio-noiommu")
    #expect(!host.tree.hasIOMMU)
  }
}

struct RDMATests {
  @Test("RDMA devices have their function, kind, firmware, ports and the GIDs that are not zero")
  func devices() throws {
    let devices = try FixtureHost(.hgx).tree.rdmaDevices
    #expect(devices.map(\.name) == ["mlx5_0", "mlx5_1", "mlx5_2", "mlx5_3", "mlx5_4"])
    #expect(
      devices.map(\.kind) == [.physicalFunction, .virtualFunction] + Array(repeating: .physicalFunction, count: 3))
    #expect(devices[1].function == "0000:14:00.2" && devices[1].ports[0].state == "down")
    #expect(devices[3].firmware == "28.39.3004")
    #expect(
      devices[4].ports == [
        .init(
          number: 1, state: "active", linkLayer: "ethernet",
          gids: ["fe80:0000:0000:0000:bae9:24ff:fe00:0001", "0000:0000:0000:0000:0000:ffff:0a00:0001"])
      ])
  }

  @Test("software is told by having no function, or by what it calls itself")
  func software() throws {
    let host = try FixtureHost(.server)
    // rxe over a NIC lies in the NIC's folder on some kernels.
    let home = "\(host.path(of: "0000:16:00.0"))/infiniband/rxe1"
    try host.write("\(home)/node_desc", "rxe")
    try host.link("sys/class/infiniband/rxe1", to: home)
    for name in ["rxe0", "rxe1"] {
      let device = try #require(host.tree.rdmaDevices.first { $0.name == name })
      #expect(device.kind == .software && device.function == nil && device.firmware == nil)
    }
  }

  @Test("a part of a physical function, as mlx5's scalable functions, is no function that VFIO can have")
  func subfunction() throws {
    let host = try FixtureHost(.server)
    let home = "\(host.path(of: "0000:16:00.0"))/mlx5_core.sf.4/infiniband/mlx5_9"
    try host.make(home)
    try host.link("sys/class/infiniband/mlx5_9", to: home)
    let device = try #require(host.tree.rdmaDevices.first { $0.name == "mlx5_9" })
    #expect(device.kind == .subfunction && device.function == "0000:16:00.0" && device.ports.isEmpty)
  }
}
