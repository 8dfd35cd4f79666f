// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Simulation

/// What stands at the end of a run.
extension SimulationReport {
  /// The closing tables and the verdict, as lines.
  var table: [String] {
    let blocks = [
      phaseLines, TextTable.lines(deviceRows), trafficLines, comparison?.lines ?? [], verdictLines,
    ]
    return Array(blocks.filter { !$0.isEmpty }.joined(separator: [""]))
  }

  /// How the time in which the machine stood still was spent.
  private var phaseLines: [String] {
    let phases = summary.stopPhases
    guard !phases.isEmpty else {
      return stoppedMicroseconds.map { ["Stood still for \(Figures.time($0)) of \(Figures.time(total))."] } ?? []
    }
    var rows = [["WHILE THE MACHINE STOOD STILL", "FROM", "TOOK"]]
    for phase in phases {
      let begin = SimulationPhases.time(phase.begin).drop { $0 == " " }
      rows.append([phase.name, String(begin), Figures.time(phase.microseconds)])
    }
    if let stoppedMicroseconds { rows.append(["all of it", "", Figures.time(stoppedMicroseconds)]) }
    return TextTable.lines(rows)
  }

  private var total: UInt64 { summary.totalMicroseconds }

  private var deviceRows: [[String]] {
    var rows = [
      [
        "DEVICE", "IN P2P", "STOOD STILL", "STATE ON ITS WAY", "SLOWEST CHANGE", "SENT BEFORE", "SENT AFTER", "SAME",
      ]
    ]
    for (device, lanes) in zip(summary.devices, lanes) {
      let slowest = device.arcs.max { $0.microseconds < $1.microseconds }
      rows.append([
        device.name, Figures.time(lanes.quietMicroseconds), Self.standstill(lanes, until: total),
        lanes.wireMicroseconds.map(Figures.time) ?? "-",
        slowest.map { "\($0.to) \(Figures.time($0.microseconds))" } ?? "-", Figures.bytes(device.preCopyBytes),
        Figures.bytes(device.stopCopyBytes), device.isVerified ? "yes" : ending.kind == .moved ? "NO" : "-",
      ])
    }
    return rows
  }

  private static func standstill(_ lanes: DeviceLanes, until end: UInt64) -> String {
    guard let (begin, ended) = lanes.standstill else { return "-" }
    return ended.map { Figures.time($0 - begin) } ?? "still does"
  }

  private var trafficLines: [String] {
    var lines: [String] = []
    if let memory = summary.memory { lines.append(memory.words) }
    if let peers = summary.peers { lines += peers.lines }
    lines.append("On the link between the hosts: \(Figures.bytes(summary.streamBytes)) of device state and words.")
    return lines
  }

  private var verdictLines: [String] {
    var lines = faults.isEmpty ? [] : ["What was to go wrong, as a scenario file has it:"] + faults.map { "  \($0)" }
    lines.append(ending.words)
    if ending.kind != .moved { lines += statements.map { "  \($0)" } }
    if summary.violations.isEmpty {
      lines += [
        "No rule was broken. The judge compares memory, GPU memory and all answers with a run that is never moved,",
        "and watches in which order devices stop and start, and that they never run on both hosts.",
      ]
    } else {
      lines += summary.violations.map { "BROKEN: \($0)" }
    }
    return lines + ["Digest \(Self.digest(summary.runDigest)), the same on every machine: \(command)"]
  }
}

extension SimulationSummary.Device {
  /// Bytes of its image that went after the stop.
  var stopCopyBytes: UInt64 { imageBytes - min(imageBytes, preCopyBytes) }
}

extension TimedArc {
  /// How long it took.
  var microseconds: UInt64 { end.microseconds(since: begin) }
}

extension MemorySummary {
  /// How it went over, in a sentence.
  var words: String {
    let last = rounds.count > 1 ? ", the last while all devices stood still" : ""
    let rounds =
      rounds.count > 12
      ? rounds.prefix(5).map { "\($0)" } + ["…"] + rounds.suffix(5).map { "\($0)" } : rounds.map { "\($0)" }
    return "Guest memory: \(pages) pages, sent in rounds of \(rounds.joined(separator: ", "))\(last);"
      + " \(Figures.bytes(bytes)) on the channel."
  }
}

extension PeerSummary {
  /// What became of the connections, for somebody who has read nothing.
  var connectionWords: String {
    broken == 0
      ? "No peer lost a connection; what it asked for meanwhile was answered afterwards."
      : "\(broken) of the peers' \(connections) connections broke."
  }

  /// What the peers saw, in sentences.
  var lines: [String] {
    [
      "Peers: \(connections) connections, \(broken == 0 ? "none" : "\(broken)") broke; \(answered) of \(wanted) answers "
        + "came, \(wrong == 0 ? "none" : "\(wrong)") wrong.",
      "An answer took \(Figures.time(meanRoundTrip)) in the mean and \(Figures.time(longestRoundTrip)) at most; the longest "
        + "silence that a peer saw was \(Figures.time(longestSilence)).",
      "\(retransmitted) of \(packets) packets were sent again.",
    ]
  }
}
