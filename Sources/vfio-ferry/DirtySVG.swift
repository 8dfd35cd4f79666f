// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// Dirty memory over time: how fast it became dirty, and below, over the same time, which of it.
struct DirtySVG {
  private let figures: DirtyFigures
  private let link: UInt64?
  private var drawing = SVGDrawing()

  private static let width = 1000
  private static let margin = 24
  private static let left = 190
  private static let right = 976
  private static let rateTop = 148
  private static let rateHeight = 130
  private static let mapTop = 338
  private static let plain = SVGDrawing.TextStyle(size: 12)
  private static let faint = SVGDrawing.TextStyle(size: 10, fill: "#52606d")

  /// - Parameters:
  ///   - heading: what is watched, and by what.
  ///   - link: bytes a second that the link carries.
  init(_ figures: DirtyFigures, heading: String, link: UInt64?) {
    self.figures = figures
    self.link = link
    drawing.text(
      "Guest memory that devices write to", x: Self.margin, y: 34, style: SVGDrawing.TextStyle(size: 18, isBold: true))
    let sentences = DirtySentences(figures: figures, link: link)
    let rates =
      "\(DirtySentences.rate(figures.meanBytesPerSecond)) became dirty in the mean, "
      + "\(DirtySentences.rate(figures.peakBytesPerSecond)) at the peak"
    for (index, text) in [heading, rates, sentences.workingSet, sentences.meaning].enumerated() {
      let letters = SVGDrawing.letters(in: Self.width - 2 * Self.margin, size: 12)
      drawing.text(text.clipped(to: letters), x: Self.margin, y: 56 + 18 * index, style: Self.plain)
    }
    paintRates()
    let bottom = paintMap()
    height = paintLegend(from: bottom + 40) + Self.margin
  }

  private var height = 0

  /// The picture as a file.
  var document: String {
    drawing.document(width: Self.width, height: height, title: "Dirty pages over time", definitions: "")
  }

  // MARK: Scales

  /// Where a moment is drawn.
  private func x(_ microseconds: UInt64) -> Int {
    let product = microseconds.multipliedFullWidth(by: UInt64(Self.right - Self.left))
    let all = max(1, figures.microseconds)
    return Self.left + (product.high < all ? Int(all.dividingFullWidth(product).quotient) : 0)
  }

  private func rate(_ column: DirtyHistory.Column) -> UInt64 {
    let bytes = column.pages.reduce(0, +) * figures.buckets.layout.pageSize
    return Self.perSecond(bytes, column.microseconds)
  }

  private static func perSecond(_ amount: UInt64, _ microseconds: UInt64) -> UInt64 {
    let product = amount.multipliedFullWidth(by: 1_000_000)
    return product.high < microseconds ? microseconds.dividingFullWidth(product).quotient : .max
  }

  /// A step of 1, 2 or 5 times a power of ten, so that there are at most so many.
  static func step(_ end: UInt64, atMost count: UInt64) -> UInt64 {
    var power: UInt64 = 1
    while true {
      for factor: UInt64 in [1, 2, 5] where end / (factor * power) <= count { return factor * power }
      power *= 10
    }
  }

  // MARK: Rates

  private mutating func paintRates() {
    let bottom = Self.rateTop + Self.rateHeight
    let columns = figures.history.columns
    let rates = columns.map(rate)
    let highest = rates.max() ?? 0
    // A link far above what is written would press the line flat: it is named instead of drawn.
    let drawnLink = link.flatMap { $0 <= 4 * max(highest, 1) ? $0 : nil }
    let top = max(highest, drawnLink ?? 0, 4096)
    func y(_ rate: UInt64) -> Int { bottom - Int(rate.multipliedFullWidth(by: UInt64(Self.rateHeight)).low / top) }
    drawing.text("dirty memory a second", x: Self.margin, y: Self.rateTop - 14, style: Self.plain)
    for part: UInt64 in [0, 1, 2] {
      let value = top / 2 * part
      drawing.path("M \(Self.left) \(y(value)) L \(Self.right) \(y(value))", stroke: "#d9dee4", width: 1)
      right(DirtySentences.rate(value), y: y(value) + 4)
    }
    if !columns.isEmpty {
      var line = ""
      for (column, rate) in zip(columns, rates) {
        line += line.isEmpty ? "M " : "L "
        line += "\(x(column.start)) \(y(rate)) L \(x(column.start + column.microseconds)) \(y(rate)) "
      }
      drawing.path(line, stroke: "#b82a24", width: 2, title: "dirty memory a second")
    }
    guard let link else { return }
    let words = "the link: \(Figures.linkRate(link))"
    if let drawnLink {
      drawing.path(
        "M \(Self.left) \(y(drawnLink)) L \(Self.right) \(y(drawnLink))", stroke: "#1f6f8b", width: 2,
        attributes: "stroke-dasharray=\"6 4\"", title: words)
    }
    let text = drawnLink == nil ? "\(words), far above" : words
    drawing.text(
      text, x: Self.right - SVGDrawing.width(of: text, size: 12), y: Self.rateTop - 14,
      style: SVGDrawing.TextStyle(size: 12, fill: "#1f6f8b", isBold: true))
  }

