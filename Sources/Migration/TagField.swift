// SPDX-License-Identifier: Apache-2.0

/// One thing that a tag says of a device or its host. The raw value is its name in a tag's text.
public enum TagField: String, CaseIterable, Hashable, Sendable {
  /// PCI vendor, four hexadecimal digits.
  case vendor
  /// PCI device.
  case device
  /// Subsystem vendor and subsystem device, as in `15b3:0058`.
  case subsystem
  /// PCI revision, two hexadecimal digits.
  case revision
  /// PCI class code, six hexadecimal digits.
  case classCode = "class"
  /// Vendor and device of a virtual function's physical function: the same virtual one may be of several generations.
  case physicalFunction = "physical_function"
  /// Base address registers: number, bytes, and `p` for prefetchable or `io`.
  case bars
  /// PCI capabilities in their order: number and place, hexadecimal. Guests keep the places.
  case capabilities
  /// The same for PCI Express extended capabilities.
  case extendedCapabilities = "extended_capabilities"
  /// How many MSI-X vectors there are.
  case msixVectors = "msix_vectors"
  /// The type that a mediated device was made of.
  case mediatedType = "mdev_type"
  /// The kernel driver.
  case driver
  /// Its module's version; few modules have one.
  case driverVersion = "driver_version"
  /// Its module's srcversion, a sum of its sources.
  case driverSource = "driver_srcversion"
  /// The kernel's release.
  case kernel
  /// The firmware's version.
  case firmware
  /// What the driver supports of migration.
  case features = "migration_features"
  /// A virtual function's MAC address, as the host has set it.
  case mac
  /// Its VLAN and priority, as the host has set them; 0 for none.
  case vlan
  /// Whether the NIC drops what the function sends under another MAC address: `on` or `off`.
  case spoofCheck = "spoof_check"
  /// Whether the function may ask for packets that are not its own: `on` or `off`.
  case trust
  /// The mode of the NIC's switch: `legacy` or `switchdev`.
  case eswitchMode = "eswitch_mode"
  /// How many filters the host has for what the function sends and gets, and a sum of what they say: those of its representor,
  /// and those of other interfaces that lead to it.
  case eswitchRules = "eswitch_rules"

  /// How two values of a field are compared.
  enum Order: Hashable, Sendable {
    /// They are the same or not.
    case none
    /// Numbers with dots between them, as in `28.41.1000`.
    case version
    /// A decimal number.
    case number
    /// A set of words.
    case words
  }

  var order: Order {
    switch self {
    case .driverVersion, .kernel, .firmware: .version
    case .msixVectors: .number
    case .features: .words
    case .vendor, .device, .subsystem, .revision, .classCode, .physicalFunction, .bars, .capabilities,
      .extendedCapabilities, .mediatedType, .driver, .driverSource, .mac, .vlan, .spoofCheck, .trust, .eswitchMode,
      .eswitchRules:
      .none
    }
  }
}

/// What the destination's value of a field is beside the source's.
public enum TagRelation: String, CaseIterable, Hashable, Sendable {
  case equal
  /// Of a version.
  case newer
  /// Of a version.
  case older
  /// Of a number, or of words.
  case more
  /// Of a number, or of words.
  case fewer
  /// Not the same, and neither comes after the other.
  case different
  /// The destination does not say.
  case missing
  /// The source does not say.
  case extra
}

/// How much has to match.
public enum TagPolicy: String, CaseIterable, Hashable, Sendable {
  /// Everything.
  case strict
  /// The layout; features, capacities and firmware at least; and what peers know the device by.
  case loose
  /// Nothing.
  case none
}

/// Which relations of a field refuse a load under the loose policy; under the strict one all but equal do.
///
/// Data, so that what is learnt of a vendor's devices is a line here.
enum TagRules {
  private static let unlessEqual: [TagRelation] = [.different, .missing, .extra]

  private static func common(_ field: TagField) -> [TagRelation] {
    switch field {
    // The layout that a guest sees and has kept, and whose state it is. Every host can tell.
    case .vendor, .device, .revision, .classCode, .bars, .mediatedType, .driver: unlessEqual
    // The same, but only root may read it, or not every driver tells.
    case .physicalFunction, .capabilities, .extendedCapabilities: [.different]
    case .msixVectors: [.fewer, .different]
    case .features: [.fewer, .different]
    // A state goes forward to what is newer, and back to what is older nobody has promised.
    case .firmware: [.older, .different]
    case .driverVersion: [.older]
    // What peers know the guest by (DA2): with another one their connections are lost.
    case .mac, .vlan: [.different]
    // What a host lets a function do can be set anew, before the guest runs there or after.
    case .spoofCheck, .trust, .eswitchMode, .eswitchRules: []
    // Who sold the card, and what was compiled.
    case .subsystem, .driverSource, .kernel: []
    }
  }

  /// What is different for the devices of one vendor.
  private static let ofVendors: [(vendor: String, field: TagField, loose: [TagRelation])] = [
    // A ConnectX VF is made migratable at a port function, which there is in switchdev mode only.
    (vendor: "15b3", field: .eswitchMode, loose: [.different])
  ]

  /// Whether a person should hear of a relation that no policy in force refuses: peers know the guest by it, or what they say
  /// to each other depends on it (DA2), and it can be set anew on the destination. Of what the source does not say, as a helper
  /// can't that was handed no tag, nothing is known to be lost.
  static func warns(_ relation: TagRelation, of field: TagField?) -> Bool {
    switch field {
    case .mac, .vlan, .spoofCheck, .trust, .eswitchMode, .eswitchRules: relation != .equal && relation != .extra
    default: false
    }
  }

  /// Whether the loose policy refuses where one side says nothing of a field.
  static func refusesAbsence(of key: String, vendor: String?) -> Bool {
    [TagRelation.missing, .extra].contains { refuses($0, of: TagField(rawValue: key), vendor: vendor, under: .loose) }
  }

  /// Whether the loose policy can refuse by a field at all.
  static func canRefuse(_ key: String, vendor: String?) -> Bool {
    TagRelation.allCases.contains { refuses($0, of: TagField(rawValue: key), vendor: vendor, under: .loose) }
  }

  static func refuses(
    _ relation: TagRelation, of field: TagField?, vendor: String?, under policy: TagPolicy
  ) -> Bool {
    switch policy {
    case .none: return false
    case .strict: return relation != .equal
    case .loose:
      // What a newer program writes it may know to be decisive, and this one can't.
      guard let field else { return false }
      let special = ofVendors.first { $0.vendor == vendor && $0.field == field }
      return (special?.loose ?? common(field)).contains(relation)
    }
  }
}
