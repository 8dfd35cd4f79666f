// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
public import Migration

/// What udev's rules put into its database with a VFIO device: see docs/udev.md for their names. Gathered from files only, and
/// without what could wait for the device.
public struct UdevProperties: Hashable, Sendable {
  /// A property.
  public struct Entry: Hashable, Sendable {
    /// Its name.
    public let name: String
    /// Its value: printable ASCII without quotation marks and backslashes.
    public let value: String
  }

  /// What is known, in the order in which it is printed.
  public private(set) var entries: [Entry] = []

  /// As udev reads them from a program: a line each.
  public var text: String { entries.reduce(into: "") { $0 += "\($1.name)=\($1.value)\n" } }

  /// What is said of one device.
  /// - Parameters:
  ///   - tag: what a destination has to match.
  ///   - digest: makes a short name of a text.
  public init(of record: DeviceRecord, tag: CompatibilityTag, digest: (String) -> String) {
    let prospects = DeviceProspects(of: record)
    put("DEVICE", "\(record.name)")
    put("DRIVER", record.driver)
    if let states = prospects.states {
      put("STATES", states.isEmpty ? "none" : states.map(\.name).joined(separator: " "))
    }
    put("DIRTY", prospects.tracking?.rawValue)
    put("TAG", digest(tag.decisiveText))
  }

  /// What is said of an IOMMU group's node where devices have none of their own; else nothing, because those have all of it.
  ///
  /// The node comes with the first device that a VFIO driver has, and nothing tells of the others: so they are counted in from
  /// the beginning, whoever has them.
  /// - Parameter records: the group's devices, without bridges that no VFIO driver has.
  public init(
    ofGroup records: [DeviceRecord], tag: (DeviceRecord) -> CompatibilityTag, digest: (String) -> String
  ) {
    guard let first = records.first(where: { $0.isOnVFIO }), !records.contains(where: { $0.nodeNumber != nil })
    else { return }
    if records.count == 1 { entries = Self(of: first, tag: tag(first), digest: digest).entries }
    put("DEVICES", records.map { "\($0.name)" }.joined(separator: " "))
    // For the rules alone: udev keeps nothing that begins with a dot.
    let links = records.map { "vfio/by-path/" + Self.fileName(Files.lastComponent($0.sysfs)) }
    entries.append(Entry(name: ".\(DeviceSighting.prefix)LINKS", value: links.joined(separator: " ")))
  }

  private mutating func put(_ name: String, _ value: String?) {
    guard let value, !value.isEmpty else { return }
    entries.append(Entry(name: DeviceSighting.prefix + name, value: Self.clean(value)))
  }

  /// What a link may be called: of several, udev separates them at spaces, and takes the rest as it is.
  private static func fileName(_ text: String) -> String {
    String(
      decoding: text.utf8.map { byte in
        switch byte {
        case 0x30...0x3a, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e: byte
        default: 0x5f
        }
      }, as: UTF8.self)
  }

  /// What udev would take for something else, and what is no ASCII, is replaced.
  private static func clean(_ text: String) -> String {
    String(
      decoding: text.utf8.map { (0x20...0x7e).contains($0) && $0 != 0x22 && $0 != 0x27 && $0 != 0x5c ? $0 : 0x5f },
      as: UTF8.self)
  }
}

extension Inventory {
  /// Whether an event of udev's is about a device's own node, `…/vfio-dev/vfioN`.
  public static func isOfDevice(_ path: String) -> Bool { path.split(separator: "/").dropLast().last == "vfio-dev" }

  /// The devices that an event of udev's is about: one for a device's own node, all of a group for that of a group, but bridges
  /// that no VFIO driver has; none where they have gone meanwhile.
  /// - Parameter path: of the event, below sysfs.
  public func devices(ofEvent path: String) -> [DeviceRecord] {
    let parts = path.split(separator: "/")
    guard let own = parts.last, !parts.contains("..") else { return [] }
    if Self.isOfDevice(path) {
      let folder = Files.resolved("\(root.sys)/" + parts.dropLast(2).joined(separator: "/"))
      return folder.flatMap(record).map { [$0] } ?? []
    }
    let group = "\(root.sys)/kernel/iommu_groups/\(own)/devices"
    return Files.names(in: group).compactMap { name in
      guard let folder = Files.resolved("\(group)/\(name)"), let record = record(folder) else { return nil }
      return record.isOnVFIO || !isBridge(folder) ? record : nil
    }
  }

  /// Whether what is in this folder leads to other buses, or to the host: class codes 06 with 00, 04 and 09.
  private func isBridge(_ folder: String) -> Bool {
    guard let text = Attribute.text("\(folder)/class"), text.hasPrefix("0x"),
      let code = UInt32(text.dropFirst(2), radix: 16)
    else { return false }
    return [0x0600, 0x0604, 0x0609].contains(code >> 8)
  }
}
