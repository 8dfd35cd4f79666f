// SPDX-License-Identifier: Apache-2.0
public import Migration

/// What a device will offer a migration, as far as its driver's name and debugfs tell: nobody has asked the device.
public struct DeviceProspects: Hashable, Sendable {
  /// The migration states that it has, but `error`; none where it can't be migrated, nil where nothing tells.
  public var states: [MigrationState]?
  /// What can tell which pages it writes; nil where nothing is known of its driver.
  public var tracking: Tracking?

  /// What can tell which pages a device writes.
  public enum Tracking: String, CaseIterable, Hashable, Sendable {
    /// The device keeps a log.
    case device
    /// The IOMMU, where it has dirty bits: the driver relies on it.
    case iommu
    /// Nothing: everything counts as written.
    case none
  }

  /// What is expected of the device of a record.
  public init(of record: DeviceRecord) {
    tracking = record.driver.flatMap(DriverFacts.tracking(of:))
    guard record.isOnVFIO else { return }
    switch (record.isMigratable, record.usualFeatures) {
    case (false?, _): states = []
    // What can be migrated at all can be stopped and copied.
    case (true?, let features): states = Self.states(features ?? .stopCopy)
    case (nil, let features?): states = Self.states(features)
    case (nil, nil): states = nil
    }
  }

  private static func states(_ features: MigrationFeatures) -> [MigrationState] {
    StateGraph(features: features).states.filter { $0 != .error }
  }
}

extension DriverFacts {
  /// What tracks the pages that devices of a driver write; nil where it is not known of the driver.
  static func tracking(of driver: String) -> DeviceProspects.Tracking? { tracking[KernelModules.canonical(driver)] }

  private static let tracking: [String: DeviceProspects.Tracking] = [
    "mlx5_vfio_pci": .device,
    "pds_vfio_pci": .device,
    "hisi_acc_vfio_pci": .iommu,
    "qat_vfio_pci": .iommu,
    "virtio_vfio_pci": .iommu,
    "xe_vfio_pci": .iommu,
    "vfio_pci": .iommu,
    // Its devices have no IOMMU and write to no memory.
    "mtty": .none,
  ]
}
