// SPDX-License-Identifier: Apache-2.0
public import Foundation
public import Topology

/// A described host as a temporary folder that looks like its sysfs; the folder goes with the object.
public final class FixtureHost {
  /// The described hosts.
  public enum Name: String, CaseIterable, Sendable {
    /// Two sockets, each with switches that join GPUs and NICs.
    case hgx
    /// Two sockets without switches.
    case server
    /// A few root ports, a conventional bus, no IOMMU.
    case laptop
    /// A NIC that has a physical function below each socket.
    case multihost
  }

  /// What it was made from.
  public let description: HostDescription
  /// The temporary folder.
  public let folder: URL
  private var made: Set<String> = []
  /// What to hand to the code under test.
  public var root: SystemRoot { SystemRoot(prefix: folder.path) }

  /// One of the described hosts.
  /// - Parameter configBytes: how much of each configuration space can be read; 64 is what a caller without root gets.
  public convenience init(_ name: Name, configBytes: Int? = nil) throws {
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("Descriptions/\(name.rawValue).topology")
    try self.init(text: String(contentsOf: file, encoding: .utf8), configBytes: configBytes)
  }

  /// A host by its description; see ``HostDescription``.
  public init(text: String, configBytes: Int? = nil) throws {
    description = try HostDescription(text)
    // In memory where there is such a place: hundreds of small files take a disk's file system long.
    let memory = URL(fileURLWithPath: "/dev/shm")
    let place =
      FileManager.default.isWritableFile(atPath: memory.path) ? memory : FileManager.default.temporaryDirectory
    folder = place.appendingPathComponent("host-\(UUID().uuidString)")
    for path in ["sys/bus/pci/devices", "sys/class/iommu", "sys/class/infiniband", "sys/kernel/iommu_groups"] {
      try make(path)
    }
    if description.hasIOMMU { try make("sys/class/iommu/dmar0") }
    for function in description.functions { try put(function, configBytes: configBytes) }
    for device in description.rdma { try put(device) }
  }

  deinit { try? FileManager.default.removeItem(at: folder) }

  /// A function's folder below the host's.
  public func path(of address: String) -> String {
    guard let function = description.functions.first(where: { $0.address == address }) else {
      preconditionFailure("the description has no \(address)")
    }
    return (function.parent.map { path(of: $0) } ?? "sys/devices/\(function.hostBridge)") + "/\(address)"
  }

  /// Puts other bytes in place of a function's configuration space.
  public func setConfiguration(of address: String, _ change: (inout [UInt8]) -> Void) throws {
    let file = folder.appendingPathComponent("\(path(of: address))/config")
    var bytes = [UInt8](try Data(contentsOf: file))
    change(&bytes)
    try Data(bytes).write(to: file)
  }
}

extension FixtureHost {
  private func put(_ function: HostDescription.Function, configBytes: Int?) throws {
    let home = path(of: function.address)
    try write("\(home)/vendor", hex(function.vendor, 4))
    try write("\(home)/device", hex(function.device, 4))
    try write("\(home)/class", hex(function.classCode, 6))
    try write("\(home)/irq", "0")
    try write("\(home)/numa_node", "\(function.node ?? -1)")
    try write("\(home)/resource", resources(function))
    var bytes = ConfigurationSpace(function, in: description).bytes
    if let configBytes { bytes.removeSubrange(min(configBytes, bytes.count)...) }
    try Data(bytes).write(to: folder.appendingPathComponent("\(home)/config"))
    if function.hasExpressCapability {
      try write("\(home)/current_link_speed", function.link.map { "\($0.speed) GT/s PCIe" } ?? "Unknown")
      try write("\(home)/current_link_width", "\(function.link?.width ?? 0)")
    }
    try link("sys/bus/pci/devices/\(function.address)", to: home)
    if let driver = function.driver {
      try make("sys/bus/pci/drivers/\(driver)")
      try link("\(home)/driver", to: "sys/bus/pci/drivers/\(driver)")
      try link("sys/bus/pci/drivers/\(driver)/\(function.address)", to: home)
    }
    if let group = function.group {
      try make("sys/kernel/iommu_groups/\(group)/devices")
      try link("\(home)/iommu_group", to: "sys/kernel/iommu_groups/\(group)")
      try link("sys/kernel/iommu_groups/\(group)/devices/\(function.address)", to: home)
    }
    if let physical = function.physicalFunction {
      try link("\(home)/physfn", to: path(of: physical))
      let siblings = description.functions.filter { $0.physicalFunction == physical }
      let number = siblings.firstIndex { $0.address == function.address }!
      try link("\(path(of: physical))/virtfn\(number)", to: home)
    }
    if let number = function.vfio {
      try write("\(home)/vfio-dev/vfio\(number)/dev", "511:\(number)")
      try link("\(home)/vfio-dev/vfio\(number)/device", to: home)
      try link("sys/class/vfio-dev/vfio\(number)", to: "\(home)/vfio-dev/vfio\(number)")
      try write("dev/vfio/devices/vfio\(number)", "")
    }
  }

