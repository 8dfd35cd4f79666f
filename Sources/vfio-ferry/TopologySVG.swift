// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Topology

/// The drawn tree.
struct TopologySVG {
  private let view: TopologyView
  private let layout: TopologyLayout
  private let arcs: TopologyArcs
  private(set) var drawing = SVGDrawing()
  let width: Int
  private(set) var height: Int

  private static let top = 64
  private static let faint = SVGDrawing.TextStyle(size: 10, fill: "#52606d")

  init(_ view: TopologyView) {
    self.view = view
    let layout = TopologyLayout(view, top: Self.top)
    self.layout = layout
    var areas = Dictionary(uniqueKeysWithValues: layout.outside.map { ($0.position, $0.area) })
    for box in layout.boxes {
      if let position = view.position(of: box.function) { areas[position] = box.area }
    }
    arcs = TopologyArcs(view, areas: areas)
    width = max(900, layout.right + (arcs.arcs.isEmpty ? 0 : arcs.width) + TopologyLayout.margin)
    height = layout.bottom
    paint()
  }

  /// The picture as a file.
  var document: String {
    let markers = PathLook.all.map { look in
      "<marker id=\"to-\(look.key)\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"\(7 + look.width)\" "
        + "markerHeight=\"\(7 + look.width)\" "
        + "markerUnits=\"userSpaceOnUse\" orient=\"auto-start-reverse\">"
        + "<path d=\"M 0 1 L 10 5 L 0 9 z\" fill=\"\(look.colour)\"/></marker>\n"
    }
    return drawing.document(width: width, height: height, title: "PCI topology", definitions: markers.joined())
  }

  // MARK: Painting, from the back to the front

  private mutating func paint() {
    drawing.text(
      "PCI topology", x: TopologyLayout.margin, y: 34, style: SVGDrawing.TextStyle(size: 18, isBold: true))
    drawing.text(subtitle, x: TopologyLayout.margin, y: 52, style: Self.faint)
    for (index, background) in layout.backgrounds.enumerated() { paint(background, isEven: index % 2 == 0) }
    for area in layout.switches {
      drawing.rectangle(area, fill: "#dfe6ee", stroke: "#b5c0cc", radius: 8, title: "a switch")
    }
    for wire in layout.wires { paint(wire) }
    for bridge in layout.bridges { paint(bridge) }
    for box in layout.boxes { paint(box) }
    for summary in layout.summaries {
      drawing.text(summary.text, x: summary.area.x + 6, y: summary.area.y + 13, style: Self.faint)
    }
    for group in layout.groups { paint(group) }
    for device in layout.outside {
      box(device.area, fill: "#ffffff", isNamed: true, title: nil)
      drawing.text("\(view.records[device.position].name)", x: device.area.x + 9, y: device.area.y + 21)
    }
    // What bypasses the root complex is what people look for: it comes last, on top.
    for arc in arcs.arcs where !arc.isDirect { paint(arc) }
    for arc in arcs.arcs where arc.isDirect { paint(arc) }
    let legend = TopologyLegend(
      layout: layout, named: view.records.count, hasVFIO: layout.boxes.contains(where: isOnVFIO))
    height = legend.paint(on: &drawing, y: height + 12, right: width - TopologyLayout.margin) + TopologyLayout.margin
  }

  private var subtitle: String {
    var parts = ["\(view.tree.functions.count) functions"]
    if view.leftOut > 0 { parts.append("\(view.leftOut) of them left out") }
    parts.append(view.tree.hasIOMMU ? "IOMMU on" : "no IOMMU is on")
    return parts.joined(separator: ", ")
  }

  private mutating func paint(_ background: TopologyLayout.Background, isEven: Bool) {
    drawing.rectangle(
      background.area, fill: isEven ? "#f4f7fa" : "#faf6ee", stroke: isEven ? "#d5dde5" : "#e6dcc6", radius: 10)
    drawing.text(
      background.heading, x: background.area.x + 14, y: background.area.y + 20,
      style: SVGDrawing.TextStyle(size: 13, fill: "#3e4c59", isBold: true))
  }

  private func isOnVFIO(_ box: TopologyLayout.Box) -> Bool { view.onVFIO.contains(box.function.address) }

  static func lineWidth(lanes: Int?) -> Int {
    switch lanes {
    case nil: 1
    case .some(..<2): 2
    case .some(..<8): 3
    case .some(..<16): 5
    case .some: 8
    }
  }

  private mutating func paint(_ wire: TopologyLayout.Wire) {
    let turn = wire.turn == wire.from.x ? "" : " L \(wire.turn) \(wire.from.y)"
    drawing.path(
      "M \(wire.from.x) \(wire.from.y)\(turn) L \(wire.turn) \(wire.to.y) L \(wire.to.x) \(wire.to.y)",
      stroke: wire.lanes == nil ? "#7b8794" : "#9aa8b6", width: Self.lineWidth(lanes: wire.lanes),
      attributes: "stroke-linejoin=\"round\"")
  }

  private mutating func paint(_ bridge: TopologyLayout.BridgeBox) {
    drawing.rectangle(bridge.area, fill: "#cbd2d9", stroke: "#616e7c", radius: 6)
    let style = SVGDrawing.TextStyle(size: 12, isBold: true)
    drawing.text(bridge.bridge.name, x: bridge.area.x + 9, y: bridge.area.y + 21, style: style)
    drawing.text("host bridge", x: bridge.area.x + 9, y: bridge.area.y + 37, style: Self.faint)
  }

