// SPDX-License-Identifier: Apache-2.0
internal import Topology

/// Where everything of the drawn tree is: ports in columns from left to right, devices below each other in one column,
/// each in a row that nothing else is in.
struct TopologyLayout {
  typealias Area = SVGDrawing.Area

  /// A function's box.
  struct Box {
    let function: PCIFunction
    let area: Area
  }

  /// A connection between two boxes.
  struct Wire {
    /// The right end of the upper one.
    let from: (x: Int, y: Int)
    /// The left end of the lower one.
    let to: (x: Int, y: Int)
    /// Where the wire turns.
    let turn: Int
    /// Lanes; nil for what is inside a switch or a root complex.
    let lanes: Int?
  }

  /// A host bridge's box.
  struct BridgeBox {
    let bridge: TopologyView.HostBridge
    let area: Area
  }

  /// A background with a heading: a NUMA node, or what is not in the tree.
  struct Background {
    let heading: String
    let area: Area
  }

  /// Devices of one IOMMU group that stand below each other.
  struct GroupBox {
    let group: Int
    let area: Area
    /// Whether other devices are in it too, shown here or not.
    let isShared: Bool
  }

  private(set) var backgrounds: [Background] = []
  private(set) var bridges: [BridgeBox] = []
  private(set) var switches: [Area] = []
  private(set) var boxes: [Box] = []
  private(set) var wires: [Wire] = []
  private(set) var groups: [GroupBox] = []
  /// Text that stands for folded virtual functions.
  private(set) var summaries: [(text: String, area: Area)] = []
  /// The named devices that are not in the tree, with their position.
  private(set) var outside: [(position: Int, area: Area)] = []
  /// Where the next row begins.
  private(set) var bottom: Int
  /// Where the column of devices begins.
  let deviceX: Int
  private let hasGroups: Bool

  static let margin = 24
  static let bridgeWidth = 116
  static let portWidth = 156
  static let portHeight = 48
  static let columnGap = 34
  static let deviceWidth = 372
  static let deviceHeight = 48
  static let vfHeight = 34
  static let vfIndent = 22
  static let groupWidth = 76
  static let rowGap = 8
  static let headingHeight = 30

  /// Where the column of groups begins.
  var groupX: Int { deviceX + Self.deviceWidth + 4 }
  /// Where the backgrounds end.
  var right: Int { groupX + (hasGroups ? Self.groupWidth : 0) + 22 }

  /// - Parameter top: where the first row may begin.
  init(_ view: TopologyView, top: Int) {
    bottom = top
    hasGroups = view.tree.functions.contains { $0.group != nil }
    let columns = view.hostBridges.flatMap(\.nodes).map(Self.portDepth).max() ?? 0
    deviceX =
      Self.margin + 14 + Self.bridgeWidth + Self.columnGap + columns * (Self.portWidth + Self.columnGap)
    let sorted = view.hostBridges.sorted { ($0.numaNode ?? Int.max, $0.name) < ($1.numaNode ?? Int.max, $1.name) }
    var next = 0
    while next < sorted.count {
      let node = sorted[next].numaNode
      let begin = bottom
      bottom += Self.headingHeight
      while next < sorted.count, sorted[next].numaNode == node {
        place(sorted[next])
        next += 1
      }
      endBackground(node.map { "NUMA node \($0)" } ?? "No NUMA node", from: begin)
    }
    if !view.outside.isEmpty { placeOutside(view.outside) }
    joinGroups(of: view.tree)
  }

  /// How many ports stand one behind the other.
  private static func portDepth(_ node: TopologyView.Node) -> Int {
    node.function.kind.isPort ? 1 + (node.children.map(portDepth).max() ?? 0) : 0
  }

  private mutating func endBackground(_ heading: String, from begin: Int) {
    bottom += 6
    backgrounds.append(
      Background(
        heading: heading, area: Area(x: Self.margin, y: begin, width: right - Self.margin, height: bottom - begin)))
    bottom += 14
  }

  private mutating func place(_ bridge: TopologyView.HostBridge) {
    let x = Self.margin + 14
    var ends: [(y: Int, function: PCIFunction)] = []
    for node in bridge.nodes {
      ends.append((place(node, column: 0), node.function))
      // Switches don't touch.
      if node.children.contains(where: { $0.function.kind == .switchUpstreamPort }) { bottom += Self.rowGap }
    }
    let y = middle(of: ends.map(\.y))
    let area = Area(x: x, y: y - Self.portHeight / 2, width: Self.bridgeWidth, height: Self.portHeight)
    bridges.append(BridgeBox(bridge: bridge, area: area))
    for end in ends { wire(from: area, to: end.function, at: end.y, column: 0, lanes: nil) }
  }

