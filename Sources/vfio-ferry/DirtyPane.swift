// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration

/// Dirty memory as it stands, as lines that fit a terminal: rates, a map of guest memory, and where most is written to.
///
/// A row of the map belongs to one guest range and begins with its address; a letter is a cell of memory.
struct DirtyPane {
  let figures: DirtyFigures
  /// What each device has written in the last interval.
  let devices: [DirtyReport.Device]
  let link: UInt64?
  /// What is watched, and by what.
  let heading: String
  let terminal: Terminal
  let hasColours: Bool

  /// Lines around the map: heading, four of rates, legend, the word before hot ranges, those, and two empty ones.
  private static let hotRanges = 4
  private static let linesAround = 9 + hotRanges
  /// More are not easier to read.
  private static let mostRows = 16

  /// What is drawn. No line is longer than the terminal is wide, not counting colours.
  var lines: [String] {
    // The last column stays free: some terminals wrap there.
    let width = max(terminal.columns - 1, 20)
    let sentences = DirtySentences(figures: figures, link: link)
    let shares = devices.count > 1 ? [DirtyReport.shares(devices)] : []
    var lines = ([heading, sentences.rates] + shares + [sentences.workingSet, sentences.meaning, ""])
      .map { $0.clipped(to: width) }
    lines += map(width)
    lines.append("")
    let hottest = figures.hottest(atMost: Self.hotRanges)
    lines.append(hottest.isEmpty ? "hottest: none" : "hottest")
    for range in hottest { lines.append("  \(DirtySentences.hot(range))".clipped(to: width)) }
    return lines
  }

  private func map(_ width: Int) -> [String] {
    let layout = figures.buckets.layout
    let end = layout.parts.map(\.range.upperBound).max() ?? 0
    let digits = String(end - 1, radix: 16).count
    let room = max(1, width - digits - 4)
    // The largest power of two that fits, so that rows begin at round addresses.
    let cellsInRow = 1 << (Int.bitWidth - 1 - room.leadingZeroBitCount)
    let mostRows = max(1, min(Self.mostRows, terminal.rows - Self.linesAround - 1))
    var cells = DirtyBuckets(layout, atMost: .max, smallest: figures.buckets.size)
    while Self.rows(cells, cellsInRow) > max(mostRows, layout.parts.count), cells.size < 1 << 62 {
      cells = DirtyBuckets(layout, atMost: .max, smallest: cells.size * 2)
    }
    let heat = figures.buckets.sums(of: figures.heat, in: cells)
    let most = heat.max() ?? 0
    var rows: [(heat: UInt64, text: String)] = []
    for part in layout.parts.indices {
      let all = cells.buckets(of: part)
      for first in stride(from: all.lowerBound, to: all.upperBound, by: cellsInRow) {
        let row = first..<min(first + cellsInRow, all.upperBound)
        let address = String(cells.addresses(of: row, in: part).lowerBound, radix: 16)
        let zeros = String(repeating: "0", count: digits - address.count)
        rows.append(
          (
            heat[row].reduce(0, +),
            "0x\(zeros)\(address) " + paint(heat[row].map { DirtyHeat.shade($0, of: most) })
          ))
      }
    }
    var lines = Self.hottest(rows, atMost: mostRows)
    if rows.count > lines.count {
      lines.append("left out, because less hot: \(rows.count - lines.count)".clipped(to: width))
    }
    lines.append(legend(cells.size, most, width))
    return lines
  }

  private static func rows(_ cells: DirtyBuckets, _ cellsInRow: Int) -> Int {
    cells.layout.parts.indices.reduce(0) { $0 + (cells.buckets(of: $1).count + cellsInRow - 1) / cellsInRow }
  }

  /// As many rows as there is room for, in the order in which they are.
  private static func hottest(_ rows: [(heat: UInt64, text: String)], atMost count: Int) -> [String] {
    if rows.count <= count { return rows.map(\.text) }
    let order = rows.indices.sorted { rows[$0].heat == rows[$1].heat ? $0 < $1 : rows[$0].heat > rows[$1].heat }
    return order.prefix(count).sorted().map { rows[$0].text }
  }

  private func legend(_ cellSize: UInt64, _ most: UInt64, _ width: Int) -> String {
    let letters = paint(Array(1...DirtyHeat.shades))
    let rate = most / DirtyFigures.heatOfPage
    let text = "a letter is \(Figures.wholeUnits(cellSize)): . none  "
    let end = " each twice as fast, up to \(rate) pages/s"
    guard text.count + DirtyHeat.shades + end.count <= width else { return "\(text)".clipped(to: width) }
    return text + letters + end
  }

  /// Letters for these shades, with colours where there are any.
  private func paint(_ shades: [Int]) -> String {
    guard hasColours else { return String(shades.map { DirtyHeat.letters[$0] }) }
    var text = ""
    var colour: Int?
    for shade in shades {
      if shade != colour { text += "\u{1b}[38;5;\(DirtyHeat.terminalColours[shade])m" }
      colour = shade
      text.append(DirtyHeat.letters[shade])
    }
    return text + "\u{1b}[0m"
  }
}
