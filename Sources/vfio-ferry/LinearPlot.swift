// SPDX-License-Identifier: Apache-2.0

/// Lines over a plane whose axes begin with 0 and have equal steps. It is drawn with whole numbers, so that it is the same on
/// every machine.
struct LinearPlot {
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

  let title: String
  let subtitle: String
  let xTitle: String
  /// From one number under the horizontal axis to the next.
  let xStep: UInt64
  /// What a value on the vertical axis is called.
  let yName: (UInt64) -> String
  let series: [Series]
  /// On the horizontal axis.
  var xLimit: Limit?
  /// On the vertical axis.
  var yLimit: Limit?
  /// What marks mean; only those that there are get into the legend.
  var meanings: [(mark: Mark, text: String)] = []

  static let width = 900
  static let height = 500
  private static let left = 92
  private static let right = 610
  private static let top = 92
  private static let bottom = 400
  private static let grey = "#7b8794"
  private static let small = SVGDrawing.TextStyle(size: 11, fill: "#52606d")

  /// The least of 1, 2, 5, 10, 20, 50 and so on of which at most seven reach a value.
  static func step(reaching value: UInt64) -> UInt64 {
    var power: UInt64 = 1
    while true {
      if let step = [1, 2, 5].map({ $0 * power }).first(where: { $0 * 7 >= value }) { return step }
      power *= 10
    }
  }

  private static func steps(_ step: UInt64, reaching value: UInt64) -> [UInt64] {
    Array(stride(from: 0, through: max(1, (value + step - 1) / step) * step, by: UInt64.Stride(step)))
  }

  private var xSteps: [UInt64] {
    let greatest = series.flatMap { $0.points.map(\.x) }.max() ?? 0
    return Self.steps(xStep, reaching: max(greatest, xLimit?.value ?? 0))
  }
  private var ySteps: [UInt64] {
    let greatest = max(series.flatMap { $0.points.map(\.y) }.max() ?? 0, yLimit?.value ?? 0)
    return Self.steps(Self.step(reaching: greatest), reaching: greatest)
  }

  private func x(_ value: UInt64) -> Int {
    Self.left + Int(value * UInt64(Self.right - Self.left) / (xSteps.last ?? 1))
  }

  private func y(_ value: UInt64) -> Int {
    Self.bottom - Int(value * UInt64(Self.bottom - Self.top) / (ySteps.last ?? 1))
  }

  /// The picture.
  var drawing: SVGDrawing {
    var drawing = SVGDrawing()
    drawing.text(title, x: 24, y: 34, style: SVGDrawing.TextStyle(size: 16, isBold: true))
    drawing.text(subtitle, x: 24, y: 56, style: Self.small)
    paintAxes(&drawing)
    paintLimits(&drawing)
    for line in series {
      let data = line.points.enumerated().map { "\($0 == 0 ? "M" : "L")\(x($1.x)) \(y($1.y))" }.joined()
      drawing.path(data, stroke: line.color, width: 2)
      for point in line.points {
        paint(
          point.mark, x: x(point.x), y: y(point.y), line.color, on: &drawing,
          title: "\(line.label): \(Figures.grouped(point.x)): \(yName(point.y))")
      }
    }
    paintLabels(&drawing)
    paintLegend(&drawing)
    return drawing
  }

  /// The picture as a file.
  var document: String {
    drawing.document(width: Self.width, height: Self.height, title: title, definitions: "")
  }

  private func paint(
    _ mark: Mark, x: Int, y: Int, _ color: String, on drawing: inout SVGDrawing, title: String? = nil
  ) {
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

  private func paintAxes(_ drawing: inout SVGDrawing) {
    let faint = "#e4e7eb"
    for value in xSteps {
      let text = Figures.grouped(value)
      drawing.path("M\(x(value)) \(Self.top)V\(Self.bottom)", stroke: faint, width: 1)
      drawing.text(
        text, x: x(value) - SVGDrawing.width(of: text, size: 11) / 2, y: Self.bottom + 20, style: Self.small)
    }
    for value in ySteps {
      let text = yName(value)
      drawing.path("M\(Self.left) \(y(value))H\(Self.right)", stroke: faint, width: 1)
      drawing.text(
        text, x: Self.left - 10 - SVGDrawing.width(of: text, size: 11), y: y(value) + 4, style: Self.small)
    }
    drawing.text(
      xTitle, x: (Self.left + Self.right - SVGDrawing.width(of: xTitle, size: 11)) / 2, y: Self.bottom + 44,
      style: Self.small)
  }

  private func paintLimits(_ drawing: inout SVGDrawing) {
    let dashes = "stroke-dasharray=\"5 4\""
    if let xLimit {
      let place = x(xLimit.value)
      drawing.path("M\(place) \(Self.top)V\(Self.bottom)", stroke: Self.grey, width: 1, attributes: dashes)
      drawing.text(
        xLimit.label, x: place - SVGDrawing.width(of: xLimit.label, size: 12) / 2, y: Self.top - 8,
        style: SVGDrawing.TextStyle(size: 12, fill: Self.grey))
    }
    if let yLimit {
      drawing.path(
        "M\(Self.left) \(y(yLimit.value))H\(Self.right)", stroke: Self.grey, width: 1, attributes: dashes)
    }
  }

  /// Right of the lines' ends, each as near to its own as the others let it be.
  private func paintLabels(_ drawing: inout SVGDrawing) {
    var labels = series.map { (text: $0.label, color: $0.color, y: $0.points.last.map { y($0.y) } ?? Self.top) }
    if let yLimit { labels.append((text: yLimit.label, color: Self.grey, y: y(yLimit.value))) }
    labels.sort { $0.y < $1.y }
    var free = Self.top - 8
    for label in labels {
      let place = max(free, label.y)
      drawing.text(
        label.text, x: Self.right + 12, y: place + 4, style: SVGDrawing.TextStyle(size: 12, fill: label.color))
      free = place + 18
    }
  }

  /// Below everything: what the marks mean that there are.
  private func paintLegend(_ drawing: inout SVGDrawing) {
    let marks = Set(series.flatMap { $0.points.map(\.mark) })
    var place = Self.left
    let line = Self.height - 26
    for (mark, text) in meanings where marks.contains(mark) {
      paint(mark, x: place + 4, y: line - 4, Self.grey, on: &drawing)
      drawing.text(text, x: place + 16, y: line, style: Self.small)
      place += 16 + SVGDrawing.width(of: text, size: 11) + 28
    }
  }
}
