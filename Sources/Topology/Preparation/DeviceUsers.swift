// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO

/// Who uses a device by the driver that it is bound to: its interfaces, block devices and vDPA devices, and processes that have
/// its nodes open. Nothing is opened or changed.
struct DeviceUsers {
  let root: SystemRoot
  /// The Internet addresses of interfaces, by name.
  let addresses: @Sendable () -> [String: [String]]

  /// A line for each user of what is below a device's folder.
  func all(of folder: String) -> [String] {
    interfaces(folder) + unseenInterface(folder) + blockDevices(folder) + virtualDataPaths(folder)
      + processes(verbs(folder))
  }

  /// Who has an Ethernet function whose driver shows no interface of it here: another network namespace, as a container's, or
  /// nobody. A virtio device's interface is below that, and one that only vDPA has needs none.
  private func unseenInterface(_ folder: String) -> [String] {
    guard Attribute.text("\(folder)/class")?.hasPrefix("0x0200") == true,
      let driver = Attribute.linkedName("\(folder)/driver"), !Self.isWithoutInterfaces(driver),
      ownInterfaces(folder).isEmpty
    else { return [] }
    let below = Files.names(in: folder)
    guard !below.contains(where: { $0.hasPrefix("vdpa") }),
      !below.contains(where: { $0.hasPrefix("virtio") && !Files.names(in: "\(folder)/\($0)/net").isEmpty })
    else { return [] }
    return [
      "its driver \(driver) shows no interface of it here: it is in another network namespace, as a container's (ip netns, lsns -t "
        + "net), or there is none; if nobody has it: echo \(Files.lastComponent(folder)) >/sys/bus/pci/drivers/\(driver)/unbind"
    ]
  }

  /// Whether a driver makes no network interfaces of what it has: it hands devices to user space, guests or nobody.
  private static func isWithoutInterfaces(_ driver: String) -> Bool {
    DriverFacts.isVFIO(driver) || driver.contains("uio") || ["pci-stub", "pciback"].contains(driver)
  }

  /// A function's interfaces, without the representors of others.
  private func ownInterfaces(_ folder: String) -> [String] {
    Files.names(in: "\(folder)/net").filter { name in
      !(Attribute.text("\(folder)/net/\(name)/phys_port_name") ?? "").hasPrefix("pf")
    }
  }

  /// Interfaces that are up and have an address, are a part of another one, or have others on them.
  private func interfaces(_ folder: String) -> [String] {
    let names = ownInterfaces(folder)
    guard !names.isEmpty else { return [] }
    let addresses = addresses()
    return names.compactMap { name in
      let home = "\(folder)/net/\(name)"
      if let master = Attribute.linkedName("\(home)/master") {
        return "its interface \(Attribute.harmless(name)) is a part of \(master)"
      }
      // A VLAN, macvtap, macvlan or ipvlan.
      if let upper = Files.names(in: home).first(where: { $0.hasPrefix("upper_") }) {
        return "its interface \(Attribute.harmless(name)) is under \(Attribute.harmless(String(upper.dropFirst(6))))"
      }
      // IFF_UP
      guard let text = Attribute.text("\(home)/flags"), let flags = UInt32(text.dropFirst(2), radix: 16),
        flags & 1 != 0, let own = addresses[name], !own.isEmpty
      else { return nil }
      return "its interface \(Attribute.harmless(name)) is up with \(own.joined(separator: ", "))"
    }
  }