  private mutating func box(_ area: SVGDrawing.Area, fill: String, isNamed: Bool, title: String?) {
    drawing.rectangle(
      area, fill: fill, stroke: isNamed ? "#111827" : "#8a96a3", strokeWidth: isNamed ? 3 : 1, radius: 5, title: title)
  }

  private mutating func paint(_ box: TopologyLayout.Box) {
    if box.function.kind.isPort { paintPort(box) } else { paintDevice(box) }
  }

  private mutating func paintPort(_ box: TopologyLayout.Box) {
    let (function, area) = (box.function, box.area)
    self.box(area, fill: "#ffffff", isNamed: view.position(of: function) != nil, title: function.label)
    let letters = SVGDrawing.letters(in: area.width - 16, size: 10)
    let kind =
      switch function.kind {
      case .rootPort: "root port"
      case .switchUpstreamPort: "switch, up"
      case .switchDownstreamPort: "switch, down"
      case .bridge, .endpoint, .integrated, .conventional: function.kind.words
      }
    drawing.text(function.address, x: area.x + 8, y: area.y + 14)
    let place = [kind, function.group.map { "group \($0)" }].compactMap { $0 }.joined(separator: ", ")
    drawing.text(place.clipped(to: letters), x: area.x + 8, y: area.y + 28, style: Self.faint)
    guard let words = function.accessControlWords else { return }
    let enabled = function.capabilities?.accessControlEnabled ?? []
    let colour =
      if !enabled.contains(.requestRedirect) { "#a61b1b" } else {
        enabled.contains(.directTranslated) ? "#8a5a00" : "#1b6e3c"
      }
    let style = SVGDrawing.TextStyle(size: 10, fill: colour)
    drawing.text(words.clipped(to: letters), x: area.x + 8, y: area.y + 41, style: style)
  }

  private mutating func paintDevice(_ box: TopologyLayout.Box) {
    let (function, area) = (box.function, box.area)
    let rdma = view.rdma(of: function)
    let title = ([function.label] + rdma.map { "\($0.name): \($0.meaning)" }).joined(separator: "; ")
    self.box(
      area, fill: ClassLook.of(function)?.fill ?? "#ffffff", isNamed: view.position(of: function) != nil, title: title)
    var room = area.width - 18
    if view.onVFIO.contains(function.address) {
      Self.paintTag(at: (area.right - 44, area.y + 5), on: &drawing)
      room -= 44
    }
    let letters = SVGDrawing.letters(in: room - SVGDrawing.width(of: function.address + "  ", size: 12), size: 11)
    drawing.text(
      function.address, x: area.x + 9, y: area.y + 15, style: SVGDrawing.TextStyle(size: 12, isBold: true))
    let x = area.x + 9 + SVGDrawing.width(of: function.address + "  ", size: 12)
    let whole = SVGDrawing.letters(in: area.width - 18, size: 10)
    let facts = ([function.driver ?? "no driver"] + facts(function) + rdma.map(\.name)).joined(separator: ", ")
    if function.isVirtual {
      drawing.text(("VF" + (rdma.isEmpty ? "" : ", RDMA")).clipped(to: letters), x: x, y: area.y + 15)
      drawing.text(facts.clipped(to: whole), x: area.x + 9, y: area.y + 28, style: Self.faint)
    } else {
      drawing.text((function.classWord ?? "").clipped(to: letters), x: x, y: area.y + 15)
      drawing.text(function.label.clipped(to: whole), x: area.x + 9, y: area.y + 28, style: Self.faint)
      drawing.text(facts.clipped(to: whole), x: area.x + 9, y: area.y + 41, style: Self.faint)
    }
  }

  private func facts(_ function: PCIFunction) -> [String] {
    [function.isVirtual ? nil : function.link?.words, function.translationWords].compactMap { $0 }
  }

  static func paintTag(at place: (x: Int, y: Int), on drawing: inout SVGDrawing) {
    drawing.rectangle(
      SVGDrawing.Area(x: place.x, y: place.y, width: 38, height: 15), fill: "#1b6e3c", radius: 7, title: "on VFIO")
    drawing.text(
      "VFIO", x: place.x + 7, y: place.y + 11, style: SVGDrawing.TextStyle(size: 10, fill: "#ffffff", isBold: true))
  }

  private mutating func paint(_ group: TopologyLayout.GroupBox) {
    drawing.rectangle(
      group.area, fill: group.isShared ? "#fbe6b4" : "#eceff2", stroke: group.isShared ? "#b7791f" : "#a9b4bf",
      radius: 5,
      title: "IOMMU group \(group.group)")
    drawing.text("group \(group.group)", x: group.area.x + 7, y: group.area.middle + 4, style: Self.faint)
  }

  private mutating func paint(_ arc: TopologyArcs.Arc) {
    guard let look = PathLook.of(arc.link.path) else { return }
    let (from, to) = (view.records[arc.pair.from].name, view.records[arc.pair.to].name)
    drawing.path(
      arc.data(x: layout.right - 17), stroke: look.colour,
      width: look.width, attributes: look.attributes(isBothWays: arc.isBothWays),
      title: "\(from) \(arc.isBothWays ? "and" : "to") \(to): \(arc.link.path): \(arc.link.reason)")
  }
}
