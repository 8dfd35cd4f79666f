// SPDX-License-Identifier: Apache-2.0
internal import Migration

extension Condition {
  /// What each device has to be, and how it has to be plugged in.
  static let device: [Condition] = [
    Condition(
      device: "driver", why: "only a variant driver, made for the device, has migration states; vfio-pci has none",
      restsOn: ["vfio", "function"]
    ) { device, host in
      let record = device.record
      guard let function = device.function else {
        return record.isOnVFIO
          ? .ok("\(record.driver ?? "its driver") gives it to VFIO")
          : .missing(
            "\(record.driver ?? "no driver") has it, and VFIO has not", "use a device whose driver is one of VFIO's")
      }
      let (wanted, bound) = (device.variantDrivers, record.driver)
      let has = bound.map { "\($0) has it" } ?? "no driver has it"
      guard let bound, record.isOnVFIO, KernelModules.canonical(bound) != "vfio_pci" else {
        if let first = wanted.first {
          return .missing("\(has); modules.alias names \(first)", binding(device, to: first))
        }
        let nobody =
          host.modules.hasAliases
          ? "no module of this kernel is for \(function.identity) on VFIO"
          : "there is no list of aliases in \(host.modules.folder)"
        return .missing(
          "\(has), and \(nobody)",
          device.isConnectX
            ? "boot a kernel with CONFIG_MLX5_VFIO_PCI, and bind mlx5_vfio_pci"
            : "find out whether a variant driver exists for it; without one it can't be moved")
      }
      guard wanted.isEmpty || wanted.contains(KernelModules.canonical(bound)) else {
        return .warning(
          "\(has), but modules.alias names \(wanted.joined(separator: ", "))", binding(device, to: wanted[0]))
      }
      return .ok(wanted.isEmpty ? has : "\(has), which modules.alias names for it")
    },
    Condition(
      device: "iommu-group",
      why: "VFIO opens a device only where it has all of its IOMMU group, since these can't be kept apart",
      restsOn: ["iommu"]
    ) { device, host in
      guard let function = device.function else { return nil }
      guard let group = function.group else {
        return .missing(
          "\(device.record.sysfs) has no iommu_group: no IOMMU is above it",
          "plug it in elsewhere, or turn on the IOMMU of its host bridge in the firmware's setup")
      }
      // Ports and bridges may stay with the kernel, and what no driver has harms nobody.
      let others = device.companions.filter { other in
        other.classCode >> 16 != 0x06 && other.driver.map { !DriverFacts.isVFIO($0) } ?? false
      }
      if let other = others.first {
        return .missing(
          "group \(group) has \(other.address) too, and the driver \(other.driver ?? "") has that",
          "echo \(other.address) >/sys/bus/pci/devices/\(other.address)/driver/unbind")
      }
      return .ok(
        device.companions.isEmpty
          ? "it is alone in group \(group)"
          : "nobody but VFIO has any of the \(device.companions.count) others of group \(group)")
    },
    Condition(
      device: "node", why: "a VMM opens the device by its node, or where it has none by that of its group",
      restsOn: ["driver", "container"]
    ) { device, host in
      guard device.record.isOnVFIO else { return nil }
      if host.hasDeviceWay != false, let number = device.record.nodeNumber {
        if let node = device.node { return .ok("\(node.path) is there") }
        return .missing(
          "the kernel has the character device \(number), and there is no node of it in \(host.root.dev)/vfio/devices",
          making("\(device.record.sysfs)/vfio-dev/*/dev"))
      }
      guard let number = device.record.group else { return nil }
      let group = "\(host.root.dev)/vfio/\(number)"
      guard device.groupNode != nil else {
        return .missing(
          "it can be opened by its group only, and there is no \(group)",
          making("\(host.root.sys)/class/vfio/\(number)/dev"))
      }
      if host.hasDeviceWay != true { return .ok("\(group), that of its group, is there") }
      return .warning(
        "with this kernel devices have nodes of their own; it has \(group) only, that of its group",
        "open it with --group: dirty bits of IOMMUs are not read then")
    },
    Condition(
      device: "node-access", why: "whoever migrates opens the device's node, or that of its group",
      restsOn: ["driver", "node"]
    ) { device, host in
      let isByNode = host.hasDeviceWay != false && device.record.nodeNumber != nil
      return (isByNode ? device.node : device.groupNode).map { access(to: $0, of: host) }
    },
    Condition(
      device: "dirty-tracking",
      why: "what is not tracked counts as written: all of guest memory is sent while the guest stands still",
      restsOn: ["driver", "iommu", "iommu-group", "iommufd", "vfio-cdev"]
    ) { device, host in
      let driver = device.record.driver ?? ""
      if device.hasLog == true { return .ok("the driver \(driver) logs what its devices write") }
      let whose = device.hasLog == nil ? "whether \(driver) has a log is not known" : "\(driver) has no log of its own"
      if case .mediated = device.record.name { return tracking(ofMediated: whose, host) }
      guard device.function != nil else { return nil }
      if host.hasDeviceWay == false {
        return .warning("\(whose), and by groups and a container no dirty bits of IOMMUs are read", "get an iommufd")
      }
      if let version = host.version, version < KernelVersion(6, 7) {
        return .warning(
          "\(whose), and Linux \(host.release ?? "") reads no dirty bits of IOMMUs", "boot Linux 6.7 or newer")
      }
      guard let unit = device.unit else {
        return .unknown(
          "\(whose), and sysfs does not say which IOMMU is above it", "look at HWPT_ALLOC's answer in the VMM's log")
      }
      switch unit.tracking {
      case .able: return .ok("\(whose); \(unit.evidence)")
      case .unknown: return .unknown("\(whose); \(unit.evidence)", "read the kernel's configuration and command line")
      case .turnedOff: return .warning("\(whose); \(unit.evidence)", "boot with intel_iommu=on,sm_on")
      case .unable:
        return .warning(
          "\(whose); \(unit.evidence)", "use a device that logs by itself, or a host whose IOMMU has dirty bits")
      }
    },
    Condition(
      device: "capabilities",
      why: "without its capabilities nothing is known of how its transfers are ordered and routed"
    ) { device, _ in
      assumption(.readable, of: device)
    },
    Condition(
      device: "ordering", why: "ID-based ordering lets writes arrive after the device has said that it stopped",
      restsOn: ["capabilities"]
    ) { device, _ in
      assumption(.noIDOrdering, of: device)
    },
    Condition(
      device: "control-path", why: "the answer to a stop pushes writes ahead of it only where both take the same link"
    ) { device, _ in
      assumption(.sharedPath, of: device)
    },
    Condition(
      device: "migration",
      why: "a bound driver says whether this device, with its firmware and settings, can be migrated",
      restsOn: ["driver", "debugfs", "firmware", "link-layer", "eswitch", "migratable"]
    ) { device, host in
      let entry = "\(host.root.debug)/vfio/\(device.record.sysfs.split(separator: "/").last ?? "")/migration"
      switch device.record.isMigratable {
      case true: return .ok("\(entry) is there")
      case nil: return .unknown("nothing in \(host.root.debug)/vfio is about it", "bind it to its variant driver")
      default:
        return .missing(
          "there is no \(entry)",
          device.isConnectX
            ? setting("VF_MIGRATION_MODE=2", of: device)
            : "look at what its driver said when it was bound: dmesg")
      }
    },
  ]

