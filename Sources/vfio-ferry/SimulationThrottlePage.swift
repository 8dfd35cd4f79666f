// SPDX-License-Identifier: Apache-2.0
internal import Simulation

/// The page that a throttle sweep is shown on, with its pictures.
struct SimulationThrottlePage {
  let rows: [ThrottleSweepRow]
  /// Bytes of the memory of the guest that was moved.
  let guestBytes: UInt64

  /// The files, by their names in one folder.
  var files: [(name: String, content: String)] {
    [
      ("da9.md", page), ("da9-rounds.svg", rounds.document), ("da9-time.svg", time.document),
      ("da9-downtime.svg", downtime.document),
    ]
  }

  private func rows(_ way: ThrottleSweepWay) -> [ThrottleSweepRow] { rows.filter { $0.way == way } }

  private var link: UInt64 { ThrottleSweep.linkGigabits }
  private var limit: UInt64 { ThrottleSweep.downtimeLimit(guestBytes: guestBytes) }

  // MARK: Pictures

  private static func mark(_ row: ThrottleSweepRow) -> PlotFrame.Mark {
    switch row.result.ending {
    case .moved: .dot
    case .forced: .ring
    case .gaveUp, .failed: .cross
    }
  }

  private func line(
    _ label: String, _ color: String, _ way: ThrottleSweepWay, _ value: (ThrottleSweepResult) -> UInt64?
  ) -> PlotFrame.Series {
    PlotFrame.Series(
      label: label, color: color,
      points: rows(way).compactMap { row in
        value(row.result).map { PlotFrame.Point(x: row.gigabits, y: $0, mark: Self.mark(row)) }
      })
  }

  private func plot(
    _ title: String, _ subtitle: String, yName: @escaping (UInt64) -> String, yLimit: PlotFrame.Limit? = nil,
    _ series: [PlotFrame.Series]
  ) -> LinearPlot {
    LinearPlot(
      title: title, subtitle: subtitle, xTitle: "what the NIC writes to guest memory, Gbit/s", xStep: 4, yName: yName,
      series: series, xLimit: PlotFrame.Limit(label: "the link's rate", value: link), yLimit: yLimit,
      meanings: [
        (.dot, "moved, as short a stop as wanted"), (.ring, "moved, stopped all the same"), (.cross, "gave up"),
      ])
  }

  private static let blue = "#1f6feb"
  private static let red = "#c2410c"
  private static let brown = "#a16207"

  var rounds: LinearPlot {
    plot(
      "DA9: rounds until the guest is stopped, or until the move is given up",
      "readings of dirty pages; the first is all of the guest's memory", yName: { Figures.grouped($0) },
      [
        line("not limited", Self.red, .giveUp) { UInt64($0.rounds) },
        line("limited where it has to be", Self.blue, .throttle) { UInt64($0.rounds) },
      ])
  }

  var time: LinearPlot {
    plot(
      "DA9: the time that the whole move takes", "from its start until the guest runs there, or goes on here",
      yName: Self.seconds,
      [
        line("not limited, stopped all the same", Self.brown, .force, \.totalMicroseconds),
        line("not limited, given up", Self.red, .giveUp, \.totalMicroseconds),
        line("limited where it has to be", Self.blue, .throttle, \.totalMicroseconds),
      ])
  }

  var downtime: LinearPlot {
    plot(
      "DA9: for how long the guest stands still", "from the order to stop until it runs on the other host",
      yName: Self.seconds,
      yLimit: PlotFrame.Limit(label: "as long as it may: \(Figures.short(limit, of: 1000)) ms", value: limit),
      [
        line("not limited, stopped all the same", Self.brown, .force, \.downtimeMicroseconds),
        line("limited where it has to be", Self.blue, .throttle, \.downtimeMicroseconds),
      ])
  }

  private static func seconds(_ microseconds: UInt64) -> String {
    "\(Figures.short(microseconds, of: 1_000_000)) s"
  }

  private static func span(_ microseconds: UInt64) -> String {
    microseconds < 1_000_000 ? "\(Figures.tenths(microseconds, of: 1000)) ms" : seconds(microseconds)
  }

  // MARK: The page

