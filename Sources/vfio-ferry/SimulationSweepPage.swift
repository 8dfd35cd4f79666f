// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Simulation

/// The page that a sweep is shown on, with its pictures.
struct SimulationSweepPage {
  let rows: [QuiescingSweepRow]

  private static let blue = "#1f6feb"
  private static let red = "#c2410c"

  /// The files, by their names in one folder.
  var files: [(name: String, content: String)] {
    [
      ("da3-da4.md", page), ("da4-quiescing.svg", quiescing.document), ("da4-downtime.svg", downtime.document),
      ("da3-connections.svg", connections.document),
    ]
  }

  private func tolerance(_ way: QuiescingSweepWay) -> UInt64 { way.settings.toleranceMicroseconds }

  private var fixed: QuiescingSweepWay { QuiescingSweepWay(quiescing: .betweenPackets, timeouts: .fixed) }
  private var doubling: QuiescingSweepWay { QuiescingSweepWay(quiescing: .betweenPackets, timeouts: .exponential) }
  private var drained: QuiescingSweepWay { QuiescingSweepWay(quiescing: .drainingMessages, timeouts: .exponential) }

  private func line(
    _ label: String, _ color: String, _ way: QuiescingSweepWay, _ value: (QuiescingSweepRow) -> UInt64
  ) -> PlotFrame.Series {
    PlotFrame.Series(
      label: label, color: color,
      points: rows.filter { $0.way == way }.map {
        PlotFrame.Point(x: UInt64($0.queuePairs), y: value($0))
      })
  }

  private func time(_ microseconds: UInt64) -> String {
    switch microseconds {
    case ..<1000: "\(microseconds) us"
    case ..<1_000_000: "\(microseconds / 1000) ms"
    default: "\(microseconds / 1_000_000) s"
    }
  }

  // MARK: Pictures

  var quiescing: LogLogPlot {
    LogLogPlot(
      title: "DA4: until the NIC is at rest", subtitle: "from when the vCPUs have stopped until it is in its P2P state",
      xTitle: "queue pairs, each with work posted", yName: time,
      series: [
        line("messages are drained", Self.red, drained, \.result.quiescingMicroseconds),
        line("between two packets", Self.blue, doubling, \.result.quiescingMicroseconds),
      ], limits: [PlotFrame.Limit(label: "fixed time-outs last \(time(tolerance(fixed)))", value: tolerance(fixed))])
  }

  var downtime: LogLogPlot {
    LogLogPlot(
      title: "DA4: for how long the machine stands still",
      subtitle: "from when the vCPUs are asked to stop until they run on the other host",
      xTitle: "queue pairs, each with work posted", yName: time,
      series: [
        line("messages are drained", Self.red, drained, \.result.downtimeMicroseconds),
        line("between two packets", Self.blue, doubling, \.result.downtimeMicroseconds),
      ])
  }

  var connections: LogLogPlot {
    LogLogPlot(
      title: "DA3: connections that break",
      subtitle: "the same moves, between two packets, with two kinds of time-outs",
      xTitle: "queue pairs", yName: { Figures.grouped($0) },
      series: [
        line("fixed time-outs", Self.red, fixed) { UInt64($0.result.broken) },
        line("doubling time-outs", Self.blue, doubling) { UInt64($0.result.broken) },
      ])
  }

  // MARK: The page

