// SPDX-License-Identifier: Apache-2.0

extension Condition {
  /// What the kernel has to have, and what has to be on.
  static let kernel: [Condition] = [
    Condition(
      host: "kernel-configuration",
      why: "says what this kernel can't do at all, and what only has to be loaded"
    ) { host in
      if let configuration = host.configuration { return .ok("read from \(configuration.path)") }
      return .unknown(
        "neither \(host.root.proc)/config.gz nor \(host.root.boot)/config-\(host.release ?? "RELEASE") can be read",
        "modprobe configs, or install the file that belongs to this kernel")
    },
    Condition(host: "vfio", why: "VFIO gives devices to user space, and has the migration states") { host in
      if host.hasVFIO { return .ok("\(host.root.sys) shows VFIO") }
      return part(["VFIO", "VFIO_PCI"], module: "vfio_pci", of: host, seen: "\(host.root.sys) shows no VFIO")
    },
    Condition(
      host: "iommu",
      why: "devices reach a guest's memory, and nothing else, through an IOMMU; VFIO wants one for PCI devices"
    ) { host in
      guard host.devices.isEmpty || host.devices.contains(where: { $0.function != nil }) else { return nil }
      if host.hasIOMMU {
        let names = host.units.map(\.name).joined(separator: ", ")
        return .ok("\(host.root.sys)/class/iommu has \(names.isEmpty ? "nothing, but devices have groups" : names)")
      }
      var evidence = "\(host.root.sys)/class/iommu is empty"
      if let configuration = host.configuration {
        let drivers = ["INTEL_IOMMU", "AMD_IOMMU", "ARM_SMMU_V3"].filter { configuration[$0] != .off }
        if drivers.isEmpty {
          return .missing(
            "\(evidence), and \(configuration.path) has no IOMMU driver",
            "boot a kernel with CONFIG_INTEL_IOMMU, CONFIG_AMD_IOMMU or CONFIG_ARM_SMMU_V3")
        }
        evidence += ", though the kernel has CONFIG_\(drivers.joined(separator: ", CONFIG_"))"
      }
      return .missing(
        evidence, "turn VT-d, AMD-Vi or the SMMU on in the firmware's setup; on Intel also boot with intel_iommu=on")
    },
    Condition(
      host: "iommufd",
      why: "binds devices by their character devices, and reads the dirty bits of IOMMUs; without it groups and a "
        + "container have to do, which know no dirty bits"
    ) { host in
      if let node = host.iommufd { return .ok("\(node.path) is there") }
      let seen = "there is no \(host.root.dev)/iommu"
      let isConfigured = host.configuration?["IOMMUFD"] != .off
      switch host.modules.presence(of: "iommufd") {
      case .installed where isConfigured && !host.hasVFIO:
        return .ok("\(seen) yet: its module is installed, and VFIO's load it")
      case .loaded where isConfigured, .builtIn where isConfigured:
        return .warning("\(seen), though iommufd is in the kernel", making("\(host.root.sys)/class/misc/iommu/dev"))
      default: break
      }
      let verdict = part(["IOMMUFD"], module: "iommufd", of: host, seen: seen)
      return Verdict(
        state: verdict.state == .missing ? .warning : verdict.state, evidence: verdict.evidence, remedy: verdict.remedy)
    },
    Condition(
      host: "iommufd-access", why: "whoever migrates opens /dev/iommu", restsOn: ["iommufd"]
    ) { host in
      host.iommufd.map { access(to: $0, of: host) }
    },
    Condition(
      host: "vfio-cdev",
      why:
        "a device has a node of its own, which is bound to an iommufd; without, only its group can be opened, and no "
        + "dirty bits are read",
      restsOn: ["vfio", "iommufd"]
    ) { host in
      if let device = host.devices.first(where: { $0.record.nodeNumber != nil }) {
        return .ok("\(device.name) has the character device \(device.record.nodeNumber ?? "")")
      }
      let remedy = "boot a kernel that has it (6.6 or newer), or use --group"
      if let configuration = host.configuration {
        if configuration["VFIO_DEVICE_CDEV"] != .off { return .ok("\(configuration.path) has CONFIG_VFIO_DEVICE_CDEV") }
        return .warning("\(configuration.path) has no CONFIG_VFIO_DEVICE_CDEV", remedy)
      }
      if let device = host.devices.first(where: \.record.isOnVFIO) {
        return .warning("\(device.name) is on VFIO, and has no character device", remedy)
      }
      return .unknown("no device is on VFIO that could show it", "bind one, or read the kernel's configuration")
    },
    Condition(
      host: "container",
      why:
        "where there is no iommufd, or no node of a device's own, a group of devices is opened and put into a container",
      restsOn: ["vfio"]
    ) { host in
      host.hasDeviceWay == false ? container(host) : nil
    },
    Condition(
      host: "container-access", why: "whoever puts a group into a container opens /dev/vfio/vfio",
      restsOn: ["container"]
    ) { host in
      host.hasDeviceWay == false ? host.container.map { access(to: $0, of: host) } : nil
    },
    Condition(
      host: "debugfs", why: "shows whether a device can be migrated, and in which state it is, without touching it",
      restsOn: ["vfio"]
    ) { host in
      switch host.hasDebugfs {
      case true: return .ok("\(host.root.debug)/vfio is there")
      case nil:
        return .unknown(
          "\(host.root.debug) can't be read",
          "run this as root, with debugfs mounted: mount -t debugfs debugfs /sys/kernel/debug")
      default:
        return .warning("there is no \(host.root.debug)/vfio", "boot a kernel with CONFIG_VFIO_DEBUGFS (6.8 or newer)")
      }
    },
  ]

