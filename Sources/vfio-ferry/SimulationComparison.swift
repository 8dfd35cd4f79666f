// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Simulation

/// A run with what the command line changed, held against the run of the same seed without.
struct SimulationComparison {
  /// The options that made the change.
  let options: [String]
  let with: SimulationSummary
  let without: SimulationSummary
  /// Microseconds for which the machine stood still.
  let stoppedWith: UInt64?
  let stoppedWithout: UInt64?

  /// For a person: what differs.
  var lines: [String] {
    func cell(_ value: UInt64?, _ words: (UInt64) -> String = { "\($0)" }) -> String { value.map(words) ?? "-" }
    var rows = [["COMPARED", "WITH \(options.joined(separator: " "))", "WITHOUT"]]
    rows.append(["the machine stood still", cell(stoppedWith, Figures.time), cell(stoppedWithout, Figures.time)])
    if let one = with.peers, let other = without.peers {
      rows.append([
        "longest wait for an answer", Figures.time(one.longestRoundTrip), Figures.time(other.longestRoundTrip),
      ])
      rows.append(["longest silence", Figures.time(one.longestSilence), Figures.time(other.longestSilence)])
      rows.append(["packets sent again", "\(one.retransmitted)", "\(other.retransmitted)"])
      rows.append(["connections that broke", "\(one.broken)", "\(other.broken)"])
    }
    rows.append(["the run took", Figures.time(with.totalMicroseconds), Figures.time(without.totalMicroseconds)])
    return TextTable.lines(rows)
  }

  /// For scripts: the other run; the report has this one.
  var json: JSON {
    .object([
      "options": .array(options.map { .string($0) }), "downtime_us": JSON(stoppedWithout),
      "total_us": .unsigned(without.totalMicroseconds), "peers": without.peers?.json ?? .null,
      "run_digest": .string(SimulationReport.digest(without.runDigest)),
    ])
  }
}