  private var page: String {
    let world = QuiescingSweep.world(queuePairs: rows.last?.queuePairs ?? 1)
    let retries = fixed.settings.retries
    return
      ([
        "<!-- SPDX-License-Identifier: Apache-2.0 -->", "# DA3 and DA4, measured in the simulated world", "",
        "A NIC that stops between two packets against one that drains messages (DA4), and time-outs that double against fixed",
        "ones (DA3), with 1 to \(Figures.grouped(rows.last?.queuePairs ?? 1)) queue pairs. This page and its pictures are what"
          + " one command writes:", "", "    vfio-ferry simulate --compare docs", "", "## What was played", "",
        "- One virtual machine with one NIC (`workload nic`) moves to another host with seed 1, for each number of queue pairs in",
        "  four ways. The sessions and the stream are those that move real devices; see [simulation.md](simulation.md).",
        "- The NIC is kept busy: peers ask again soon after they have their answer, vCPUs are faster than the NIC's PCIe link of",
        "  \(world.pcieWordsPerMicrosecond) words a microsecond, and so answers wait in the NIC for that link. One takes about 1.5 us"
          + " of it, as 36 KiB at 200 Gbit/s would.",
        "- Time-outs begin with \(time(UInt64(QuiescingSweep.timeoutMicroseconds))), and after \(retries) retries a connection breaks: fixed, "
          + "that is after \(time(tolerance(fixed))) without an answer, doubling after \(time(tolerance(doubling))).",
        "- A queue pair takes \(Figures.bytes(UInt64(world.nicRecordBytes))) of the image, all of which is read after the stop (no pre-copy), at "
          + "\(world.imageBytesPerMicrosecond * 8 / 1000) Gbit/s.",
        "- The same world is played without a move too. The command fails where a connection breaks in that one, or where"
          + " anything else is not as it has to be.", "", "## What came of it", "",
      ] + findings + [
        "", "![Until the NIC is at rest](da4-quiescing.svg)", "",
        "![For how long the machine stands still](da4-downtime.svg)", "",
        "![Connections that break](da3-connections.svg)", "",
      ] + ColumnTable(quiescing: rows).markdown + [
        "",
        "*into P2P*: from when the vCPUs had stopped until the NIC was in its P2P state; an arc takes \(world.arcMicroseconds) us at least.",
        "*downtime*: from when the vCPUs were asked to stop until they ran again. *sent in vain*: packets that peers and the NIC",
        "on both hosts sent again, less those of the same world without a move. *broken*: connections that ended with an error.",
        "*silence*: the longest time in which a peer had no answer on any of its connections. *image*: what was read after the stop.",
        "", "## What it does not say", "",
        "- It is a model, and not a ConnectX: how the curves grow is what counts, and not where they lie. How large a queue pair's",
        "  part of an image is, and how much work is posted, was chosen.",
        "- A NIC that drains goes on to answer its peers' NICs here, so draining lengthens the downtime and not the silence on the",
        "  network: as many connections break. One that takes nothing from the network meanwhile would add both up.",
        "- Peers of this world take everything at once. One that is slow, or gone, makes draining as long as its time-outs.",
        "- Only connections with a packet under way can break. Most wait for an answer when the NIC stops, and have none.",
        "",
      ]).joined(separator: "\n")
  }

  private func row(_ way: QuiescingSweepWay) -> QuiescingSweepRow? { rows.last { $0.way == way } }

  /// The time until the NIC is at rest with the most queue pairs, and with the fewest.
  private func quiescing(_ way: QuiescingSweepWay) -> String {
    let times = rows.filter { $0.way == way }
    guard let first = times.first, let last = times.last else { return "" }
    return "\(Figures.time(last.result.quiescingMicroseconds)) "
      + "(\(Figures.time(first.result.quiescingMicroseconds)) with \(Figures.grouped(first.queuePairs)))"
  }

  /// What can be read from the rows.
  private var findings: [String] {
    guard let packets = row(doubling), let drain = row(drained), let breaking = row(fixed) else { return [] }
    let firstBroken = rows.first { $0.way == fixed && $0.result.broken > 0 }?.queuePairs
    let firstLong = rows.first {
      $0.way == drained && $0.result.quiescingMicroseconds > tolerance(fixed)
    }?.queuePairs
    var lines = [
      "- With \(Figures.grouped(packets.queuePairs)) queue pairs the NIC is at rest after \(quiescing(doubling)) between "
        + "packets, and after \(quiescing(drained)) drained.",
      "- What is sent in vain is mostly what peers that know of nothing send into the silence: "
        + "\(Figures.grouped(packets.sentInVain)) packets there between packets, \(Figures.grouped(drain.sentInVain)) drained.",
    ]
    if let firstLong {
      lines.append(
        "- From \(Figures.grouped(firstLong)) queue pairs on draining alone takes longer than fixed time-outs last.")
    }
    if let firstBroken {
      lines.append(
        "- With fixed time-outs connections break from \(Figures.grouped(firstBroken)) queue pairs on, "
          + "\(Figures.grouped(breaking.result.broken)) of \(Figures.grouped(breaking.queuePairs)) in the end. With doubling ones "
          + "\(packets.result.broken == 0 && drain.result.broken == 0 ? "none does" : "\(Figures.grouped(packets.result.broken)) do")."
      )
    }
    return lines
  }
}