  private func blockDevices(_ folder: String) -> [String] {
    guard let home = Files.resolved(folder) else { return [] }
    let homes = [home + "/"] + multipathHomes(home)
    let own = Files.names(in: "\(root.sys)/class/block").filter { name in
      guard let place = Files.resolved("\(root.sys)/class/block/\(name)") else { return false }
      return homes.contains(where: place.hasPrefix)
    }
    guard !own.isEmpty else { return [] }
    let mounts = mounts
    let swaps = (Files.text("\(root.proc)/swaps") ?? "").split(separator: "\n").dropFirst()
    return own.flatMap { name -> [String] in
      let shown = Attribute.harmless(name)
      let home = "\(root.sys)/class/block/\(name)"
      var lines: [String] = []
      let number = Attribute.text("\(home)/dev")
      // btrfs has a number of its own there.
      if let mount = mounts.first(where: { mount in
        number.map { mount.number == $0 } == true || mount.source == "/dev/\(name)"
      }) {
        lines.append("its \(shown) is mounted at \(Attribute.harmless(String(mount.place)))")
      }
      let above = (Files.names(in: "\(home)/holders") + fileSystems(on: name)).map(Attribute.harmless)
      if !above.isEmpty { lines.append("its \(shown) is a part of \(above.joined(separator: ", "))") }
      if swaps.contains(where: { $0.hasPrefix("\(root.dev)/\(name) ") || $0.hasPrefix("/dev/\(name) ") }) {
        lines.append("its \(shown) is swap")
      }
      return lines
    } + processes(own.map { "/dev/\($0)" })
  }

  /// Where the block devices are that have an NVMe device as one of their paths: of the subsystem, and not below the device.
  private func multipathHomes(_ home: String) -> [String] {
    let controllers = Set(Files.names(in: "\(home)/nvme"))
    guard !controllers.isEmpty else { return [] }
    let subsystems = "\(root.sys)/class/nvme-subsystem"
    return Files.names(in: subsystems).filter { !controllers.isDisjoint(with: Files.names(in: "\(subsystems)/\($0)")) }
      .compactMap { Files.resolved("\(subsystems)/\($0)").map { $0 + "/" } }
  }

  private var mounts: [(number: Substring, place: Substring, source: Substring?)] {
    (Files.text("\(root.proc)/self/mountinfo") ?? "").split(separator: "\n").compactMap { line in
      let fields = line.split(separator: " ")
      guard fields.count > 6 else { return nil }
      // Optional fields come before the dash; the kind of file system and what it is made of after it.
      let dash = fields[6...].firstIndex(of: "-")
      return (fields[2], fields[4], dash.flatMap { $0 + 2 < fields.count ? fields[$0 + 2] : nil })
    }
  }

  /// btrfs on several devices is mounted from one of them.
  private func fileSystems(on name: String) -> [String] {
    let folder = "\(root.sys)/fs/btrfs"
    return Files.names(in: folder).filter { Files.exists("\(folder)/\($0)/devices/\(name)") }.map { "btrfs \($0)" }
  }

  /// vDPA devices of the function, on either of their drivers.
  private func virtualDataPaths(_ folder: String) -> [String] {
    guard let home = Files.resolved(folder) else { return [] }
    let own = Files.names(in: "\(root.sys)/bus/vdpa/devices").compactMap { name -> String? in
      guard let place = Files.resolved("\(root.sys)/bus/vdpa/devices/\(name)"), place.hasPrefix(home + "/")
      else { return nil }
      return place
    }
    let nodes = own.flatMap { Files.names(in: $0).filter { $0.hasPrefix("vhost-vdpa-") }.map { "/dev/\($0)" } }
    let virtio = own.flatMap { place in
      Files.names(in: place).filter { $0.hasPrefix("virtio") }.flatMap { interfaces("\(place)/\($0)") }
    }
    return virtio + processes(nodes)
  }

  private func verbs(_ folder: String) -> [String] {
    ["infiniband_verbs", "infiniband_mad"].flatMap { Files.names(in: "\(folder)/\($0)") }
      .map { "/dev/infiniband/\($0)" }
  }

  /// Processes that have one of these nodes open.
  private func processes(_ nodes: [String]) -> [String] {
    guard !nodes.isEmpty else { return [] }
    return Files.names(in: root.proc).compactMap { Int32($0) }.sorted().flatMap { pid -> [String] in
      let folder = "\(root.proc)/\(pid)/fd"
      let open = Set(Files.names(in: folder).compactMap { Files.link("\(folder)/\($0)") })
      return nodes.filter(open.contains).map { "\(root.process(pid)) has \($0) open" }
    }
  }
}

extension SystemRoot {
  /// A process as a person knows it: its number, and its name where it still has one.
  public func process(_ pid: Int32) -> String {
    "process \(pid)" + (Attribute.text("\(proc)/\(pid)/comm").map { " (\($0))" } ?? "")
  }
}
