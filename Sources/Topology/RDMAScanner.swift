// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO

/// Finds the RDMA devices. On the real system libibverbs is asked, which opens each device's uverbs node and changes nothing,
/// and sysfs for what that does not say; below another root there is only sysfs.
struct RDMAScanner {
  let root: SystemRoot

  /// More of these than the kernel lets a device have.
  private static let maximumPorts = 255
  private static let maximumGIDs = 4096

  func devices(on tree: PCITree) -> [RDMADevice] {
    let names = Files.names(in: "\(root.sys)/class/infiniband")
    // libibverbs is not even loaded where the kernel has no device.
    guard !names.isEmpty else { return [] }
    let verbs = root.prefix.isEmpty ? VerbsLibrary() : nil
    return names.compactMap { name in
      guard var device = device(name, on: tree) else { return nil }
      if let asked = verbs?.facts(of: name) { Self.merge(asked, into: &device) }
      return device
    }
  }

  /// What sysfs says.
  private func device(_ name: String, on tree: PCITree) -> RDMADevice? {
    guard let folder = Files.resolved("\(root.sys)/class/infiniband/\(name)") else { return nil }
    // …/<function>/infiniband/<name>, or deeper where it is only a part of a function.
    let above = folder.split(separator: "/").dropLast(2)
    let address = above.last { PCIAddress($0) != nil }.map(String.init)
    let function = address.flatMap { tree[$0] }
    var device = RDMADevice(name: Attribute.harmless(name), kind: .software)
    // Software may sit on a NIC's folder all the same: how they call themselves tells (rxe_register_device, siw's
    // SIW_NODE_DESC_COMMON).
    let described = Attribute.text("\(folder)/node_desc") ?? ""
    let isSoftware = described == "rxe" || described.hasPrefix("Software iWARP") || described.hasPrefix("siw")
    if let function, !isSoftware {
      device.function = function.address
      let isPart = above.last.map(String.init) != function.address
      device.kind = isPart ? .subfunction : function.physicalFunction == nil ? .physicalFunction : .virtualFunction
    }
    device.firmware = Attribute.text("\(folder)/fw_ver").flatMap { $0.isEmpty ? nil : $0 }
    let numbers = Files.names(in: "\(folder)/ports").compactMap { Int($0) }.filter { $0 > 0 }.sorted()
    for number in numbers.prefix(Self.maximumPorts) {
      let port = "\(folder)/ports/\(number)"
      // "4: ACTIVE"
      let state = Attribute.text("\(port)/state")?.split(separator: ":").last.map { $0.drop { $0 == " " }.lowercased() }
      let gids = Files.names(in: "\(port)/gids").compactMap { Int($0) }.sorted().prefix(Self.maximumGIDs)
      device.ports.append(
        RDMADevice.Port(
          number: number, state: state ?? "unknown",
          linkLayer: Attribute.text("\(port)/link_layer")?.lowercased() ?? "unknown",
          gids: gids.compactMap { Attribute.text("\(port)/gids/\($0)") }.filter { $0.contains { !"0:".contains($0) } }))
    }
    return device
  }

  private static func merge(_ asked: VerbsLibrary.Facts, into device: inout RDMADevice) {
    device.firmware = asked.firmware.map(Attribute.harmless) ?? device.firmware
    for port in asked.ports {
      guard let index = device.ports.firstIndex(where: { $0.number == port.number }) else {
        device.ports.append(port)
        continue
      }
      if port.state != "unknown" { device.ports[index].state = port.state }
      if port.linkLayer != "unknown" { device.ports[index].linkLayer = port.linkLayer }
      if !port.gids.isEmpty { device.ports[index].gids = port.gids }
    }
    device.ports.sort { $0.number < $1.number }
  }
}
