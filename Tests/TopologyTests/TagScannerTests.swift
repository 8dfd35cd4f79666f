// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing
import TopologyFixtures

@testable import Topology

/// What a kernel would say of a NIC and its functions; nil is a refusal.
struct FakeNetworkIdentity: NetworkIdentity {
  var mode: SwitchMode?
  var version: String?
  var mac: [UInt8]?
  var link: FunctionLink?
  var found: SwitchRules?

  private func answer<T>(_ value: T?) throws(NetlinkError) -> T {
    guard let value else { throw NetlinkError(errno: .notSupported, words: "") }
    return value
  }

  func switchMode(bus: String, device: String) throws(NetlinkError) -> SwitchMode? {
    #expect(bus == "pci" && device == "0000:16:00.0")
    return try answer(mode)
  }
  func firmware(bus: String, device: String) throws(NetlinkError) -> String { try answer(version) }
  func address(ofFunction number: UInt16, bus: String, device: String) throws(NetlinkError) -> [UInt8] {
    #expect(number == 0)
    return try answer(mac)
  }
  func link(ofFunction number: UInt16, interface: Int32) throws(NetlinkError) -> FunctionLink {
    #expect(interface == 5)
    return try answer(link)
  }
  func rules(at places: SwitchRulePlaces) throws(NetlinkError) -> [SwitchRules] {
    let function = SwitchRulePlaces.Function(representor: 6, uplink: 5)
    #expect(places.functions.allSatisfy { $0 == function })
    #expect(places.interfaces.map { places.name(of: $0, for: function) } == ["p0", "self"])
    return [SwitchRules](repeating: try answer(found), count: places.functions.count)
  }
}

@Suite("A device's compatibility tag, from a described host")
struct TagScannerTests {
  private let host: FixtureHost
  private let virtual = "0000:16:00.2"

  init() throws {
    host = try FixtureHost(.server)
    let home = host.path(of: virtual)
    try host.write("\(home)/subsystem_vendor", "0x15b3")
    try host.write("\(home)/subsystem_device", "0x0058")
    try host.write("\(home)/revision", "0x01")
    try host.link("sys/bus/pci/drivers/mlx5_vfio_pci/module", to: "sys/module/mlx5_vfio_pci")
    try host.write("sys/module/mlx5_vfio_pci/srcversion", "0123456789ABCDEF")
    try host.write("proc/sys/kernel/osrelease", "6.12.30-amd64")
    // The physical function's own interface, and the representor of its first function.
    for (name, index, port) in [("eth0", 5, "p0"), ("eth1", 6, "pf0vf0")] {
      let physical = host.path(of: "0000:16:00.0")
      try host.write("\(physical)/net/\(name)/ifindex", "\(index)")
      try host.write("\(physical)/net/\(name)/phys_port_name", port)
      try host.link("\(physical)/net/\(name)/device", to: physical)
      try host.link("sys/class/net/\(name)", to: "\(physical)/net/\(name)")
    }
  }

  private func switchdev() throws {
    for name in ["eth0", "eth1"] {
      try host.write("\(host.path(of: "0000:16:00.0"))/net/\(name)/phys_switch_id", "c0ffee")
    }
  }

  private func tag(
    of address: String? = nil, _ network: (any NetworkIdentity)? = nil, features: MigrationFeatures? = nil
  ) throws -> CompatibilityTag {
    let record = try Inventory(root: host.root).device(.pci(address ?? virtual))
    return TagScanner(root: host.root, network: network).tag(of: record, features: features)
  }

