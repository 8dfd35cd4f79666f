// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Simulation

/// The rows of a sweep for people and for scripts.
extension ColumnTable<QuiescingSweepRow> {
  init(quiescing rows: [QuiescingSweepRow]) {
    self.init(columns: Self.columns, rows: rows, object: Self.object)
  }

  private static var columns: [Column] {
    [
      .numbers("queue pairs") { Figures.grouped($0.queuePairs) },
      .words("stops") { $0.way.stops },
      .words("time-outs") { $0.way.waits },
      .numbers("into P2P, us") { Figures.grouped($0.result.quiescingMicroseconds) },
      .numbers("downtime, us") { Figures.grouped($0.result.downtimeMicroseconds) },
      .numbers("sent in vain") { Figures.grouped($0.sentInVain) },
      .numbers("broken") { Figures.grouped($0.result.broken) },
      .numbers("silence, us") { Figures.grouped($0.result.longestSilence) },
      .numbers("image, bytes") { Figures.grouped($0.result.imageBytes) },
    ]
  }

  private static func object(_ row: QuiescingSweepRow) -> JSON {
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
