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
      let verdict = part(["IOMMUFD"], module: "iommufd", of: host, seen: "there is no \(host.root.dev)/iommu")
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
      why: "a device has a node of its own, which is bound to an iommufd; without, only its group can be opened",
      restsOn: ["vfio", "iommufd"]
    ) { host in
      if let device = host.devices.first(where: { $0.record.nodeNumber != nil }) {
        return .ok("\(device.name) has the character device \(device.record.nodeNumber ?? "")")
      }
      guard let configuration = host.configuration else {
        return .unknown("no device is on VFIO that could show it", "bind one, or read the kernel's configuration")
      }
      if configuration["VFIO_DEVICE_CDEV"] != .off { return .ok("\(configuration.path) has CONFIG_VFIO_DEVICE_CDEV") }
      return .warning(
        "\(configuration.path) has no CONFIG_VFIO_DEVICE_CDEV",
        "boot a kernel that has it (6.6 or newer), or use --group")
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
