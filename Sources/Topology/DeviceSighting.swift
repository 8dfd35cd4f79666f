// SPDX-License-Identifier: Apache-2.0

/// What somebody who watches VFIO sees of a device: one row for each of udev's devices that counts.
public struct DeviceSighting: Hashable, Sendable {
  /// What kind of thing it is.
  public enum Kind: String, CaseIterable, Hashable, Sendable {
    /// A device that VFIO offers to user space.
    case device
    /// An IOMMU group's node, as programs used VFIO before there were nodes for devices.
    case group
    /// A mediated device, whether VFIO offers it or not.
    case mediated = "mdev"
    /// A PCI function that can have virtual functions.
    case physical = "pf"
    /// Another PCI function, as long as a VFIO driver has it.
    case function
  }

  /// What kind of thing it is.
  public var kind: Kind
  /// The name that users see; a group's is its number.
  public var name: String
  /// Its folder in sysfs.
  public var path: String
  /// Its node; nil where it has none.
  public var node: String?
  /// The kernel driver; nil for none.
  public var driver: String?
  /// What the rules have put into udev's database, in the order of ``properties``; what they said nothing of is left out.
  public var told: [String: String]
  /// Tells it from an earlier one in the same folder.
  var initialized: String?

  /// The properties of udev's rules that are shown, without their prefix, in the order in which they are shown.
  public static let properties = ["STATES", "DIRTY", "TAG"]
  /// What the names of the rules' properties begin with.
  public static let prefix = "VFIO_FERRY_"

  /// - Parameter isPhysical: whether a PCI function can have virtual functions.
  /// - Returns: nil for what is not watched.
  init?(_ device: UdevDevice, isPhysical: Bool) {
    let own = Self.lastComponents(device.path)
    let properties = device.properties
    switch device.subsystem {
    case "vfio-dev":
      kind = .device
      // Its folder is PARENT/vfio-dev/vfioN.
      name = properties[Self.prefix + "DEVICE"] ?? own.parent
      driver = properties[Self.prefix + "DRIVER"]
    case "vfio":
      kind = .group
      name = own.name
      driver = nil
    case "mdev":
      kind = .mediated
      name = own.name
      driver = properties["DRIVER"]
    case "pci":
      driver = properties["DRIVER"]
      guard isPhysical || (driver.map(DriverFacts.isVFIO) ?? false) else { return nil }
      kind = isPhysical ? .physical : .function
      name = own.name
    default: return nil
    }
    name = Attribute.harmless(name)
    driver = driver.map(Attribute.harmless)
    path = device.path
    node = properties["DEVNAME"].map(Attribute.harmless)
    told = [:]
    for property in Self.properties {
      told[property] = properties[Self.prefix + property].map(Attribute.harmless)
    }
    initialized = device.initialized
  }

  private static func lastComponents(_ path: String) -> (parent: String, name: String) {
    let parts = path.split(separator: "/")
    return (parts.dropLast(2).last.map(String.init) ?? "", parts.last.map(String.init) ?? "")
  }
}
