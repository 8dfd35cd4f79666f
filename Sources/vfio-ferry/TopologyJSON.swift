// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Topology

/// Everything that is known of the tree and the pairs, for scripts: nothing is left out or folded.
struct TopologyJSON {
  let view: TopologyView

  /// One object; the manual has its keys.
  var value: JSON {
    .object([
      "iommu": .bool(view.tree.hasIOMMU),
      "functions": .array(view.tree.functions.map(json)),
      "rdma_devices": .array(view.tree.rdmaDevices.map(Self.json)),
      "devices": .array(view.records.map(json)),
      "pairs": .array(view.pairs.map(json)),
      "assumptions": .array(view.assumptions.map(\.json)),
    ])
  }

  private func json(_ function: PCIFunction) -> JSON {
    .object([
      "address": .string(function.address),
      "kind": .string(function.kind.key),
      "parent": JSON(function.parent),
      "host_bridge": .string(function.hostBridge),
      "pci_id": .string(function.identity),
      "class_code": .string(Self.hex(function.classCode, digits: 6)),
      "title": JSON(function.title),
      "driver": JSON(function.driver),
      "on_vfio": .bool(view.onVFIO.contains(function.address)),
      "iommu_group": JSON(function.group),
      "numa_node": JSON(function.numaNode),
      "physical_function": JSON(function.physicalFunction),
      "link": function.link.map {
        .object(["speed": .string($0.speed), "width_lanes": .integer(Int64($0.width))])
      } ?? .null,
      "bars": .array(function.bars.map(Self.json)),
      "capabilities": function.capabilities.map(Self.json) ?? .null,
    ])
  }

  private static func json(_ bar: PCIFunction.BAR) -> JSON {
    .object([
      "index": .integer(Int64(bar.index)),
      "start": .string("0x" + String(bar.start, radix: 16)),
      "size_bytes": .unsigned(bar.size),
      "io": .bool(bar.isIO),
      "prefetchable": .bool(bar.isPrefetchable),
    ])
  }

  private static func json(_ capabilities: PCIFunction.Capabilities) -> JSON {
    func names(_ controls: PCIFunction.AccessControl) -> JSON { .array(controls.names.map { .string($0.key) }) }
    return .object([
      "acs": capabilities.accessControl.map(names) ?? .null,
      "acs_enabled": names(capabilities.accessControlEnabled),
      "ats_enabled": JSON(capabilities.addressTranslation),
      "relaxed_ordering": .bool(capabilities.relaxedOrdering),
      "id_ordered_requests": .bool(capabilities.idOrderedRequests),
      "id_ordered_completions": .bool(capabilities.idOrderedCompletions),
    ])
  }

  private static func json(_ device: RDMADevice) -> JSON {
    let kind =
      switch device.kind {
      case .physicalFunction: "physical_function"
      case .virtualFunction: "virtual_function"
      case .subfunction: "subfunction"
      case .software: "software"
      }
    return .object([
      "name": .string(device.name),
      "kind": .string(kind),
      "meaning": .string(device.meaning),
      "function": JSON(device.function),
      "firmware": JSON(device.firmware),
      "ports": .array(
        device.ports.map { port in
          .object([
            "number": .integer(Int64(port.number)), "state": .string(port.state),
            "link_layer": .string(port.linkLayer), "gids": .array(port.gids.map { .string($0) }),
          ])
        }),
    ])
  }

  private func json(_ record: DeviceRecord) -> JSON {
    .object([
      "name": .string("\(record.name)"),
      "in_tree": .bool(record.address(in: view.tree) != nil),
      "driver": JSON(record.driver),
      "on_vfio": .bool(record.isOnVFIO),
    ])
  }

  private func json(_ pair: PeerOptions.Pair) -> JSON {
    let link = view.reachability[pair.from, pair.to]
    return .object([
      "from": .string("\(view.records[pair.from].name)"),
      "to": .string("\(view.records[pair.to].name)"),
      "reaches": .bool(link.exists),
      "path": .string(link.path.key),
      "at": JSON(link.path.place),
      "common_ancestor": JSON(view.commonAncestor(pair)),
      "reason": .string(link.reason),
      "origin": .string(link.origin.key),
    ])
  }

  private static func hex(_ value: UInt32, digits: Int) -> String {
    let text = String(value, radix: 16)
    return "0x" + String(repeating: "0", count: max(0, digits - text.count)) + text
  }
}

extension Reachability.Path {
  /// As scripts read it.
  var key: String {
    switch self {
    case .none: "none"
    case .direct: "direct"
    case .redirected: "redirected"
    case .unknown: "unknown"
    }
  }

  /// Where transfers are turned around; nil where they are not, or nobody knows.
  var place: String? {
    switch self {
    case .direct(let place), .redirected(let place): place
    case .none, .unknown: nil
    }
  }
}

extension Reachability.Origin {
  /// As scripts read it.
  var key: String {
    switch self {
    case .observed: "observed"
    case .assumed: "assumed"
    case .declared: "declared"
    }
  }
}
