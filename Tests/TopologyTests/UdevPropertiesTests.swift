// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Testing

@testable import Topology

struct UdevPropertiesTests {
  /// What the rules get for an event, without the digest's own value.
  private func text(_ path: String, _ system: FakeSystem) -> String {
    let inventory = Inventory(root: system.root, readsStates: false)
    let records = inventory.devices(ofEvent: path)
    let tag = { (record: DeviceRecord) in TagScanner(root: system.root, filesOnly: true).tag(of: record) }
    let digest = { (text: String) in "\(text.split(separator: "\n").count) fields" }
    if !Inventory.isOfDevice(path) { return UdevProperties(ofGroup: records, tag: tag, digest: digest).text }
    return records.first.map { UdevProperties(of: $0, tag: tag($0), digest: digest).text } ?? ""
  }

  @Test("a driver that is known has its states and its way of tracking pages")
  func known() throws {
    let system = try FakeSystem()
    try system.pci("0000:3b:00.2", driver: "mlx5_vfio_pci", group: 12, vfio: 1, debugState: "RUNNING")
    #expect(
      text("/devices/pci0000:00/0000:3b:00.2/vfio-dev/vfio1", system) == """
        VFIO_FERRY_DEVICE=0000:3b:00.2
        VFIO_FERRY_DRIVER=mlx5_vfio_pci
        VFIO_FERRY_STATES=stop running stop-copy resuming running-p2p pre-copy pre-copy-p2p
        VFIO_FERRY_DIRTY=device
        VFIO_FERRY_TAG=4 fields

        """)
  }

  @Test("a device that debugfs shows without migration has no states, whatever its driver usually has")
  func notMigratable() throws {
    let system = try FakeSystem()
    try system.pci("0000:3b:00.2", driver: "mlx5_vfio_pci", group: 12, vfio: 1)
    #expect(text("/devices/pci0000:00/0000:3b:00.2/vfio-dev/vfio1", system).contains("\nVFIO_FERRY_STATES=none\n"))
  }

  @Test("of a driver that is not known debugfs tells whether it can be migrated, and without debugfs nothing does")
  func unknown() throws {
    let system = try FakeSystem()
    try system.pci("0000:3b:00.2", driver: "other-vfio", group: 12, vfio: 1, debugState: "RUNNING")
    let path = "/devices/pci0000:00/0000:3b:00.2/vfio-dev/vfio1"
    #expect(text(path, system).contains("\nVFIO_FERRY_STATES=stop running stop-copy resuming\nVFIO_FERRY_TAG"))
    try FileManager.default.removeItem(at: system.folder.appendingPathComponent("sys/kernel/debug"))
    #expect(!text(path, system).contains("STATES"))
  }

  @Test("debugfs is not asked for a state, because it may not answer")
  func noState() throws {
    let system = try FakeSystem()
    try system.pci("0000:3b:00.2", driver: "mlx5_vfio_pci", group: 12, vfio: 1, debugState: "RUNNING")
    let record = try #require(Inventory(root: system.root, readsStates: false).devices().first)
    #expect(record.isMigratable == true && record.debugState == nil)
  }

  @Test("what has gone has no properties, and a path that leads elsewhere is nobody's")
  func gone() throws {
    let system = try FakeSystem()
    for path in ["/devices/gone/vfio-dev/vfio0", "/devices/virtual/vfio/3", "/devices/../vfio-dev/vfio1", "", "/"] {
      #expect(text(path, system) == "", "\(path)")
    }
  }

  /// A kernel whose devices have no nodes: the group has it all.
  private func withoutNodes(_ addresses: [String]) throws -> FakeSystem {
    let system = try FakeSystem()
    for address in addresses {
      try system.pci(address, driver: "mlx5_vfio_pci", group: 12, vfio: nil)
      try system.link(
        "sys/kernel/iommu_groups/12/devices/\(address)", to: "sys/devices/pci0000:00/\(address)")
    }
    return system
  }

  @Test("where devices have no nodes, a group's has what is known of its device, and a link")
  func group() throws {
    let lines = text("/devices/virtual/vfio/12", try withoutNodes(["0000:3b:00.2"])).split(separator: "\n")
    #expect(lines.first == "VFIO_FERRY_DEVICE=0000:3b:00.2" && lines.count == 7)
    #expect(
      lines.suffix(2) == [
        "VFIO_FERRY_DEVICES=0000:3b:00.2", ".VFIO_FERRY_LINKS=vfio/by-path/0000:3b:00.2",
      ])
  }

  @Test("of several devices in a group their names are said, and each has a link")
  func largeGroup() throws {
    #expect(
      text("/devices/virtual/vfio/12", try withoutNodes(["0000:3b:00.2", "0000:3b:00.3"])) == """
        VFIO_FERRY_DEVICES=0000:3b:00.2 0000:3b:00.3
        .VFIO_FERRY_LINKS=vfio/by-path/0000:3b:00.2 vfio/by-path/0000:3b:00.3

        """)
  }

  @Test("a group's device that no VFIO driver has yet is counted in from the beginning, and a bridge is not")
  func laterDevice() throws {
    let system = try withoutNodes(["0000:3b:00.2"])
    for (address, code) in [("0000:3a:00.0", "0x060400"), ("0000:3b:00.3", "0x020000")] {
      try system.pci(address, driver: "other", group: 12, vfio: nil)
      try system.write("sys/devices/pci0000:00/\(address)/class", code)
      try system.link("sys/kernel/iommu_groups/12/devices/\(address)", to: "sys/devices/pci0000:00/\(address)")
    }
    #expect(
      text("/devices/virtual/vfio/12", system) == """
        VFIO_FERRY_DEVICES=0000:3b:00.2 0000:3b:00.3
        .VFIO_FERRY_LINKS=vfio/by-path/0000:3b:00.2 vfio/by-path/0000:3b:00.3

        """)
  }

  @Test("a bridge that a VFIO driver has is a device like any other")
  func bridge() throws {
    let system = try withoutNodes(["0000:3b:00.2"])
    try system.write("sys/devices/pci0000:00/0000:3b:00.2/class", "0x060000")
    #expect(text("/devices/virtual/vfio/12", system).contains("\nVFIO_FERRY_DEVICES=0000:3b:00.2\n"))
  }

  @Test("where devices have nodes, nothing is said of a group")
  func groupBeside() throws {
    let system = try FakeSystem()
    try system.pci("0000:3b:00.2", driver: "mlx5_vfio_pci", group: 12, vfio: 1)
    try system.link("sys/kernel/iommu_groups/12/devices/0000:3b:00.2", to: "sys/devices/pci0000:00/0000:3b:00.2")
    #expect(text("/devices/virtual/vfio/12", system) == "")
  }

  @Test("what udev would take for something else is replaced")
  func clean() {
    var record = DeviceRecord(
      name: .pci("0000:3b:00.2"), sysfs: "", driver: "a\"b'c\\d\u{e9}\n", isOnVFIO: true, devicesInGroup: 0)
    record.isMigratable = nil
    let lines = UdevProperties(of: record, tag: CompatibilityTag(), digest: { _ in "0" }).text.split(separator: "\n")
    #expect(lines[1] == "VFIO_FERRY_DRIVER=a_b_c_d___" && lines.count == 3)
  }
}
