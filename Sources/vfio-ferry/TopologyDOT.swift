// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Topology

/// The tree as a graph for Graphviz.
struct TopologyDOT {
  let view: TopologyView

  /// The whole graph.
  var lines: [String] {
    var lines = [
      "digraph topology {", "  rankdir=LR;",
      "  node [shape=box, style=\"rounded,filled\", fillcolor=white, fontsize=10];",
      "  edge [arrowhead=none, color=\"#7b8794\"];",
    ]
    for bridge in view.hostBridges {
      lines.append("  subgraph \(Self.quoted("cluster \(bridge.name)")) {")
      lines.append("    label=\(Self.quoted(bridge.numaNode.map { "NUMA node \($0)" } ?? "no NUMA node"));")
      lines.append("    style=filled; color=\"#eef2f6\";")
      lines.append("    \(Self.quoted(bridge.name)) [label=\(Self.quoted("\(bridge.name)\nhost bridge"))];")
      for node in bridge.nodes { append(node, above: bridge.name, isInside: true, to: &lines) }
      lines.append("  }")
    }
    for position in view.outside {
      lines.append("  \(Self.quoted("\(view.records[position].name)")) [penwidth=3];")
    }
    for pair in view.pairs { append(pair, to: &lines) }
    return lines + ["}"]
  }

  private func append(_ node: TopologyView.Node, above: String, isInside: Bool, to lines: inout [String]) {
    let function = node.function
    var attributes = ["label=\(Self.quoted(label(function).joined(separator: "\n")))"]
    if view.position(of: function) != nil { attributes.append("penwidth=3") }
    if view.onVFIO.contains(function.address) { attributes.append("fillcolor=\"#d7f0df\"") }
    lines.append("    \(Self.quoted(function.address)) [\(attributes.joined(separator: ", "))];")
    var edge: [String] = []
    if !isInside, !function.isVirtual, let link = function.link {
      edge = ["label=\(Self.quoted("x\(link.width)"))", "penwidth=\(max(1, min(8, link.width / 2)))"]
    } else if function.isVirtual {
      edge = ["style=dotted"]
    }
    lines.append(
      "    \(Self.quoted(above)) -> \(Self.quoted(function.address)) [\(edge.joined(separator: ", "))];")
    for child in node.children {
      let isSwitch = function.kind == .switchUpstreamPort && child.function.kind == .switchDownstreamPort
      append(child, above: function.address, isInside: isSwitch, to: &lines)
    }
    if !node.foldedVFs.isEmpty {
      let name = "VFs of \(function.address)"
      lines.append("    \(Self.quoted(name)) [label=\(Self.quoted(TopologyText.summary(of: node)))];")
      lines.append("    \(Self.quoted(function.address)) -> \(Self.quoted(name)) [style=dotted];")
    }
  }

  private func label(_ function: PCIFunction) -> [String] {
    var lines = [function.address, function.whatItIs.clipped(to: 40)]
    var facts = function.kind.isPort ? [] : [function.driver ?? "no driver"]
    if let group = function.group { facts.append("group \(group)") }
    facts += [function.accessControlWords, function.translationWords].compactMap { $0 }
    facts += view.rdma(of: function).map(\.name)
    if !facts.isEmpty { lines.append(facts.joined(separator: ", ")) }
    return lines
  }

  private func append(_ pair: PeerOptions.Pair, to lines: inout [String]) {
    let link = view.reachability[pair.from, pair.to]
    guard let look = PathLook.of(link.path) else { return }
    let isBothWays = view.isBothWays(pair)
    if isBothWays, pair.from > pair.to { return }
    let style = look == .direct ? "solid" : look == .redirected ? "dashed" : "dotted"
    lines.append(
      "  \(Self.quoted("\(view.records[pair.from].name)")) -> \(Self.quoted("\(view.records[pair.to].name)")) "
        + "[constraint=false, dir=\(isBothWays ? "both" : "forward"), arrowhead=normal, arrowtail=normal, penwidth=2, "
        + "style=\(style), color=\"\(look.colour)\", tooltip=\(Self.quoted("\(link.path): \(link.reason)"))];")
  }

  /// A quoted string; a newline becomes a line's end in a label.
  static func quoted(_ text: String) -> String {
    var result = "\""
    // By scalars, not by characters: a quote with an accent on it is one character, and no quote.
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}