  /// A mediated device writes through its driver, by no page table of an IOMMU: its container is told which pages the driver
  /// pins or writes, an iommufd is told nothing.
  private static func tracking(ofMediated whose: String, _ host: HostFacts) -> Verdict {
    let hasContainer = host.container != nil && !host.containerIsIOMMUFD
    if hasContainer, host.hasDeviceWay == false {
      return .ok("\(whose); its container has the pages that it pins or writes")
    }
    return .warning(
      "\(whose), and a mediated device is on no page table: an iommufd has no dirty bits of it",
      (hasContainer ? "" : "boot a kernel with CONFIG_VFIO_GROUP and CONFIG_VFIO_CONTAINER; ")
        + "open it by its group and a container (--group), which has the pages that its driver pins or writes")
  }

  private static func assumption(_ kind: QuiescingAssumption.Kind, of device: DeviceFacts) -> Verdict? {
    guard let found = device.assumptions.first(where: { $0.kind == kind }) else { return nil }
    switch found.state {
    case .holds: return .ok(found.evidence)
    case .unknown: return .unknown(found.evidence, found.remedy ?? "run this as root")
    case .violated: return .warning(found.evidence, found.remedy ?? "")
    }
  }

  /// For the device alone first: what `prepare` does is done to all virtual functions of the physical one, which others may use.
  /// It knows all that there is to be set before one is bound.
  private static func binding(_ device: DeviceFacts, to driver: String) -> String {
    let folder = "/sys/bus/pci/devices/\(device.address)"
    let unbind = device.record.driver == nil ? "" : "echo \(device.address) >\(folder)/driver/unbind; "
    return "\(device.preparing() == nil ? "" : "this one alone: ")modprobe \(driver); "
      + "echo \(driver) >\(folder)/driver_override; \(unbind)echo \(device.address) >/sys/bus/pci/drivers_probe"
      + device.preparingAll()
  }
}