  /// A part of the kernel that was not seen at work: whether it could be.
  private static func part(_ options: [String], module: String, of host: HostFacts, seen: String) -> Verdict {
    if let configuration = host.configuration {
      let absent = options.filter { configuration[$0] == .off }
      if !absent.isEmpty {
        let names = absent.map { "CONFIG_\($0)" }.joined(separator: " and ")
        return .missing("\(seen), and \(configuration.path) has no \(names)", "boot a kernel with \(names)")
      }
    }
    switch host.modules.presence(of: module) {
    case .absent:
      return .missing(
        "\(seen), and \(host.modules.folder) has no module \(module)", "install this kernel's package of modules")
    case .unknown where host.configuration == nil:
      return .unknown("\(seen), and nothing tells whether it could be loaded", "modprobe \(module)")
    case let presence:
      return .missing("\(seen); its module \(module) is \(presence.rawValue)", "modprobe \(module)")
    }
  }

  /// Whether groups can be put into a container, which needs VFIO's parts for both, and the IOMMU's of type 1 where the
  /// container is not an iommufd's.
  private static func container(_ host: HostFacts) -> Verdict {
    let path = "\(host.root.dev)/vfio/vfio"
    let otherwise = "or one with CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV"
    if let configuration = host.configuration {
      // Options of their own since 6.6 and 6.2: before, VFIO always had both.
      func isOlder(_ minor: Int) -> Bool { host.version.map { $0 < KernelVersion(6, minor) } ?? false }
      var absent: [String] = []
      if configuration["VFIO_GROUP"] == .off, !isOlder(6) { absent.append("CONFIG_VFIO_GROUP") }
      if !host.containerIsIOMMUFD {
        if configuration["VFIO_CONTAINER"] == .off, !isOlder(2) { absent.append("CONFIG_VFIO_CONTAINER") }
        if configuration["VFIO_IOMMU_TYPE1"] == .off { absent.append("CONFIG_VFIO_IOMMU_TYPE1") }
      }
      if !absent.isEmpty {
        let names = absent.joined(separator: " and ")
        if host.iommufd == nil, ["IOMMUFD", "VFIO_DEVICE_CDEV"].allSatisfy({ configuration[$0] != .off }) {
          return .missing(
            "\(configuration.path) has no \(names), and there is no \(host.root.dev)/iommu",
            making("\(host.root.sys)/class/misc/iommu/dev"))
        }
        return .missing("\(configuration.path) has no \(names)", "boot a kernel with \(names), \(otherwise)")
      }
    }
    let type1 = host.modules.presence(of: "vfio_iommu_type1")
    if !host.containerIsIOMMUFD, type1 == .installed || type1 == .absent {
      return part(
        ["VFIO_IOMMU_TYPE1"], module: "vfio_iommu_type1", of: host, seen: "no container can have an IOMMU of type 1")
    }
    guard host.container != nil else {
      let remedy = "modprobe vfio; \(making("\(host.root.sys)/class/misc/vfio/dev"))"
      return host.configuration == nil && type1 == .unknown
        ? .unknown("there is no \(path), and nothing tells whether there could be", remedy)
        : .missing("there is no \(path)", remedy)
    }
    return .ok(
      host.containerIsIOMMUFD
        ? "\(path) is there, as iommufd's own: it keeps no dirty pages"
        : "\(path) is there; of what devices behind an IOMMU write it knows nothing")
  }

  /// How one comes by a node that the kernel has and `/dev` has not. It is the kernel that makes nodes, and udev does not.
  /// - Parameter number: the file that has the node's.
  static func making(_ number: String) -> String {
    "pass the node into the container, if this is one; else mount devtmpfs on /dev, or mknod it with the number in \(number)"
  }

  /// Whether the process may open a node.
  static func access(to node: NodeFacts, of host: HostFacts) -> Verdict {
    let process = host.process
    let who = "\(process.name) is user \(process.user.map(String.init) ?? "unknown")"
    switch node.isOpen(to: process) {
    case true: return .ok("\(node.description); \(who)")
    case nil: return .unknown("\(node.description); procfs does not say whose \(process.name) is", "run this as root")
    default:
      return .missing(
        "\(node.description); \(who), of the groups \(process.groups.map(String.init).joined(separator: ", "))",
        "give the node to a group of that user's by a udev rule; for now: chgrp GROUP \(node.path) && chmod g+rw \(node.path)"
      )
    }
  }
}