  @Test("everything that sysfs tells of a virtual function is in it, and its firmware is its physical function's")
  func sysfs() throws {
    #expect(
      try tag().text == """
        vfio-ferry-tag 1
        bars 0:2097152p
        capabilities 01@40 10@60
        class 020000
        device 101e
        driver mlx5_vfio_pci
        driver_srcversion 0123456789ABCDEF
        extended_capabilities 0001@100 000f@150
        firmware 22.39.3004
        kernel 6.12.30-amd64
        migration_features stop-copy p2p pre-copy
        msix_vectors 0
        physical_function 15b3:101d
        revision 01
        subsystem 15b3:0058
        vendor 15b3

        """)
    #expect(try tag() == tag())
  }

  @Test("what the device itself supports takes the place of what its driver usually does")
  func features() throws {
    #expect(try tag(features: [.stopCopy])[.features] == "stop-copy")
  }

  @Test(
    "in switchdev mode the address is the port's, rules are summed up, and of VLANs, checks and trust nothing is said")
  func switchdevIdentity() throws {
    try switchdev()
    let network = FakeNetworkIdentity(
      mode: .switchdev, mac: [2, 0, 0, 0, 0xab, 1],
      link: FunctionLink(mac: [6, 6, 6, 6, 6, 6], vlan: 9, priority: 0, spoofCheck: true, isTrusted: true),
      found: SwitchRules(count: 3, digest: 0x7f3a_91c2_d0e4_b6aa))
    let tag = try tag(network)
    #expect(tag[.mac] == "02:00:00:00:ab:01" && tag[.vlan] == nil && tag[.spoofCheck] == nil && tag[.trust] == nil)
    #expect(tag[.eswitchMode] == "switchdev" && tag[.eswitchRules] == "3 (7f3a91c2d0e4b6aa)")
    #expect(
      "\(SwitchRules(count: 0, digest: 0))" == "none"
        && "\(SwitchRules(count: 1, digest: 1))".hasSuffix("(0000000000000001)"))
    // Of several devices each has its own, and what has no representor has none.
    let inventory = Inventory(root: host.root)
    let tags = TagScanner(root: host.root, network: network).tags(
      of: try ["0000:98:00.0", virtual].map { (try inventory.device(.pci($0)), nil) })
    #expect(tags.map { $0[.eswitchRules] } == [nil, "3 (7f3a91c2d0e4b6aa)"])
    // Without netlink a representor still tells the mode.
    #expect(try self.tag()[.eswitchMode] == "switchdev")
  }

  @Test("a port's name counts in its own switch only: elsewhere it is an interface's that counts")
  func portNames() throws {
    try switchdev()
    for (name, index, port, identity) in [("eth2", 7, "p0", "decaf"), ("eth3", 8, "p1", "c0ffee"), ("eth4", 9, "", "")]
    {
      try host.write("sys/class/net/\(name)/ifindex", "\(index)")
      try host.write("sys/class/net/\(name)/phys_port_name", port)
      try host.write("sys/class/net/\(name)/phys_switch_id", identity)
    }
    let places = SwitchRulePlaces([try Representor.find(of: virtual, root: host.root)], root: host.root)
    #expect(
      places.interfaces.map { places.name(of: $0, for: places.functions[0]) } == ["p0", "self", "eth2", "p1", "eth4"])
  }

  @Test("in legacy mode address, VLAN, checks and trust are what the physical function's interface has")
  func legacyIdentity() throws {
    var network = FakeNetworkIdentity(
      mode: .legacy, link: FunctionLink(mac: [2, 0, 0, 0, 0, 1], vlan: 7, priority: 0))
    var tag = try tag(network)
    #expect(tag[.mac] == "02:00:00:00:00:01" && tag[.vlan] == "7" && tag[.eswitchMode] == "legacy")
    #expect(tag[.eswitchRules] == nil && tag[.spoofCheck] == nil && tag[.trust] == nil)
    network.link = FunctionLink(mac: [0, 0, 0, 0, 0, 0], vlan: 0, priority: 3, spoofCheck: true, isTrusted: false)
    tag = try self.tag(network)
    #expect(tag[.mac] == nil && tag[.vlan] == "0 priority 3" && tag[.spoofCheck] == "on" && tag[.trust] == "off")
    network.link?.isProviders = true
    #expect(try self.tag(network)[.vlan] == "0 priority 3 802.1ad")
  }

  @Test("where the kernel refuses every question the rest is there, and devlink is asked where no RDMA device is")
  func refusals() throws {
    #expect(try tag(FakeNetworkIdentity()) == tag())
    try host.write("\(host.path(of: "0000:16:00.0"))/infiniband/mlx5_0/fw_ver", "")
    #expect(try tag()[.firmware] == nil)
    #expect(try tag(FakeNetworkIdentity(version: "22.40.1"))[.firmware] == "22.40.1")
  }

  @Test("a function that is nobody's virtual one has no identity of a virtual one")
  func physical() throws {
    let tag = try tag(of: "0000:16:00.0")
    #expect(tag[.physicalFunction] == nil && tag[.mac] == nil && tag[.eswitchMode] == nil)
    #expect(tag[.firmware] == "22.39.3004" && tag[.driver] == "mlx5_core")
    #expect(try self.tag(of: "0000:98:00.0")[.bars] == "0:16777216p 1:68719476736p 3:33554432p")
    #expect(try self.tag(of: "0000:17:00.0")[.bars] == "0:16384")
    #expect(try self.tag(of: "0000:00:00.0")[.bars] == "none")
  }

  @Test("without root there are no capabilities in it, and the loose policy does not mind")
  func withoutRoot() throws {
    let other = try FixtureHost(.server, configBytes: 64)
    let record = try Inventory(root: other.root).device(.pci(virtual))
    let tag = TagScanner(root: other.root).tag(of: record)
    #expect(tag[.capabilities] == nil && tag[.extendedCapabilities] == nil && tag[.msixVectors] == nil)
    #expect(tag[.bars] == "0:2097152p")
  }

  @Test("a mediated device has its type, and nothing that is a PCI function's")
  func mediated() throws {
    let uuid = "76666572-7279-4d54-8959-000000000001"
    try host.make("sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-2")
    let home = "sys/devices/virtual/mtty/mtty/\(uuid)"
    try host.link("\(home)/mdev_type", to: "sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-2")
    try host.make("sys/bus/mdev/drivers/mtty")
    try host.link("\(home)/driver", to: "sys/bus/mdev/drivers/mtty")
    try host.link("sys/bus/mdev/devices/\(uuid)", to: home)
    let record = try Inventory(root: host.root).device(.mediated(uuid))
    #expect(
      TagScanner(root: host.root).tag(of: record).text == """
        vfio-ferry-tag 1
        driver mtty
        kernel 6.12.30-amd64
        mdev_type mtty-2
        migration_features stop-copy p2p pre-copy

        """)
  }

  @Test("what sysfs of another system says can't break a tag's lines or make it too long")
  func hostile() throws {
    try host.write("proc/sys/kernel/osrelease", "6.12\ndriver evil\u{1b}[31m")
    try host.write("\(host.path(of: virtual))/revision", String(repeating: "é", count: 4000))
    let tag = try tag()
    #expect(tag[.driver] == "mlx5_vfio_pci")
    #expect(try CompatibilityTag(decoding: tag.encoded) == tag)
  }
}

