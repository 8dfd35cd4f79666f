// SPDX-License-Identifier: Apache-2.0
internal import Simulation

/// The rows of a sweep for people and for scripts.
struct SimulationSweepTable {
  let rows: [QuiescingSweepRow]

  /// A column: what is above it, and what a row has there.
  private struct Column: Sendable {
    let title: String
    let isNumber: Bool
    let cell: @Sendable (QuiescingSweepRow) -> String
  }

  private static let columns = [
    Column(title: "queue pairs", isNumber: true) { Figures.grouped($0.queuePairs) },
    Column(title: "stops", isNumber: false) { $0.way.stops },
    Column(title: "time-outs", isNumber: false) { $0.way.waits },
    Column(title: "into P2P, us", isNumber: true) { Figures.grouped($0.result.quiescingMicroseconds) },
    Column(title: "downtime, us", isNumber: true) { Figures.grouped($0.result.downtimeMicroseconds) },
    Column(title: "sent in vain", isNumber: true) { Figures.grouped($0.sentInVain) },
    Column(title: "broken", isNumber: true) { Figures.grouped($0.result.broken) },
    Column(title: "silence, us", isNumber: true) { Figures.grouped($0.result.longestSilence) },
    Column(title: "image, bytes", isNumber: true) { Figures.grouped($0.result.imageBytes) },
  ]

  /// For a terminal.
  var lines: [String] {
    let cells = [Self.columns.map { $0.title.uppercased() }] + rows.map { row in Self.columns.map { $0.cell(row) } }
    let widths = Self.columns.indices.map { column in cells.reduce(0) { max($0, $1[column].count) } }
    // Numbers stand below each other by their last digits.
    return TextTable.lines(
      cells.map { row in
        row.enumerated().map { column, cell in
          Self.columns[column].isNumber
            ? String(repeating: " ", count: widths[column] - cell.count) + cell : cell
        }
      })
  }

  /// For a page in Markdown.
  var markdown: [String] {
    func line(_ cells: [String]) -> String { "| " + cells.joined(separator: " | ") + " |" }
    return [line(Self.columns.map(\.title)), line(Self.columns.map { $0.isNumber ? "---:" : "---" })]
      + rows.map { row in line(Self.columns.map { $0.cell(row) }) }
  }

  /// For scripts.
  var json: JSON {
    .array(
      rows.map { row in
        .object([
          "queue_pairs": .integer(Int64(row.queuePairs)), "quiescing": .string(row.way.quiescing.rawValue),
          "timeouts": .string(row.way.timeoutsWord), "p2p_us": .unsigned(row.result.quiescingMicroseconds),
          "downtime_us": .unsigned(row.result.downtimeMicroseconds),
          "sent_in_vain_packets": .integer(Int64(row.sentInVain)),
          "broken_connections": .integer(Int64(row.result.broken)),
          "longest_silence_us": .unsigned(row.result.longestSilence),
          "longest_round_trip_us": .unsigned(row.result.longestRoundTrip),
          "image_bytes": .unsigned(row.result.imageBytes),
          "retransmitted_without_move_packets": .integer(Int64(row.still.sentAgain)),
          "broken_without_move_connections": .integer(Int64(row.still.broken)),
          "problem": JSON(row.problem),
        ])
      })
  }
}

extension QuiescingSweepWay {
  /// How the NIC stops, in words.
  var stops: String { quiescing == .betweenPackets ? "between packets" : "drains messages" }

  /// How connections wait, in words.
  var waits: String { timeouts == .fixed ? "fixed" : "doubling" }

  /// The same as `--timeouts` has it.
  var timeoutsWord: String { (timeouts == .fixed ? PeerTimeouts.fixed : .exponential).rawValue }
}

extension Figures {
  /// A number with a comma before every three digits.
  static func grouped(_ number: some BinaryInteger) -> String {
    let digits = Array(String(number))
    var text = ""
    for (index, digit) in digits.enumerated() {
      if index > 0, digit != "-", digits[index - 1] != "-", (digits.count - index).isMultiple(of: 3) { text += "," }
      text.append(digit)
    }
    return text
  }
}
