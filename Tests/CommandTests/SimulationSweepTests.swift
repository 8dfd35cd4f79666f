// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation
@testable import vfio_ferry

struct SimulationSweepTests {
  /// Invented rows that grow as those of a sweep do.
  private static func rows(breaking: Bool) -> [QuiescingSweepRow] {
    [1, 100, 10_000, 100_000].flatMap { size in
      QuiescingSweepWay.allCases.map { way in
        var result = QuiescingSweepResult()
        let drains = way.quiescing == .drainingMessages
        result.quiescingMicroseconds = drains ? 300 + UInt64(size) : 300
        result.downtimeMicroseconds = 2_000 + UInt64(size) + (drains ? UInt64(size) : 0)
        result.sentAgain = size * 2
        result.broken = breaking && way.timeouts == .fixed && size > 100 ? size / 10 : 0
        result.longestSilence = 2_000 + UInt64(size)
        result.imageBytes = UInt64(size) * 4096
        return QuiescingSweepRow(queuePairs: size, way: way, result: result, still: QuiescingSweepResult())
      }
    }
  }

  private static func plots(_ page: SimulationSweepPage) -> [LogLogPlot] {
    [page.quiescing, page.downtime, page.connections]
  }

  @Test("no two texts of a plot lie on each other, and none leaves the page", arguments: [false, true])
  func texts(breaking: Bool) {
    for plot in Self.plots(SimulationSweepPage(rows: Self.rows(breaking: breaking))) {
      expectTextsApart(plot.drawing, width: PlotFrame.width, height: LogLogPlot.height, plot.title)
    }
  }

  @Test("a logarithm is right to a thousandth")
  func logarithms() {
    for (number, thousandths) in [(1, 0), (2, 301), (3, 477), (10, 1000), (999, 3000), (1_000_000, 6000)]
      as [(UInt64, Int)]
    {
      #expect(LogLogPlot.thousandthsOfLogarithm(number) == thousandths, "\(number)")
    }
    #expect(LogLogPlot.thousandthsOfLogarithm(.max) == 19_266)
  }

  @Test("the page says from which number on something breaks, and what it was made by")
  func page() throws {
    let page = SimulationSweepPage(rows: Self.rows(breaking: true))
    #expect(page.files.map(\.name) == ["da3-da4.md", "da4-quiescing.svg", "da4-downtime.svg", "da3-connections.svg"])
    let text = try #require(page.files.first?.content)
    #expect(text.contains("vfio-ferry simulate --compare docs"))
    #expect(text.contains("connections break from 10,000 queue pairs on, 10,000 of 100,000 in the end"))
    #expect(text.contains("From 10,000 queue pairs on draining alone takes longer than fixed time-outs last"))
    #expect(
      text.contains("| 100,000 | between packets | doubling | 300 | 102,000 | 200,000 | 0 | 102,000 | 409,600,000 |"))
    let intact = try #require(SimulationSweepPage(rows: Self.rows(breaking: false)).files.first?.content)
    #expect(!intact.contains("connections break from"))
  }

  @Test("the lines of a table are equally long, and JSON has every row")
  func table() {
    let rows = Self.rows(breaking: true)
    let table = ColumnTable(quiescing: rows)
    #expect(Set(table.lines.map(\.count)).count == 1)
    #expect(table.lines.count == rows.count + 1)
    #expect(table.markdown.count == rows.count + 2)
    guard case .array(let values) = table.json else {
      Issue.record("no list")
      return
    }
    #expect(values.count == rows.count)
  }

  @Test("numbers have a comma before every three digits")
  func grouping() {
    #expect(
      [0, 12, 999, 1000, -1234, 1_234_567].map { Figures.grouped($0) } == [
        "0", "12", "999", "1,000", "-1,234", "1,234,567",
      ])
  }
}
