// SPDX-License-Identifier: Apache-2.0

/// What the plots have in common: the paper, the axes, the lines and their names. Where a value lies on it is the plot's
/// matter. It is drawn with whole numbers, so that it is the same on every machine.
struct PlotFrame {
  /// How a point is drawn, which says how what it stands for ended.
  enum Mark: CaseIterable {
    case dot
    case ring
    case cross
  }

  struct Point {
    let x: UInt64
    let y: UInt64
    var mark = Mark.dot
  }

  /// One line.
  struct Series {
    let label: String
    let color: String
    let points: [Point]
  }

  /// A value that others are held against.
  struct Limit {
    let label: String
    let value: UInt64
  }

  /// A number on an axis, or the name of a line.
  struct Tick {
    let text: String
    let place: Int
    var color = PlotFrame.grey
  }

  let title: String
  let subtitle: String
  let xTitle: String
  let height: Int
  let top: Int
  /// From the horizontal axis to its title.
  let xTitleDistance: Int

  static let width = 900
  static let left = 92
  static let right = 610
  static let bottom = 400
  static let grey = "#7b8794"
  static let small = SVGDrawing.TextStyle(size: 11, fill: "#52606d")
  private static let dashes = "stroke-dasharray=\"5 4\""

  /// The title and the axes, on an empty page.
  func drawing(xTicks: [Tick], yTicks: [Tick]) -> SVGDrawing {
    var drawing = SVGDrawing()
    drawing.text(title, x: 24, y: 34, style: SVGDrawing.TextStyle(size: 16, isBold: true))
    drawing.text(subtitle, x: 24, y: 56, style: Self.small)
    let faint = "#e4e7eb"
    for tick in xTicks {
      drawing.path("M\(tick.place) \(top)V\(Self.bottom)", stroke: faint, width: 1)
      drawing.text(
        tick.text, x: tick.place - SVGDrawing.width(of: tick.text, size: 11) / 2, y: Self.bottom + 20,
        style: Self.small)
    }
    for tick in yTicks {
      drawing.path("M\(Self.left) \(tick.place)H\(Self.right)", stroke: faint, width: 1)
      drawing.text(
        tick.text, x: Self.left - 10 - SVGDrawing.width(of: tick.text, size: 11), y: tick.place + 4,
        style: Self.small)
    }
    drawing.text(
      xTitle, x: (Self.left + Self.right - SVGDrawing.width(of: xTitle, size: 11)) / 2,
      y: Self.bottom + xTitleDistance, style: Self.small)
    return drawing
  }

  /// A limit on the horizontal axis, with its name above it.
  func paintXLimit(_ label: String, at x: Int, on drawing: inout SVGDrawing) {
    drawing.path("M\(x) \(top)V\(Self.bottom)", stroke: Self.grey, width: 1, attributes: Self.dashes)
    drawing.text(
      label, x: x - SVGDrawing.width(of: label, size: 12) / 2, y: top - 8,
      style: SVGDrawing.TextStyle(size: 12, fill: Self.grey))
  }

  /// A limit on the vertical axis.
  func paintYLimit(at y: Int, on drawing: inout SVGDrawing) {
    drawing.path("M\(Self.left) \(y)H\(Self.right)", stroke: Self.grey, width: 1, attributes: Self.dashes)
  }

  /// A line and its points.
  /// - Parameters:
  ///   - place: where a point lies.
  ///   - yName: what its value on the vertical axis is called.
  func paint(
    _ line: Series, on drawing: inout SVGDrawing, yName: (UInt64) -> String, place: (Point) -> (x: Int, y: Int)
  ) {
    let places = line.points.map(place)
    let data = places.enumerated().map { "\($0 == 0 ? "M" : "L")\($1.x) \($1.y)" }.joined()
    drawing.path(data, stroke: line.color, width: 2)
    for (place, point) in zip(places, line.points) {
      paint(
        point.mark, x: place.x, y: place.y, line.color, on: &drawing,
        title: "\(line.label): \(Figures.grouped(point.x)): \(yName(point.y))")
    }
  }

  /// A point.
  func paint(_ mark: Mark, x: Int, y: Int, _ color: String, on drawing: inout SVGDrawing, title: String? = nil) {
    switch mark {
    case .dot:
      drawing.rectangle(
        SVGDrawing.Area(x: x - 3, y: y - 3, width: 6, height: 6), fill: color, radius: 3, title: title)
    case .ring:
      drawing.rectangle(
        SVGDrawing.Area(x: x - 4, y: y - 4, width: 8, height: 8), fill: "#ffffff", stroke: color, strokeWidth: 2,
        radius: 4, title: title)
    case .cross:
      drawing.path("M\(x - 4) \(y - 4)l8 8m0-8l-8 8", stroke: color, width: 2, title: title)
    }
  }

  /// Names right of the lines' ends, each as near to its own as the others let it be.
  func paintNames(_ names: [Tick], on drawing: inout SVGDrawing) {
    var free = top - 8
    for name in names.sorted(by: { $0.place < $1.place }) {
      let place = max(free, name.place)
      drawing.text(
        name.text, x: Self.right + 12, y: place + 4, style: SVGDrawing.TextStyle(size: 12, fill: name.color))
      free = place + 18
    }
  }

  /// The picture as a file.
  func document(_ drawing: SVGDrawing) -> String {
    drawing.document(width: Self.width, height: height, title: title, definitions: "")
  }
}