  /// The lines of the `resource` file: six BARs, the ROM, six ranges for virtual functions, a bridge's windows.
  private func resources(_ function: HostDescription.Function) -> String {
    var lines = [(start: UInt64, size: UInt64, flags: UInt64)](repeating: (0, 0, 0), count: 17)
    var place = UInt64(function.bus) << 40
    for bar in function.bars {
      let start = bar.isIO ? 0x3000 + UInt64(bar.index) * 0x100 : place
      lines[bar.index] = (start, bar.size, bar.isIO ? 0x40101 : bar.isPrefetchable ? 0x14220c : 0x40200)
      if !bar.isIO { place += max(bar.size, 1 << 24) * 2 }
    }
    if !function.kind.isBridge { lines[6] = (0xfff0_0000, 0x10_0000, 0x46200) }
    if function.isSRIOV { lines[7] = (place + 1 << 38, 0x200_0000, 0x14220c) }
    if function.kind.isBridge { lines[14] = (0xc000_0000, 0x100_0000, 0x200) }
    return lines.map { line in
      let end = line.size == 0 ? 0 : line.start + line.size - 1
      return [line.start, end, line.flags].map { hex($0, 16) }.joined(separator: " ")
    }.joined(separator: "\n")
  }

  private func put(_ device: HostDescription.RDMA) throws {
    let parent = device.function.map { path(of: $0) } ?? "sys/devices/virtual"
    let home = "\(parent)/infiniband/\(device.name)"
    try make(home)
    if device.function != nil { try link("\(home)/device", to: parent) }
    if let firmware = device.firmware { try write("\(home)/fw_ver", firmware) }
    for port in device.ports {
      try write("\(home)/ports/\(port.number)/state", port.state)
      try write("\(home)/ports/\(port.number)/link_layer", port.linkLayer)
      // Tables have many places, most of them empty.
      let empty = [String](repeating: "0000:0000:0000:0000:0000:0000:0000:0000", count: 3)
      for (index, gid) in (port.gids + empty).enumerated() {
        try write("\(home)/ports/\(port.number)/gids/\(index)", gid)
      }
    }
    try link("sys/class/infiniband/\(device.name)", to: home)
  }

  private func hex(_ value: some BinaryInteger, _ digits: Int) -> String {
    let text = String(value, radix: 16)
    return "0x" + String(repeating: "0", count: max(0, digits - text.count)) + text
  }

  /// Makes a folder, and those that it is in.
  public func make(_ path: String) throws {
    guard made.insert(path).inserted else { return }
    try FileManager.default.createDirectory(at: folder.appendingPathComponent(path), withIntermediateDirectories: true)
  }

  /// Writes a file, with a newline at its end as the kernel's have.
  public func write(_ path: String, _ text: String) throws {
    try make(String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]))
    try (text + "\n").write(to: folder.appendingPathComponent(path), atomically: false, encoding: .utf8)
  }

  /// Makes a link to a path of the host.
  public func link(_ path: String, to target: String) throws {
    try make(String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]))
    try FileManager.default.createSymbolicLink(
      atPath: folder.appendingPathComponent(path).path, withDestinationPath: folder.appendingPathComponent(target).path)
  }
}

extension FixtureHost {
  /// The host's tree as the scanner reads it; without titles, as those depend on this machine's list of PCI ids.
  public var tree: PCITree { PCIScanner(root: root).tree(titles: false) }
}