  /// A label that ends at the plots' left edge.
  private mutating func right(_ text: String, y: Int) {
    drawing.text(text, x: Self.left - 8 - SVGDrawing.width(of: text, size: 10), y: y, style: Self.faint)
  }

  // MARK: Map

  private mutating func paintMap() -> Int {
    let history = figures.history
    let layout = history.rows.layout
    let rowHeight = max(2, min(16, 420 / max(1, history.rows.count)))
    let values = history.columns.map { column in column.pages.map { Self.perSecond($0 * 16, column.microseconds) } }
    let most = values.flatMap { $0 }.max() ?? 0
    drawing.text("guest memory by its I/O address", x: Self.margin, y: Self.mapTop - 14, style: Self.plain)
    var y = Self.mapTop
    for part in layout.parts.indices {
      let rows = history.rows.buckets(of: part)
      let area = SVGDrawing.Area(
        x: Self.left, y: y, width: Self.right - Self.left, height: max(rowHeight * rows.count, 14))
      drawing.rectangle(area, fill: DirtyHeat.pictureColours[0], title: Figures.range(layout.parts[part].range))
      right(Figures.range(layout.parts[part].range), y: y + 11)
      for row in rows {
        paintRow(values.map { DirtyHeat.shade($0[row], of: most) }, y: y, height: rowHeight)
        y += rowHeight
      }
      y = area.bottom + 10
    }
    paintTimes(bottom: y - 10)
    return y - 10
  }

  /// One row: neighbours of one shade are one rectangle.
  private mutating func paintRow(_ shades: [Int], y: Int, height: Int) {
    let columns = figures.history.columns
    var first = 0
    while first < shades.count {
      var end = first + 1
      while end < shades.count, shades[end] == shades[first] { end += 1 }
      if shades[first] > 0 {
        let x = x(columns[first].start)
        let right = self.x(columns[end - 1].start + columns[end - 1].microseconds)
        drawing.rectangle(
          SVGDrawing.Area(x: x, y: y, width: max(1, right - x), height: height),
          fill: DirtyHeat.pictureColours[shades[first]])
      }
      first = end
    }
  }

  private mutating func paintTimes(bottom: Int) {
    let step = Self.step(max(1, figures.microseconds), atMost: 10)
    for time in stride(from: 0, through: figures.microseconds, by: Int(step)) {
      let place = x(time)
      drawing.path("M \(place) \(bottom) L \(place) \(bottom + 5)", stroke: "#52606d", width: 1)
      let label =
        step % 1_000_000 == 0 ? "\(time / 1_000_000) s" : "\(DirtyReport.seconds(time)) s"
      let width = SVGDrawing.width(of: label, size: 10)
      drawing.text(label, x: min(place - width / 2, Self.right - width), y: bottom + 18, style: Self.faint)
    }
  }

  // MARK: Legend

  private mutating func paintLegend(from top: Int) -> Int {
    let size = Figures.wholeUnits(figures.history.rows.size)
    let most =
      figures.history.columns.map { column in
        Self.perSecond(column.pages.max() ?? 0, column.microseconds)
      }.max() ?? 0
    drawing.text("pages a second in \(size)", x: Self.margin, y: top + 12, style: Self.plain)
    let boxes = DirtyHeat.pictureColours.indices
    for shade in boxes {
      let area = SVGDrawing.Area(x: Self.left + 84 * shade, y: top, width: 80, height: 14)
      drawing.rectangle(area, fill: DirtyHeat.pictureColours[shade])
      let label: String
      switch shade {
      case 0: label = "none"
      case DirtyHeat.shades: label = "to \(most)"
      default: label = "to \(most >> UInt64(DirtyHeat.shades - shade))"
      }
      drawing.text(label, x: area.x, y: top + 28, style: Self.faint)
    }
    return top + 32
  }
}
