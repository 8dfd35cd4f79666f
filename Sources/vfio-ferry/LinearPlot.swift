// SPDX-License-Identifier: Apache-2.0

/// Lines over a plane whose axes begin with 0 and have equal steps.
struct LinearPlot {
  let title: String
  let subtitle: String
  let xTitle: String
  /// From one number under the horizontal axis to the next.
  let xStep: UInt64
  /// What a value on the vertical axis is called.
  let yName: (UInt64) -> String
  let series: [PlotFrame.Series]
  /// On the horizontal axis.
  var xLimit: PlotFrame.Limit?
  /// On the vertical axis.
  var yLimit: PlotFrame.Limit?
  /// What marks mean; only those that there are get into the legend.
  var meanings: [(mark: PlotFrame.Mark, text: String)] = []

  static let height = 500

  private var frame: PlotFrame {
    PlotFrame(title: title, subtitle: subtitle, xTitle: xTitle, height: Self.height, top: 92, xTitleDistance: 44)
  }

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
    PlotFrame.left + Int(value * UInt64(PlotFrame.right - PlotFrame.left) / (xSteps.last ?? 1))
  }

  private func y(_ value: UInt64) -> Int {
    PlotFrame.bottom - Int(value * UInt64(PlotFrame.bottom - frame.top) / (ySteps.last ?? 1))
  }

  /// The picture.
  var drawing: SVGDrawing {
    let frame = frame
    var drawing = frame.drawing(
      xTicks: xSteps.map { PlotFrame.Tick(text: Figures.grouped($0), place: x($0)) },
      yTicks: ySteps.map { PlotFrame.Tick(text: yName($0), place: y($0)) })
    if let xLimit { frame.paintXLimit(xLimit.label, at: x(xLimit.value), on: &drawing) }
    if let yLimit { frame.paintYLimit(at: y(yLimit.value), on: &drawing) }
    for line in series { frame.paint(line, on: &drawing, yName: yName) { (x($0.x), y($0.y)) } }
    var names = series.map { line in
      PlotFrame.Tick(text: line.label, place: line.points.last.map { y($0.y) } ?? frame.top, color: line.color)
    }
    if let yLimit { names.append(PlotFrame.Tick(text: yLimit.label, place: y(yLimit.value))) }
    frame.paintNames(names, on: &drawing)
    paintLegend(frame, on: &drawing)
    return drawing
  }

  /// The picture as a file.
  var document: String { frame.document(drawing) }

  /// Below everything: what the marks mean that there are.
  private func paintLegend(_ frame: PlotFrame, on drawing: inout SVGDrawing) {
    let marks = Set(series.flatMap { $0.points.map(\.mark) })
    var place = PlotFrame.left
    let line = Self.height - 26
    for (mark, text) in meanings where marks.contains(mark) {
      frame.paint(mark, x: place + 4, y: line - 4, PlotFrame.grey, on: &drawing)
      drawing.text(text, x: place + 16, y: line, style: PlotFrame.small)
      place += 16 + SVGDrawing.width(of: text, size: 11) + 28
    }
  }
}
