// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Testing

@testable import Simulation
@testable import vfio_ferry

@Suite("simulate --throttle")
struct SimulationThrottleTests {
  /// Invented rows as those of a sweep are: without limits moves fail from 16 Gbit/s on.
  private static func rows(helps: Bool = true) -> [ThrottleSweepRow] {
    ([2, 8, 15, 16, 32] as [UInt64]).flatMap { rate in
      ThrottleSweepWay.allCases.map { way in
        var result = ThrottleSweepResult()
        let isFast = rate >= 16
        result.ending = !isFast || (way == .throttle && helps) ? .moved : way == .force ? .forced : .gaveUp
        result.rounds = Int(rate) * 2 + (way == .throttle && isFast ? 8 : 0)
        result.totalMicroseconds = 50_000_000 + rate * 1_200_000
        result.foretoldMicroseconds = isFast && way != .throttle ? rate * 200_000 : 280_000
        if result.ending != .gaveUp { result.downtimeMicroseconds = result.foretoldMicroseconds }
        result.memoryBytes = 101_230_000_000
        if isFast, way == .throttle {
          result.limits = [1_000_000_000, 500_000_000]
          result.limitedMicroseconds = 12_340_000
        }
        return ThrottleSweepRow(gigabits: rate, way: way, result: result)
      }
    }
  }

  private static func page(helps: Bool = true) -> SimulationThrottlePage {
    SimulationThrottlePage(rows: rows(helps: helps), guestBytes: 100_000_000_000)
  }

  @Test("no two texts of a plot lie on each other, and none leaves the page", arguments: [false, true])
  func texts(helps: Bool) {
    let page = Self.page(helps: helps)
    for plot in [page.rounds, page.time, page.downtime] {
      expectTextsApart(plot.drawing, width: PlotFrame.width, height: LinearPlot.height, plot.title)
    }
  }

  @Test("the legend has the marks that there are, and no others")
  func legend() {
    func texts(_ plot: LinearPlot) -> [String] { plot.drawing.textBoxes.map(\.text) }
    let page = Self.page()
    #expect(texts(page.rounds).contains("gave up"))
    #expect(!texts(page.rounds).contains("moved, stopped all the same"))
    #expect(texts(page.downtime).contains("moved, stopped all the same"))
    #expect(!texts(page.downtime).contains("gave up"))
    #expect(texts(page.rounds).contains("the link's rate"))
  }

  @Test("steps of an axis are round, and seven of them are enough")
  func steps() {
    let values: [UInt64] = [0, 1, 7, 8, 14, 15, 35, 36, 70, 71, 123_456_789]
    #expect(values.map(LinearPlot.step) == [1, 1, 1, 2, 2, 5, 5, 10, 10, 20, 20_000_000])
  }

  @Test("the page says up to which rate moves end without a limit, what a limit is good for, and what it was made by")
  func page() throws {
    let files = Self.page().files
    #expect(files.map(\.name) == ["da9.md", "da9-rounds.svg", "da9-time.svg", "da9-downtime.svg"])
    let text = try #require(files.first?.content)
    #expect(text.contains("    vfio-ferry simulate --throttle docs\n"))
    #expect(text.contains("up to 15 Gbit/s, and takes ever more rounds: 4 at 2 Gbit/s, 30 at 15 Gbit/s."))
    #expect(
      text.contains(
        "- From 16 Gbit/s on it does not: after 32 rounds and 69.2 s there, 64 and 88.4 s at 32 Gbit/s, it is given up."
      ))
    #expect(text.contains("With limits it ends at every rate"))
    #expect(text.contains("no less than 4.0 Gbit/s"))
    #expect(
      text.contains("| 32 | limit the NIC | 72 | 88.4 | 101.2 | 280.0 | 280.0 | 4.0 | 12.3 | moved |"))
    let other = try #require(Self.page(helps: false).files.first?.content)
    #expect(!other.contains("ends at every rate"))
  }

  @Test("the lines of a table are as many as its rows, and JSON has every row with its limits")
  func table() {
    let table = ColumnTable(throttle: Self.rows())
    #expect(table.lines.count == 16)
    #expect(table.markdown.count == 17)
    let json = table.json.text(pretty: false)
    #expect(
      json.contains(
        #""nic_bytes_per_second":4000000000,"way":"throttle","ending":"moved","rounds":72,"total_us":88400000,"#))
    #expect(json.contains(#""inbound_limits_bytes_per_second":[1000000000,500000000],"limited_us":12340000"#))
    #expect(json.contains(#""way":"give-up","ending":"gave-up""#) && json.contains(#""downtime_us":null"#))
  }

  @Test(
    "a small sweep prints its table or its JSON, and leaves a page with pictures in the folder",
    arguments: [false, true])
  func command(wantsJSON: Bool) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("da9-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(at: folder) }
    let collector = Collector()
    let command = try SimulateCommand.parse(["--throttle", folder.path] + (wantsJSON ? ["--json"] : []))
    let sweep = ThrottleSweep(rates: [4, 24], guestBytes: 1_000_000_000)
    try command.sweep(sweep, into: folder.path, collector.console)
    if wantsJSON {
      #expect(collector.out.hasPrefix(#"{"rows":[{"nic_bytes_per_second":500000000,"#))
    } else {
      #expect(collector.out.split(separator: "\n").count == 7)
      #expect(collector.out.hasPrefix("NIC, GBIT/S"))
    }
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    #expect(names == ["da9-downtime.svg", "da9-rounds.svg", "da9-time.svg", "da9.md"])
  }

  @Test("a folder that is not there fails before anything is played", arguments: ["--throttle", "--compare"])
  func noFolder(option: String) throws {
    let collector = Collector()
    #expect {
      try SimulateCommand.parse([option, "/nonexistent/folder"]).execute(collector.console)
    } throws: { error in
      guard let failure = error as? CommandFailure else { return false }
      return failure.status == .failed && failure.message.contains("/nonexistent/folder")
    }
    #expect(collector.out.isEmpty)
  }

  @Test(
    "--throttle goes with --json alone",
    arguments: [
      ["nic"], ["--seed", "2"], ["--seeds", "5"], ["--svg", "x"], ["--faults"], ["--drain"], ["--judge-check"],
      ["--compare", "docs"],
    ])
  func misuse(others: [String]) {
    #expect(throws: (any Error).self) { try SimulateCommand.parse(["--throttle", "docs"] + others) }
  }

  @Test("--throttle without a folder's name is misuse")
  func emptyName() {
    #expect(throws: (any Error).self) { try SimulateCommand.parse(["--throttle", ""]) }
  }
}
