// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
public import Migration

/// Gathers a device's compatibility tag (DA7, DA2) from sysfs, and on the real system from netlink and libibverbs. Nothing is
/// bound, opened for use, or changed. What can't be found out is left out of the tag.
public struct TagScanner: Sendable {
  /// Where the system's folders are.
  public let root: SystemRoot
  private let network: (any NetworkIdentity)?
  private let asksVerbs: Bool
  private let readsRules: Bool

  /// The scanner of that system; by default of this one. Below another root there is only sysfs: the kernel here knows
  /// nothing of that system.
  /// - Parameters:
  ///   - filesOnly: whether to load no library and open no socket, for a process that may have given up its right to.
  ///   - readsRules: whether the switch's rules are read, which takes as long as there are many on the host.
  public init(root: SystemRoot = SystemRoot(), filesOnly: Bool = false, readsRules: Bool = true) {
    let asks = root.prefix.isEmpty && !filesOnly
    self.init(root: root, network: asks ? KernelNetwork() : nil, asksVerbs: asks, readsRules: readsRules)
  }

  init(root: SystemRoot, network: (any NetworkIdentity)?, asksVerbs: Bool = false, readsRules: Bool = true) {
    self.root = root
    self.network = network
    self.asksVerbs = asksVerbs
    self.readsRules = readsRules
  }

  /// The tag of a device.
  /// - Parameter features: what the device itself says that it supports; nil where nobody asked it, and then what its driver
  ///   usually does.
  public func tag(of record: DeviceRecord, features: MigrationFeatures? = nil) -> CompatibilityTag {
    tags(of: [(record, features)])[0]
  }

  /// The tags of several devices, in their order: the switch's rules are read once for all of them.
  public func tags(of devices: [(record: DeviceRecord, features: MigrationFeatures?)]) -> [CompatibilityTag] {
    var tags = devices.map { tagWithoutRules(of: $0.record, $0.features) }
    guard readsRules, let network else { return tags }
    let found = devices.enumerated().compactMap { index, device in
      representor(of: device.record).map { (index: index, representor: $0) }
    }
    if found.isEmpty { return tags }
    let places = SwitchRulePlaces(found.map(\.representor), root: root)
    guard let rules = try? network.rules(at: places) else { return tags }
    for (one, rules) in zip(found, rules) { tags[one.index][.eswitchRules] = "\(rules)" }
    return tags
  }

  /// nil for what is no virtual function.
  private func representor(of record: DeviceRecord) -> Representor? {
    guard record.pciIdentity != nil else { return nil }
    return try? Representor.find(of: Files.lastComponent(record.sysfs), root: root)
  }

  private func tagWithoutRules(of record: DeviceRecord, _ features: MigrationFeatures?) -> CompatibilityTag {
    var tag = CompatibilityTag()
    putDriver(record, features ?? record.usualFeatures, into: &tag)
    tag[.mediatedType] = Attribute.linkedName("\(record.sysfs)/mdev_type")
    guard record.pciIdentity != nil else { return tag }
    putLayout(record.sysfs, into: &tag)
    let address = Files.lastComponent(record.sysfs)
    let place = VirtualFunctionPlace(address, root: root)
    let owner = place?.physicalFunction ?? address
    if place != nil {
      let folder = "\(root.sys)/bus/pci/devices/\(owner)"
      tag[.physicalFunction] = Self.pair(digits("\(folder)/vendor"), digits("\(folder)/device"))
    }
    tag[.firmware] = firmware(address) ?? (place == nil ? nil : firmware(owner)) ?? firmwareByDevlink(owner)
    if let place { putIdentity(of: place, address, into: &tag) }
    return tag
  }

  // MARK: The device and its driver

  private func putDriver(_ record: DeviceRecord, _ features: MigrationFeatures?, into tag: inout CompatibilityTag) {
    tag[.driver] = record.driver
    if let module = Attribute.linkedName("\(record.sysfs)/driver/module") {
      tag[.driverVersion] = Attribute.text("\(root.sys)/module/\(module)/version")
      tag[.driverSource] = Attribute.text("\(root.sys)/module/\(module)/srcversion")
    }
    tag[.kernel] = Attribute.text("\(root.proc)/sys/kernel/osrelease")
    tag[.features] = features.map { $0.names.joined(separator: " ") }
  }

