// SPDX-License-Identifier: Apache-2.0
internal import Topology

/// What the signs in the drawn tree mean; only those that it has.
struct TopologyLegend {
  let layout: TopologyLayout
  /// How many devices were named.
  let named: Int
  /// Whether a device is on VFIO.
  let hasVFIO: Bool

  private static let style = SVGDrawing.TextStyle(size: 11, fill: "#3e4c59")
  private static let sampleWidth = 36

  /// A place in the legend, from left to right and then on the next line.
  private struct Cursor {
    var x = TopologyLayout.margin
    var y: Int
    let right: Int

    mutating func newLine() {
      x = TopologyLayout.margin
      y += 24
    }
  }

  /// - Returns: where it ends.
  func paint(on drawing: inout SVGDrawing, y: Int, right: Int) -> Int {
    var cursor = Cursor(y: y, right: right)
    paintLinks(on: &drawing, &cursor)
    paintBoxes(on: &drawing, &cursor)
    if named > 1 { paintPaths(on: &drawing, &cursor) }
    if layout.boxes.contains(where: { $0.function.accessControlWords != nil }) {
      paintAccessControl(on: &drawing, &cursor)
    }
    return cursor.y + 12
  }

  /// One sign with its words; `sample` draws it with its left end at the place that it gets.
  private func item(
    _ words: String, on drawing: inout SVGDrawing, _ cursor: inout Cursor,
    sample: (inout SVGDrawing, _ x: Int, _ y: Int) -> Void
  ) {
    let width = Self.sampleWidth + 8 + SVGDrawing.width(of: words, size: Self.style.size) + 24
    if cursor.x + width > cursor.right, cursor.x > TopologyLayout.margin { cursor.newLine() }
    sample(&drawing, cursor.x, cursor.y)
    drawing.text(words, x: cursor.x + Self.sampleWidth + 8, y: cursor.y + 4, style: Self.style)
    cursor.x += width
  }

  private func paintLinks(on drawing: inout SVGDrawing, _ cursor: inout Cursor) {
    for (lanes, words) in [(1, "x1 link"), (4, "x4"), (8, "x8"), (16, "x16")] {
      item(words, on: &drawing, &cursor) { drawing, x, y in
        drawing.path(
          "M \(x) \(y) L \(x + Self.sampleWidth) \(y)", stroke: "#9aa8b6", width: TopologySVG.lineWidth(lanes: lanes))
      }
    }
  }

  private func paintBoxes(on drawing: inout SVGDrawing, _ cursor: inout Cursor) {
    func paint(_ fill: String, _ stroke: String, strokeWidth: Int = 1, _ words: String, where isShown: Bool) {
      guard isShown else { return }
      item(words, on: &drawing, &cursor) { drawing, x, y in
        drawing.rectangle(
          SVGDrawing.Area(x: x, y: y - 8, width: Self.sampleWidth, height: 16), fill: fill, stroke: stroke,
          strokeWidth: strokeWidth, radius: 4)
      }
    }
    paint("#dfe6ee", "#b5c0cc", "a switch", where: !layout.switches.isEmpty)
    for look in ClassLook.all {
      let isShown = layout.boxes.contains { !$0.function.kind.isPort && ClassLook.of($0.function) == look }
      paint(look.fill, "#8a96a3", look.words, where: isShown)
    }
    paint("#fbe6b4", "#b7791f", "an IOMMU group of several devices", where: layout.groups.contains(where: \.isShared))
    paint("#ffffff", "#111827", strokeWidth: 3, "a device that was named", where: named > 0)
    if hasVFIO {
      item("a device on VFIO", on: &drawing, &cursor) { drawing, x, y in
        TopologySVG.paintTag(at: (x, y - 8), on: &drawing)
      }
    }
  }

  private func paintPaths(on drawing: inout SVGDrawing, _ cursor: inout Cursor) {
    cursor.newLine()
    for look in PathLook.all {
      item(look.words, on: &drawing, &cursor) { drawing, x, y in
        drawing.path(
          "M \(x) \(y) L \(x + Self.sampleWidth) \(y)", stroke: look.colour, width: look.width,
          attributes: look.attributes(isBothWays: false))
      }
    }
    item("no arrow: can't start transfers", on: &drawing, &cursor) { _, _, _ in }
  }

  private func paintAccessControl(on drawing: inout SVGDrawing, _ cursor: inout Cursor) {
    cursor.newLine()
    let words = "ACS: sv source validation, rr request redirect, cr completion redirect, uf upstream forwarding"
    drawing.text(words, x: cursor.x, y: cursor.y + 4, style: Self.style)
    cursor.newLine()
    let more =
      "tb translation blocking, ec egress control, dt direct translated (lets what is translated go straight to peers)"
    drawing.text(
      more, x: cursor.x + SVGDrawing.width(of: "ACS: ", size: Self.style.size), y: cursor.y - 4, style: Self.style)
    cursor.y -= 8
  }
}

/// The colour of a device's box.
struct ClassLook: Hashable {
  let fill: String
  let words: String

  /// In the order of a legend.
  static let all = [network, graphics, storage]
  private static let network = ClassLook(fill: "#dcecfb", words: "network")
  private static let graphics = ClassLook(fill: "#e9e2fa", words: "GPU or accelerator")
  private static let storage = ClassLook(fill: "#f5efe0", words: "storage")

  /// The look of a device; nil for none of its own.
  static func of(_ function: PCIFunction) -> ClassLook? {
    switch function.classCode >> 16 {
    case 0x01: storage
    case 0x02: network
    case 0x03, 0x0b, 0x12: graphics
    default: nil
    }
  }
}
