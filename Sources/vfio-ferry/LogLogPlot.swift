// SPDX-License-Identifier: Apache-2.0

/// Lines over a plane in which each step is ten times the one before, in both directions. It is drawn with whole numbers, so
/// that it is the same on every machine.
struct LogLogPlot {
  /// One line. A value of 0 has a place of its own below all others.
  struct Series {
    let label: String
    let color: String
    let points: [(x: UInt64, y: UInt64)]
  }

  /// A value that others are held against.
  struct Limit {
    let label: String
    let value: UInt64
  }

  let title: String
  let subtitle: String
  let xTitle: String
  /// What a value on the vertical axis is called.
  let yName: (UInt64) -> String
  let series: [Series]
  var limits: [Limit] = []

  static let width = 900
  static let height = 470
  private static let left = 92
  private static let right = 610
  private static let top = 84
  private static let bottom = 400
  private static let grey = "#7b8794"
  private static let small = SVGDrawing.TextStyle(size: 11, fill: "#52606d")

  /// A thousand times the decimal logarithm of a number that is not 0, rounded.
  static func thousandthsOfLogarithm(_ number: UInt64) -> Int {
    let exponent = 63 - number.leadingZeroBitCount
    // The number as one before the binary point: each squaring gives another digit of its binary logarithm.
    var mantissa = number << UInt64(63 - exponent)
    var logarithm = UInt64(exponent)
    for _ in 0..<20 {
      mantissa = mantissa.multipliedFullWidth(by: mantissa).high
      logarithm <<= 1
      if mantissa >> 63 == 1 { logarithm |= 1 } else { mantissa <<= 1 }
    }
    return Int(((logarithm * 301_030 / 1000) + (1 << 19)) >> 20)
  }

  /// Powers of ten from the last that no value is below to the first that none is above.
  private static func decades(_ values: [UInt64]) -> ClosedRange<Int> {
    let logarithms = values.filter { $0 > 0 }.map(thousandthsOfLogarithm)
    let first = (logarithms.min() ?? 0) / 1000
    return first...max(first + 1, ((logarithms.max() ?? 0) + 999) / 1000)
  }

  private static func power(_ exponent: Int) -> UInt64 { (0..<exponent).reduce(1) { value, _ in value * 10 } }

  private var xDecades: ClosedRange<Int> { Self.decades(series.flatMap { $0.points.map(\.x) }) }
  private var yDecades: ClosedRange<Int> {
    Self.decades(series.flatMap { $0.points.map(\.y) } + limits.map(\.value))
  }
  private var hasZero: Bool { series.contains { $0.points.contains { $0.y == 0 } } }
  /// Where the lowest power of ten is.
  private var floor: Int { Self.bottom - (hasZero ? 36 : 0) }

  private func x(_ value: UInt64) -> Int {
    let range = xDecades
    return Self.left + 16
      + (Self.right - Self.left - 32) * (Self.thousandthsOfLogarithm(value) - 1000 * range.lowerBound)
      / (1000 * range.count - 1000)
  }

  private func y(_ value: UInt64) -> Int {
    guard value > 0 else { return Self.bottom }
    let range = yDecades
    return floor
      - (floor - Self.top) * (Self.thousandthsOfLogarithm(value) - 1000 * range.lowerBound)
      / (1000 * range.count - 1000)
  }

  /// The picture.
  var drawing: SVGDrawing {
    var drawing = SVGDrawing()
    drawing.text(title, x: 24, y: 34, style: SVGDrawing.TextStyle(size: 16, isBold: true))
    drawing.text(subtitle, x: 24, y: 56, style: Self.small)
    paintAxes(&drawing)
    for limit in limits {
      drawing.path(
        "M\(Self.left) \(y(limit.value))H\(Self.right)", stroke: Self.grey, width: 1,
        attributes: "stroke-dasharray=\"5 4\""
      )
    }
    for line in series {
      let places = line.points.map { (x: x($0.x), y: y($0.y)) }
      let data = places.enumerated().map { "\($0 == 0 ? "M" : "L")\($1.x) \($1.y)" }.joined()
      drawing.path(data, stroke: line.color, width: 2)
      for (place, point) in zip(places, line.points) {
        drawing.rectangle(
          SVGDrawing.Area(x: place.x - 3, y: place.y - 3, width: 6, height: 6), fill: line.color, radius: 3,
          title: "\(line.label): \(Figures.grouped(point.x)): \(yName(point.y))")
      }
    }
    paintLabels(&drawing)
    return drawing
  }

  /// The picture as a file.
  var document: String {
    drawing.document(width: Self.width, height: Self.height, title: title, definitions: "")
  }

  private func paintAxes(_ drawing: inout SVGDrawing) {
    let faint = "#e4e7eb"
    for exponent in xDecades {
      let value = Self.power(exponent)
      let text = Figures.grouped(value)
      drawing.path("M\(x(value)) \(Self.top)V\(Self.bottom)", stroke: faint, width: 1)
      drawing.text(
        text, x: x(value) - SVGDrawing.width(of: text, size: 11) / 2, y: Self.bottom + 20, style: Self.small)
    }
    for value in (hasZero ? [0] : []) + yDecades.map(Self.power) {
      let text = yName(value)
      drawing.path("M\(Self.left) \(y(value))H\(Self.right)", stroke: faint, width: 1)
      drawing.text(
        text, x: Self.left - 10 - SVGDrawing.width(of: text, size: 11), y: y(value) + 4, style: Self.small)
    }
    drawing.text(
      xTitle, x: (Self.left + Self.right - SVGDrawing.width(of: xTitle, size: 11)) / 2, y: Self.bottom + 46,
      style: Self.small)
  }

  /// Right of the lines' ends, each as near to its own as the others let it be.
  private func paintLabels(_ drawing: inout SVGDrawing) {
    var labels = series.map { (text: $0.label, color: $0.color, y: $0.points.last.map { y($0.y) } ?? Self.top) }
    labels += limits.map { (text: $0.label, color: Self.grey, y: y($0.value)) }
    labels.sort { $0.y < $1.y }
    var free = Self.top - 8
    for label in labels {
      let place = max(free, label.y)
      drawing.text(
        label.text, x: Self.right + 12, y: place + 4, style: SVGDrawing.TextStyle(size: 12, fill: label.color))
      free = place + 18
    }
  }
}