  /// - Returns: the middle of the function's box.
  private mutating func place(_ node: TopologyView.Node, column: Int) -> Int {
    guard node.function.kind.isPort else { return placeDevice(node) }
    if node.children.isEmpty {
      let area = portArea(y: bottom, column: column)
      boxes.append(Box(function: node.function, area: area))
      bottom = area.bottom + Self.rowGap
      return area.middle
    }
    let first = boxes.count
    var ends: [(y: Int, function: PCIFunction)] = []
    for child in node.children { ends.append((place(child, column: column + 1), child.function)) }
    let area = portArea(y: middle(of: ends.map(\.y)) - Self.portHeight / 2, column: column)
    boxes.append(Box(function: node.function, area: area))
    for end in ends {
      let isInside = node.function.kind == .switchUpstreamPort && end.function.kind == .switchDownstreamPort
      wire(
        from: area, to: end.function, at: end.y, column: column + 1, lanes: isInside ? nil : end.function.link?.width)
    }
    if node.function.kind == .switchUpstreamPort { placeSwitch(upstream: area, members: boxes[first...]) }
    return area.middle
  }

  private func middle(of ys: [Int]) -> Int { ((ys.first ?? bottom) + (ys.last ?? bottom)) / 2 }

  private func portX(_ column: Int) -> Int {
    Self.margin + 14 + Self.bridgeWidth + Self.columnGap + column * (Self.portWidth + Self.columnGap)
  }

  private func portArea(y: Int, column: Int) -> Area {
    Area(x: portX(column), y: y, width: Self.portWidth, height: Self.portHeight)
  }

  private mutating func wire(from area: Area, to function: PCIFunction, at y: Int, column: Int, lanes: Int?) {
    let end = function.kind.isPort ? portX(column) : deviceX
    wires.append(
      Wire(from: (area.right, area.middle), to: (end, y), turn: area.right + Self.columnGap / 2, lanes: lanes))
  }

  /// The area around a switch's ports.
  private mutating func placeSwitch(upstream: Area, members: ArraySlice<Box>) {
    let column = upstream.right + Self.columnGap
    let ports = members.filter { $0.function.kind == .switchDownstreamPort && $0.area.x == column }.map(\.area)
    guard let top = (ports + [upstream]).map(\.y).min(), let end = (ports + [upstream]).map(\.bottom).max() else {
      return
    }
    let width = (ports.isEmpty ? upstream.right : column + Self.portWidth) - upstream.x
    switches.append(Area(x: upstream.x - 7, y: top - 3, width: width + 14, height: end - top + 6))
  }

  private mutating func placeDevice(_ node: TopologyView.Node) -> Int {
    let area = Area(x: deviceX, y: bottom, width: Self.deviceWidth, height: Self.deviceHeight)
    boxes.append(Box(function: node.function, area: area))
    bottom = area.bottom + Self.rowGap
    let x = deviceX + Self.vfIndent
    for child in node.children {
      // Close to the function that it belongs to.
      let vf = Area(x: x, y: bottom - 4, width: Self.deviceWidth - Self.vfIndent, height: Self.vfHeight)
      boxes.append(Box(function: child.function, area: vf))
      branch(from: area, toMiddle: vf.middle)
      bottom = vf.bottom + Self.rowGap
    }
    if !node.foldedVFs.isEmpty {
      let text = TopologyText.summary(of: node)
      let line = Area(x: x, y: bottom - 4, width: Self.deviceWidth - Self.vfIndent, height: 18)
      summaries.append((text, line))
      branch(from: area, toMiddle: line.middle)
      bottom = line.bottom + Self.rowGap
    }
    return area.middle
  }

  /// From a physical function down to what is virtual of it.
  private mutating func branch(from area: Area, toMiddle y: Int) {
    let x = deviceX + Self.vfIndent / 2
    wires.append(Wire(from: (x, area.bottom), to: (deviceX + Self.vfIndent, y), turn: x, lanes: nil))
  }

  private mutating func placeOutside(_ positions: [Int]) {
    let begin = bottom
    bottom += Self.headingHeight
    for position in positions {
      let area = Area(x: deviceX, y: bottom, width: Self.deviceWidth, height: Self.vfHeight)
      outside.append((position, area))
      bottom = area.bottom + Self.rowGap
    }
    endBackground("Not in the PCI tree", from: begin)
  }

  /// Devices below each other that share a group share its box.
  private mutating func joinGroups(of tree: PCITree) {
    let devices = boxes.filter { !$0.function.kind.isPort }.sorted { $0.area.y < $1.area.y }
    var sizes: [Int: Int] = [:]
    for function in tree.functions where !function.kind.isPort { function.group.map { sizes[$0, default: 0] += 1 } }
    for box in devices {
      guard let group = box.function.group else { continue }
      if let last = groups.last, last.group == group, box.area.y - last.area.bottom <= 2 * Self.rowGap {
        let area = Area(x: groupX, y: last.area.y, width: Self.groupWidth, height: box.area.bottom - last.area.y)
        groups[groups.count - 1] = GroupBox(group: group, area: area, isShared: true)
      } else {
        let area = Area(x: groupX, y: box.area.y, width: Self.groupWidth, height: box.area.height)
        groups.append(GroupBox(group: group, area: area, isShared: sizes[group, default: 0] > 1))
      }
    }
  }
}
