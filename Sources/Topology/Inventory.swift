// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
public import Migration

/// Which devices there are, from sysfs. Looking does not touch: nothing is opened or bound.
public struct Inventory: Sendable {
  /// Where the system's folders are.
  public let root: SystemRoot

  private let readsStates: Bool

  /// The inventory of that system; by default of this one.
  /// - Parameter readsStates: whether debugfs is asked for devices' states. It answers only when no arc is under way, which may
  ///   be never.
  public init(root: SystemRoot = SystemRoot(), readsStates: Bool = true) {
    self.root = root
    self.readsStates = readsStates
  }

  /// Why a device was not found.
  public enum Problem: Error, Hashable, Sendable {
    /// There is no such device.
    case noDevice(DeviceName)
  }

  /// Whether this kernel has VFIO at all, loaded or built in.
  public var hasVFIO: Bool {
    Files.exists("\(root.sys)/class/vfio-dev") || Files.exists("\(root.sys)/class/vfio")
      || Files.exists("\(root.sys)/module/vfio") || Files.exists("\(root.sys)/bus/pci/drivers/vfio-pci")
  }

  /// Every device that VFIO can reach now, by name.
  public func devices() -> [DeviceRecord] {
    var folders: [String] = []
    for node in Files.names(in: "\(root.sys)/class/vfio-dev") {
      if let folder = Files.resolved("\(root.sys)/class/vfio-dev/\(node)/device") { folders.append(folder) }
    }
    // Kernels before 6.1 have no such class: there the drivers' names have to do.
    for bus in ["pci", "mdev"] {
      for driver in Files.names(in: "\(root.sys)/bus/\(bus)/drivers") where DriverFacts.isVFIO(driver) {
        for entry in Files.names(in: "\(root.sys)/bus/\(bus)/drivers/\(driver)") {
          guard DeviceName(entry) != nil, let folder = Files.resolved("\(root.sys)/bus/\(bus)/devices/\(entry)")
          else { continue }
          folders.append(folder)
        }
      }
    }
    var records: [DeviceRecord] = []
    var seen: Set<String> = []
    for folder in folders where seen.insert(folder).inserted {
      if let record = record(folder) { records.append(record) }
    }
    return records.sorted { "\($0.name)" < "\($1.name)" }
  }

  /// One device by its name, whether it is on VFIO or not.
  public func device(_ name: DeviceName) throws(Problem) -> DeviceRecord {
    let candidates =
      switch name {
      case .pci(let address): ["\(root.sys)/bus/pci/devices/\(address)"]
      case .mediated(let uuid): ["\(root.sys)/bus/mdev/devices/\(uuid)"]
      case .node(let path): ["\(root.sys)/class/vfio-dev/\(Files.lastComponent(path))/device"]
      }
    for candidate in candidates {
      if let folder = Files.resolved(candidate), let record = record(folder) { return record }
    }
    throw .noDevice(name)
  }

  /// The device in a folder of sysfs, links followed; nil where there is none that has a name.
  func record(_ folder: String) -> DeviceRecord? {
    // Names of another form are no nodes'.
    let vfio = Files.names(in: "\(folder)/vfio-dev").first { DeviceName("/dev/vfio/devices/\($0)") != nil }
    // What is neither PCI nor mdev has a name of its own bus, such as "nic": its node names it.
    guard
      let name = DeviceName(Files.lastComponent(folder)) ?? vfio.flatMap({ DeviceName("/dev/vfio/devices/\($0)") })
    else { return nil }
    let driver = Attribute.linkedName("\(folder)/driver")
    let node = vfio.map { "\(root.dev)/vfio/devices/\($0)" }
    let hasNode = node.map(Files.exists) ?? false
    let group = Files.link("\(folder)/iommu_group").flatMap { Int(Files.lastComponent($0)) }
    let groupNode = group.map { "\(root.dev)/vfio/\($0)" }
    let onVFIO = vfio != nil || (driver.map(DriverFacts.isVFIO) ?? false)
    let (migratable, state) = onVFIO ? debug(Files.lastComponent(folder)) : (nil, nil)
    return DeviceRecord(
      name: name, sysfs: folder, driver: driver, isOnVFIO: onVFIO,
      node: hasNode ? node : nil,
      nodeNumber: vfio.flatMap { Attribute.text("\(folder)/vfio-dev/\($0)/dev") },
      group: group,
      devicesInGroup: group.map { Files.names(in: "\(root.sys)/kernel/iommu_groups/\($0)/devices").count } ?? 0,
      groupNode: onVFIO ? groupNode.flatMap { Files.exists($0) ? $0 : nil } : nil,
      pciIdentity: pciIdentity(folder), debugState: state, isMigratable: migratable)
  }

  private func debug(_ kernelName: String) -> (Bool?, MigrationState?) {
    let folder = "\(root.debug)/vfio/\(kernelName)"
    guard Files.exists(folder) else { return (nil, nil) }
    guard Files.exists("\(folder)/migration") else { return (false, nil) }
    guard readsStates else { return (true, nil) }
    return (true, Attribute.text("\(folder)/migration/state").flatMap { MigrationState(name: $0) })
  }

  private func pciIdentity(_ folder: String) -> String? {
    guard let vendor = Attribute.text("\(folder)/vendor"), let device = Attribute.text("\(folder)/device") else {
      return nil
    }
    return [vendor, device].map { $0.hasPrefix("0x") ? String($0.dropFirst(2)) : $0 }.joined(separator: ":")
  }
}

extension Inventory.Problem: CustomStringConvertible {
  public var description: String {
    switch self {
    case .noDevice(let name): "there is no device \(name)"
    }
  }
}
