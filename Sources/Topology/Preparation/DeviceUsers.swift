// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO

/// Who uses a device by the driver that it is bound to: its interfaces and block devices, and processes that have its nodes
/// open. Nothing is opened or changed.
struct DeviceUsers {
  let root: SystemRoot
  /// The Internet addresses of interfaces, by name.
  let addresses: @Sendable () -> [String: [String]]

  /// A line for each user of what is below a device's folder.
  func all(of folder: String) -> [String] {
    interfaces(folder) + blockDevices(folder) + processes(verbs(folder))
  }

  /// Interfaces that are up and have an address, or are a part of another one.
  func interfaces(_ folder: String) -> [String] {
    let names = Files.names(in: "\(folder)/net").filter { name in
      !(Attribute.text("\(folder)/net/\(name)/phys_port_name") ?? "").hasPrefix("pf")
    }
    guard !names.isEmpty else { return [] }
    let addresses = addresses()
    return names.compactMap { name in
      let home = "\(folder)/net/\(name)"
      if let master = Attribute.linkedName("\(home)/master") {
        return "its interface \(Attribute.harmless(name)) is a part of \(master)"
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
    let own = Files.names(in: "\(root.sys)/class/block").filter {
      Files.resolved("\(root.sys)/class/block/\($0)")?.hasPrefix(home + "/") == true
    }
    guard !own.isEmpty else { return [] }
    let mounts = (Files.text("\(root.proc)/self/mountinfo") ?? "").split(separator: "\n").compactMap {
      line -> (number: Substring, place: Substring)? in
      let fields = line.split(separator: " ")
      return fields.count > 4 ? (fields[2], fields[4]) : nil
    }
    let swaps = (Files.text("\(root.proc)/swaps") ?? "").split(separator: "\n").dropFirst()
    return own.flatMap { name -> [String] in
      let shown = Attribute.harmless(name)
      let home = "\(root.sys)/class/block/\(name)"
      var lines: [String] = []
      if let number = Attribute.text("\(home)/dev"), let mount = mounts.first(where: { $0.number == number }) {
        lines.append("its \(shown) is mounted at \(Attribute.harmless(String(mount.place)))")
      }
      let above = Files.names(in: "\(home)/holders").map(Attribute.harmless)
      if !above.isEmpty { lines.append("its \(shown) is a part of \(above.joined(separator: ", "))") }
      if swaps.contains(where: { $0.hasPrefix("\(root.dev)/\(name) ") || $0.hasPrefix("/dev/\(name) ") }) {
        lines.append("its \(shown) is swap")
      }
      return lines
    } + processes(own.map { "/dev/\($0)" })
  }

  private func verbs(_ folder: String) -> [String] {
    Files.names(in: "\(folder)/infiniband_verbs").map { "/dev/infiniband/\($0)" }
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
