// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Testing

@testable import Topology

/// A system that is made of folders and links, as sysfs is.
final class FakeSystem {
  let folder: URL
  var root: SystemRoot { SystemRoot(prefix: folder.path) }

  init() throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("system-\(UUID().uuidString)")
    try make("sys")
  }

  deinit { try? FileManager.default.removeItem(at: folder) }

  func make(_ path: String) throws {
    try FileManager.default.createDirectory(at: folder.appendingPathComponent(path), withIntermediateDirectories: true)
  }

  func write(_ path: String, _ text: String) throws {
    try make(String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]))
    try (text + "\n").write(to: folder.appendingPathComponent(path), atomically: false, encoding: .utf8)
  }

  func link(_ path: String, to target: String) throws {
    try make(String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]))
    try FileManager.default.createSymbolicLink(
      atPath: folder.appendingPathComponent(path).path, withDestinationPath: folder.appendingPathComponent(target).path)
  }

  /// A PCI device.
  /// - Parameter vfio: its number in /dev/vfio/devices, where it is on VFIO.
  func pci(_ address: String, driver: String?, group: Int, vfio: Int?, debugState: String? = nil) throws {
    let home = "sys/devices/pci0000:00/\(address)"
    try write("\(home)/vendor", "0x15b3")
    try write("\(home)/device", "0x101e")
    try make("sys/kernel/iommu_groups/\(group)")
    try link("\(home)/iommu_group", to: "sys/kernel/iommu_groups/\(group)")
    try link("sys/bus/pci/devices/\(address)", to: home)
    if let driver {
      try make("sys/bus/pci/drivers/\(driver)")
      try link("\(home)/driver", to: "sys/bus/pci/drivers/\(driver)")
      try link("sys/bus/pci/drivers/\(driver)/\(address)", to: home)
    }
    if let vfio {
      try write("\(home)/vfio-dev/vfio\(vfio)/dev", "511:\(vfio)")
      try link("\(home)/vfio-dev/vfio\(vfio)/device", to: home)
      try link("sys/class/vfio-dev/vfio\(vfio)", to: "\(home)/vfio-dev/vfio\(vfio)")
      try write("dev/vfio/devices/vfio\(vfio)", "")
      try write("dev/vfio/\(group)", "")
      try make("sys/kernel/debug/vfio/\(address)")
      if let debugState { try write("sys/kernel/debug/vfio/\(address)/migration/state", debugState) }
    }
  }
}

struct InventoryTests {
  @Test("a system without VFIO has none")
  func noVFIO() throws {
    let inventory = Inventory(root: try FakeSystem().root)
    #expect(!inventory.hasVFIO)
    #expect(inventory.devices().isEmpty)
  }

  @Test("devices on VFIO are found with driver, group, nodes and state; others are left out")
  func devices() throws {
    let system = try FakeSystem()
    try system.pci("0000:3b:00.2", driver: "mlx5_vfio_pci", group: 12, vfio: 1, debugState: "PRE_COPY_P2P")
    try system.pci("0000:01:00.0", driver: "vfio-pci", group: 7, vfio: 0)
    try system.pci("0000:02:00.0", driver: "nvme", group: 8, vfio: nil)
    let inventory = Inventory(root: system.root)
    #expect(inventory.hasVFIO)
    let devices = inventory.devices()
    #expect(devices.map { "\($0.name)" } == ["0000:01:00.0", "0000:3b:00.2"])
    let mlx5 = devices[1]
    #expect(mlx5.driver == "mlx5_vfio_pci")
    #expect(mlx5.group == 12)
    #expect(mlx5.node == "\(system.root.dev)/vfio/devices/vfio1")
    #expect(mlx5.groupNode == "\(system.root.dev)/vfio/12")
    #expect(mlx5.nodeNumber == "511:1")
    #expect(mlx5.pciIdentity == "15b3:101e")
    #expect(mlx5.isMigratable == true)
    #expect(mlx5.debugState == .preCopyP2P)
    // No entry for migration in debugfs: the driver has none.
    #expect(devices[0].isMigratable == false)
  }

  @Test("a device is found by address and by node, on VFIO or not")
  func names() throws {
    let system = try FakeSystem()
    try system.pci("0000:3b:00.2", driver: "mlx5_vfio_pci", group: 12, vfio: 4)
    try system.pci("0000:02:00.0", driver: "nvme", group: 8, vfio: nil)
    let inventory = Inventory(root: system.root)
    #expect(try inventory.device(#require(DeviceName("3b:00.2"))).group == 12)
    #expect(try inventory.device(.node("/dev/vfio/devices/vfio4")).name == .pci("0000:3b:00.2"))
    let nvme = try inventory.device(.pci("0000:02:00.0"))
    #expect(!nvme.isOnVFIO && nvme.driver == "nvme" && nvme.node == nil)
    #expect(throws: Inventory.Problem.noDevice(.pci("0000:09:00.0"))) { try inventory.device(.pci("0000:09:00.0")) }
  }

  @Test("a device of another bus, whose name is neither an address nor a UUID, goes by its node")
  func otherBus() throws {
    let system = try FakeSystem()
    let home = "sys/devices/vfio-synthetic/nic"
    try system.write("\(home)/vfio-dev/vfio7/dev", "511:7")
    try system.link("\(home)/vfio-dev/vfio7/device", to: home)
    try system.link("sys/class/vfio-dev/vfio7", to: "\(home)/vfio-dev/vfio7")
    try system.write("dev/vfio/devices/vfio7", "")
    try system.write("sys/kernel/debug/vfio/nic/migration/state", "STOP")
    let inventory = Inventory(root: system.root)
    let device = try #require(inventory.devices().first)
    #expect(device.name == .node("/dev/vfio/devices/vfio7"))
    #expect(device.debugState == .stop)
    #expect(try inventory.device(device.name).sysfs == device.sysfs)
  }

  @Test("before Linux 6.1 sysfs has no vfio-dev, and the driver's name tells")
  func oldKernel() throws {
    let system = try FakeSystem()
    try system.pci("0000:3b:00.2", driver: "mlx5_vfio_pci", group: 12, vfio: nil)
    try system.write("dev/vfio/vfio", "")
    try system.write("dev/vfio/12", "")
    let devices = Inventory(root: system.root).devices()
    #expect(devices.count == 1)
    #expect(devices.first?.isOnVFIO == true && devices.first?.node == nil)
    #expect(devices.first?.groupNode == "\(system.root.dev)/vfio/12")
    #expect(devices.first?.isMigratable == nil)
  }

  @Test("without debugfs nothing is claimed about migration")
  func noDebugfs() throws {
    let system = try FakeSystem()
    try system.pci("0000:3b:00.2", driver: "mlx5_vfio_pci", group: 12, vfio: 1, debugState: "RUNNING")
    try FileManager.default.removeItem(at: system.folder.appendingPathComponent("sys/kernel/debug"))
    let device = try #require(Inventory(root: system.root).devices().first)
    #expect(device.isMigratable == nil && device.debugState == nil)
    #expect(device.usualFeatures == [.stopCopy, .p2p, .preCopy])
  }
}
