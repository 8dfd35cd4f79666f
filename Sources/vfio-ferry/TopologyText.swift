// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Topology

/// The tree and the pairs for a person at a terminal.
struct TopologyText {
  let view: TopologyView

  /// Titles are cut to this, so that a line stays readable.
  private static let maximumTitle = 46

  /// Everything: the tree, the RDMA devices, and where devices were named the pairs and what they rest on.
  var lines: [String] {
    var lines = tree
    if !view.tree.rdmaDevices.isEmpty { lines += [""] + rdma }
    if view.records.count > 1 { lines += [""] + pairs + assumptions }
    if !notes.isEmpty { lines += [""] + notes }
    return lines
  }

  // MARK: The tree

  private var tree: [String] {
    var rows = [["FUNCTION", "DRIVER", "GROUP", "LINK", ""]]
    for bridge in view.hostBridges {
      let node = bridge.numaNode.map { ", NUMA node \($0)" } ?? ""
      rows.append(["\(bridge.name)  host bridge\(node)", "", "", "", ""])
      append(bridge.nodes, prefix: "", to: &rows)
    }
    return TextTable.lines(rows).map(Self.trimmed)
  }

  private func append(_ nodes: [TopologyView.Node], prefix: String, to rows: inout [[String]]) {
    for (index, node) in nodes.enumerated() {
      let isLast = index == nodes.count - 1
      rows.append(row(node.function, prefix: prefix + (isLast ? "└─ " : "├─ ")))
      let below = prefix + (isLast ? "   " : "│  ")
      if node.foldedVFs.isEmpty {
        append(node.children, prefix: below, to: &rows)
      } else {
        append(node, withFoldedBelow: below, to: &rows)
      }
    }
  }

  private func append(_ node: TopologyView.Node, withFoldedBelow prefix: String, to rows: inout [[String]]) {
    // The summary comes last, so what stands before it is never the last line.
    for child in node.children {
      rows.append(row(child.function, prefix: prefix + "├─ "))
      append(child.children, prefix: prefix + "│  ", to: &rows)
    }
    rows.append(["\(prefix)└─ \(Self.summary(of: node))", "", "", "", ""])
  }

  /// The virtual functions that are not shown one by one.
  static func summary(of node: TopologyView.Node) -> String {
    let first = node.foldedVFs.first?.address ?? ""
    let last = node.foldedVFs.last?.address ?? ""
    let more = node.children.contains { $0.function.isVirtual } ? " more" : ""
    return node.foldedVFs.count == 1
      ? "1\(more) VF: \(first)" : "\(node.foldedVFs.count)\(more) VFs: \(first) … \(last)"
  }

  private func row(_ function: PCIFunction, prefix: String) -> [String] {
    var notes: [String] = []
    if view.onVFIO.contains(function.address) { notes.append("on VFIO") }
    if let words = function.accessControlWords { notes.append(words) }
    if let words = function.translationWords { notes.append(words) }
    notes += view.rdma(of: function).map(\.name)
    let mark = view.position(of: function) == nil ? "" : "*"
    return [
      prefix + "\(function.address)\(mark)  \(function.whatItIs.clipped(to: Self.maximumTitle))",
      function.kind.isPort ? "" : function.driver ?? "-", function.group.map(String.init) ?? "-",
      function.isVirtual ? "" : function.link?.words ?? "", notes.joined(separator: ", "),
    ]
  }

  // MARK: RDMA devices

  private var rdma: [String] {
    var rows = [["RDMA", "FUNCTION", "FIRMWARE", "PORTS", "WHAT IT IS"]]
    for device in view.tree.rdmaDevices {
      let ports = device.ports.map { "\($0.number) \($0.state) \($0.linkLayer)" }.joined(separator: ", ")
      rows.append([device.name, device.function ?? "-", device.firmware ?? "-", ports, device.meaning])
    }
    return TextTable.lines(rows)
  }

  // MARK: Named devices

  private var pairs: [String] {
    var rows = [["CAN START TRANSFERS", "TO", "PATH", "THEY MEET AT", "WHY"]]
    for pair in view.pairs {
      let link = view.reachability[pair.from, pair.to]
      rows.append([
        "\(view.records[pair.from].name)", "\(view.records[pair.to].name)", "\(link.path)",
        view.commonAncestor(pair) ?? "-", link.reason,
      ])
    }
    return TextTable.lines(rows)
  }

  /// Those that do not hold or are not known, and how many do.
  private var assumptions: [String] {
    let assumptions = view.assumptions
    if assumptions.isEmpty { return [] }
    let doubtful = assumptions.filter { $0.state != .holds }
    let good = assumptions.count - doubtful.count
    return ["", "A consistent stop rests on these: \(good) of \(assumptions.count) were found to hold."]
      + TextTable.lines(doubtful.map(\.cells))
  }

  private var notes: [String] {
    var notes: [String] = []
    if !view.records.isEmpty { notes.append("* is a device that was named.") }
    for position in view.outside {
      notes.append("\(view.records[position].name) is no PCI function and has no place in the tree.")
    }
    if !view.tree.hasIOMMU { notes.append("No IOMMU is on: VFIO has no groups here.") }
    if view.tree.functions.contains(where: { $0.capabilities == nil }) {
      notes.append("Capabilities (ACS, ATS) could not be read: run as root to see them.")
    }
    if view.leftOut > 0 {
      let what = view.leftOut == 1 ? "1 function is" : "\(view.leftOut) functions are"
      notes.append("\(what) left out (the chipset's own, and ports with nothing below): --all shows them.")
    }
    return notes
  }

  private static func trimmed(_ line: String) -> String {
    String(line.reversed().drop { $0 == " " }.reversed())
  }
}
