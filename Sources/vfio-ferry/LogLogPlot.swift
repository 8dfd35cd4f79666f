// SPDX-License-Identifier: Apache-2.0

/// Lines over a plane in which each step is ten times the one before, in both directions. A value of 0 has a place of its own
/// below all others.
struct LogLogPlot {
  let title: String
  let subtitle: String
  let xTitle: String
  /// What a value on the vertical axis is called.
  let yName: (UInt64) -> String
  let series: [PlotFrame.Series]
  var limits: [PlotFrame.Limit] = []

  static let height = 470

  private var frame: PlotFrame {
    PlotFrame(title: title, subtitle: subtitle, xTitle: xTitle, height: Self.height, top: 84, xTitleDistance: 46)
  }

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
  private var floor: Int { PlotFrame.bottom - (hasZero ? 36 : 0) }

  private func x(_ value: UInt64) -> Int {
    let range = xDecades
    return PlotFrame.left + 16
      + (PlotFrame.right - PlotFrame.left - 32) * (Self.thousandthsOfLogarithm(value) - 1000 * range.lowerBound)
      / (1000 * range.count - 1000)
  }

  private func y(_ value: UInt64) -> Int {
    guard value > 0 else { return PlotFrame.bottom }
    let range = yDecades
    return floor
      - (floor - frame.top) * (Self.thousandthsOfLogarithm(value) - 1000 * range.lowerBound)
      / (1000 * range.count - 1000)
  }

  /// The picture.
  var drawing: SVGDrawing {
    let frame = frame
    var drawing = frame.drawing(
      xTicks: xDecades.map(Self.power).map { PlotFrame.Tick(text: Figures.grouped($0), place: x($0)) },
      yTicks: ((hasZero ? [0] : []) + yDecades.map(Self.power)).map {
        PlotFrame.Tick(text: yName($0), place: y($0))
      })
    for limit in limits { frame.paintYLimit(at: y(limit.value), on: &drawing) }
    for line in series { frame.paint(line, on: &drawing, yName: yName) { (x($0.x), y($0.y)) } }
    let names = series.map { line in
      PlotFrame.Tick(text: line.label, place: line.points.last.map { y($0.y) } ?? frame.top, color: line.color)
    }
    frame.paintNames(
      names + limits.map { PlotFrame.Tick(text: $0.label, place: y($0.value)) }, on: &drawing)
    return drawing
  }

  /// The picture as a file.
  var document: String { frame.document(drawing) }
}
