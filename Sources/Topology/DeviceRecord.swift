// SPDX-License-Identifier: Apache-2.0
public import Migration

/// A device as sysfs and debugfs describe it, without anything being opened or bound.
public struct DeviceRecord: Hashable, Sendable {
  /// The name that users see: a PCI address or a mediated device's UUID.
  public var name: DeviceName
  /// Its folder in sysfs, links followed.
  public var sysfs: String
  /// The kernel driver that it is bound to; nil for none.
  public var driver: String?
  /// Whether VFIO offers the device to user space.
  public var isOnVFIO: Bool
  /// Its character device, `/dev/vfio/devices/vfioN`; nil where the kernel has none.
  public var node: String?
  /// The character device's number as `major:minor`.
  public var nodeNumber: String?
  /// Its IOMMU group; nil where it has none.
  public var group: Int?
  /// How many devices the group has; 0 where it has no group.
  public var devicesInGroup: Int
  /// The group's node, `/dev/vfio/N`; nil where the kernel has none.
  public var groupNode: String?
  /// PCI vendor and device as in `15b3:101e`; nil for what is no PCI device.
  public var pciIdentity: String?
  /// The state in debugfs; nil where debugfs does not say (not mounted, no permission, kernel older than 6.8) and where
  /// the device can't be migrated.
  public var debugState: MigrationState?
  /// Whether debugfs has an entry for the device's migration: true, false, or nil where debugfs can't be read.
  public var isMigratable: Bool?

  /// What the drivers known to offer migration say of themselves; what a device really offers, only it can tell.
  public var usualFeatures: MigrationFeatures? {
    driver.flatMap(DriverFacts.usualFeatures(of:))
  }

  /// Its nodes, as messages name them; empty where it has none.
  public var nodes: String { [node, groupNode].compactMap { $0 }.joined(separator: ", ") }
}

/// What is known of kernel drivers by their names.
public enum DriverFacts {
  /// The flags that devices of a driver usually have; nil for a driver that is not known to offer migration.
  static func usualFeatures(of driver: String) -> MigrationFeatures? { migrating[KernelModules.canonical(driver)] }

  /// By names with underscores, which the kernel has made of the dashes of their modules.
  private static let migrating: [String: MigrationFeatures] = [
    "mlx5_vfio_pci": [.stopCopy, .p2p, .preCopy],
    "mtty": [.stopCopy, .p2p, .preCopy],
    "pds_vfio_pci": [.stopCopy, .p2p],
    "hisi_acc_vfio_pci": [.stopCopy, .preCopy],
    "qat_vfio_pci": [.stopCopy, .p2p, .preCopy],
    "virtio_vfio_pci": [.stopCopy, .p2p, .preCopy],
    "xe_vfio_pci": [.stopCopy, .p2p],
  ]

  /// Whether the name is that of a driver which gives devices to VFIO, for kernels whose sysfs does not say.
  static func isVFIO(_ driver: String) -> Bool {
    driver.contains("vfio") || usualFeatures(of: driver) != nil
  }
}

extension DeviceRecord {
  /// Its address, where it is a function of that tree.
  public func address(in tree: PCITree) -> String? {
    guard case .pci(let address) = name, tree[address] != nil else { return nil }
    return address
  }
}