@Suite("The list of a function's capabilities")
struct PCICapabilitiesTests {
  /// Power management, then MSI-X with 12 vectors; extended: 1 at 0x100, 13 at 0x150.
  private static let good: [UInt8] = {
    var bytes = [UInt8](repeating: 0, count: 4096)
    bytes[0x06] = 0x10
    bytes[0x34] = 0x40
    bytes[0x40...0x41] = [0x01, 0x9c]
    bytes[0x9c...0x9f] = [0x11, 0x00, 0x0b, 0x80]
    bytes[0x100...0x103] = [0x01, 0x00, 0x01, 0x15]
    bytes[0x150...0x153] = [0x0d, 0x00, 0x01, 0x00]
    return bytes
  }()

  @Test("numbers and places are in the order of the lists, and MSI-X has its vectors counted")
  func places() throws {
    let found = try #require(PCICapabilities(Self.good))
    #expect(PCICapabilities.text(found.standard, digits: 2) == "01@40 11@9c")
    #expect(found.extended.map { PCICapabilities.text($0, digits: 4) } == "0001@100 000d@150")
    #expect(found.msixVectors == 12)
    let conventional = try #require(PCICapabilities(Array(Self.good[..<256])))
    #expect(conventional.extended == nil && conventional.standard == found.standard)
  }

  @Test("a function without lists has empty ones; one that is gone, and 64 bytes, have none")
  func nothing() throws {
    let empty = try #require(PCICapabilities([UInt8](repeating: 0, count: 4096)))
    #expect(empty.standard == [] && empty.extended == [] && empty.msixVectors == nil)
    #expect(PCICapabilities.text([], digits: 2) == "none")
    #expect(PCICapabilities([UInt8](repeating: 0xff, count: 4096)) == nil)
    #expect(PCICapabilities(Array(Self.good[..<64])) == nil && PCICapabilities([]) == nil)
  }

  @Test("a list that goes round, or into the header, is damaged")
  func damaged() {
    var round = Self.good
    round[0x9d] = 0x40
    #expect(PCICapabilities(round) == nil)
    var header = Self.good
    header[0x41] = 0x10
    #expect(PCICapabilities(header) == nil)
    var extended = Self.good
    extended[0x152...0x153] = [0x01, 0x10]
    #expect(PCICapabilities(extended) == nil)
  }

  @Test("no bytes whatever make it read outside or go on for ever")
  func anything() {
    var state: UInt64 = 7
    for _ in 0..<2000 {
      var bytes = (0..<4096).map { _ -> UInt8 in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return UInt8(truncatingIfNeeded: state >> 33)
      }
      bytes[0x06] |= 0x10
      bytes[0x34] = 0xfc
      _ = PCICapabilities(bytes)
    }
  }
}