  private func putLayout(_ folder: String, into tag: inout CompatibilityTag) {
    tag[.vendor] = digits("\(folder)/vendor")
    tag[.device] = digits("\(folder)/device")
    tag[.subsystem] = Self.pair(digits("\(folder)/subsystem_vendor"), digits("\(folder)/subsystem_device"))
    tag[.revision] = digits("\(folder)/revision")
    tag[.classCode] = digits("\(folder)/class")
    if let resources = Attribute.lines("\(folder)/resource") {
      let bars = PCIScanner.bars(resources).map {
        "\($0.index):\($0.size)\($0.isIO ? "io" : $0.isPrefetchable ? "p" : "")"
      }
      tag[.bars] = bars.isEmpty ? "none" : bars.joined(separator: " ")
    }
    guard let bytes = try? Files.readBytes("\(folder)/config", maximum: 4096), let found = PCICapabilities(bytes) else {
      return
    }
    tag[.capabilities] = PCICapabilities.text(found.standard, digits: 2)
    tag[.extendedCapabilities] = found.extended.map { PCICapabilities.text($0, digits: 4) }
    tag[.msixVectors] = "\(found.msixVectors ?? 0)"
  }

  /// Hexadecimal digits as sysfs has them, without the 0x.
  private func digits(_ path: String) -> String? {
    Attribute.text(path).map { $0.hasPrefix("0x") ? String($0.dropFirst(2)) : $0 }
  }

  private static func pair(_ vendor: String?, _ device: String?) -> String? {
    vendor.flatMap { vendor in device.map { "\(vendor):\($0)" } }
  }

  // MARK: Firmware

  /// What the RDMA device on a function says.
  private func firmware(_ address: String) -> String? {
    let folder = "\(root.sys)/bus/pci/devices/\(address)/infiniband"
    for name in Files.names(in: folder) {
      if let version = Attribute.text("\(folder)/\(name)/fw_ver"), !version.isEmpty { return version }
      // It opens the device's uverbs node, which changes nothing.
      if asksVerbs, let version = VerbsLibrary()?.facts(of: name)?.firmware {
        return Attribute.harmless(version)
      }
    }
    return nil
  }

  private func firmwareByDevlink(_ address: String) -> String? {
    try? network?.firmware(bus: "pci", device: address)
  }

  // MARK: What peers know a virtual function by

  private func putIdentity(of place: VirtualFunctionPlace, _ address: String, into tag: inout CompatibilityTag) {
    let number = UInt16(place.number)
    let owner = place.physicalFunction
    let hasRepresentor = (try? Representor.find(of: address, root: root)) != nil
    let mode = (try? network?.switchMode(bus: "pci", device: owner)) ?? (hasRepresentor ? .switchdev : nil)
    tag[.eswitchMode] = mode?.rawValue
    var mac = try? network?.address(ofFunction: number, bus: "pci", device: owner)
    // In switchdev mode these are a matter of filters, and what the physical function's interface says means nothing.
    if mode != .switchdev, let interface = interface(of: owner),
      let link = try? network?.link(ofFunction: number, interface: interface)
    {
      mac = mac ?? link.mac
      tag[.vlan] =
        "\(link.vlan)" + (link.priority == 0 ? "" : " priority \(link.priority)") + (link.isProviders ? " 802.1ad" : "")
      tag[.spoofCheck] = link.spoofCheck.map { $0 ? "on" : "off" }
      tag[.trust] = link.isTrusted.map { $0 ? "on" : "off" }
    }
    // All zeroes is what the host has not set: then the function's driver chooses one.
    if let mac, mac.contains(where: { $0 != 0 }) { tag[.mac] = MACAddress(bytes: mac)?.description }
  }

  private func interface(of address: String) -> Int32? {
    NetworkInterface.ofPhysicalFunction("\(root.sys)/bus/pci/devices/\(address)")?.index
  }
}