  private var page: String {
    let gigabyte: UInt64 = 1_000_000_000
    let guest = Figures.short(guestBytes, of: gigabyte)
    let set = Figures.short(ThrottleSweep.workingSetBytes(guestBytes: guestBytes), of: gigabyte)
    let image = Figures.short(ThrottleSweep.imageBytes(guestBytes: guestBytes), of: 1_000_000)
    return
      ([
        "<!-- SPDX-License-Identifier: Apache-2.0 -->", "# DA9, measured in the simulated world", "",
        "A device can write to guest memory faster than a link carries it away, and then rounds of pre-copy never get small. Here a",
        "guest is moved whose NIC takes in \(rows.first?.gigabits ?? 0) to \(rows.last?.gigabits ?? 0) Gbit/s, over a link of "
          + "\(link): without limits on what comes in to it, and",
        "with them. This page and its pictures are what one command writes:", "",
        "    vfio-ferry simulate --throttle docs", "", "## What was played", "",
        "- A guest of \(guest) GB in pages of \(ThrottleSweep.pageBytes) bytes, of which one NIC writes to \(set) GB: page by page, each as "
          + "likely as any other.",
        "  Nobody else writes. The pages have no content here; which of them were written is all that is known of them. All runs have",
        "  the same seed.",
        "- The NIC's image has \(image) MB, and \(link) Gbit/s are for all that is sent. The guest may stand still for "
          + "\(Figures.short(limit, of: 1000)) ms.",
        "- The sessions, the rounds and the decisions are those that move real devices; see [simulation.md](simulation.md).",
        "- Each rate is played in three ways. Where rounds don't get smaller, the move is given up; or the guest is stopped all the",
        "  same; or what comes in to the NIC is limited, and given up is only if that does not help.", "",
        "## What came of it", "",
      ] + findings + [
        "", "![Rounds](da9-rounds.svg)", "", "![The time of the whole move](da9-time.svg)", "",
        "![For how long the guest stands still](da9-downtime.svg)", "",
      ] + ColumnTable(throttle: rows).markdown + [
        "",
        "*rounds*: readings of dirty pages before the stop, the first of which is everything. *total*: from the start until both",
        "sides are done. *sent*: guest memory on the link. *foretold*: for how long the guest was going to stand still if it was",
        "stopped, when that was decided or the move was given up. *stood still*: for how long it did. *limited*: from the first limit",
        "to that decision.", "", "## What it does not say", "",
        "- Once the rounds' sizes have settled, how many more of them there are depends on the loop's patience: the lines of rounds",
        "  and of time go down again because faster NICs make it plain sooner that waiting does not help.",
        "- It is a model: a NIC that writes to pages at random dirties more of them than one that fills buffers in turn, and its peers",
        "  do not slow down by themselves when the NIC does.",
        "- A limit costs the guest what it keeps out. That is what *limited* is there for: so long the NIC is as slow as that.",
        "",
      ]).joined(separator: "\n")
  }

  /// What can be read from the rows.
  private var findings: [String] {
    var lines: [String] = []
    func name(_ row: ThrottleSweepRow) -> String { "\(row.gigabits) Gbit/s" }
    let free = rows(.giveUp)
    let ended = free.prefix { $0.result.ending == .moved }
    if let first = ended.first, let last = ended.last {
      lines.append(
        "- Without a limit the move ends by itself up to \(name(last)), and takes ever more rounds: \(first.result.rounds) at "
          + "\(name(first)), \(last.result.rounds) at \(name(last)).")
    }
    let outrun = free.filter { $0.result.ending == .gaveUp }
    if let first = outrun.first, let last = outrun.last {
      lines.append(
        "- From \(name(first)) on it does not: after \(first.result.rounds) rounds and "
          + "\(Self.span(first.result.totalMicroseconds)) there, \(last.result.rounds) and "
          + "\(Self.span(last.result.totalMicroseconds)) at \(name(last)), it is given up.")
    }
    let forced = rows(.force).filter { $0.result.ending == .forced }
    if let first = forced.first, let last = forced.last, let least = first.result.downtimeMicroseconds,
      let most = last.result.downtimeMicroseconds
    {
      lines.append(
        "- Stopped all the same, the guest stands still for \(Self.span(least)) at \(name(first)) and \(Self.span(most)) at "
          + "\(name(last)).")
    }
    let limited = rows(.throttle)
    let helped = limited.filter { $0.result.ending == .moved && !$0.result.limits.isEmpty }
    if let longest = helped.compactMap(\.result.downtimeMicroseconds).max(),
      let lowest = helped.compactMap({ $0.result.limits.min() }).min(),
      let time = helped.map(\.result.limitedMicroseconds).max()
    {
      let all = limited.allSatisfy { $0.result.ending == .moved }
      lines.append(
        "- With limits it \(all ? "ends at every rate" : "ends more often"): where one was needed the guest stands still for "
          + "\(Self.span(longest)) at most, and the NIC")
      lines.append(
        "  was held to no less than \(Figures.tenths(lowest, of: ThrottleSweep.bytesOfGigabit)) Gbit/s, for no longer than "
          + "\(Self.span(time)).")
    }
    return lines
  }
}
