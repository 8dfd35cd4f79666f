// SPDX-License-Identifier: Apache-2.0
internal import Simulation

/// The rows of a throttle sweep for people and for scripts.
extension ColumnTable<ThrottleSweepRow> {
  init(throttle rows: [ThrottleSweepRow]) {
    self.init(columns: Self.columns, rows: rows, object: Self.object)
  }

  private static var columns: [Column] {
    [
      .numbers("NIC, Gbit/s") { Figures.grouped($0.gigabits) },
      .words("if no less is left") { $0.way.words },
      .numbers("rounds") { Figures.grouped($0.result.rounds) },
      .numbers("total, s") { Figures.tenths($0.result.totalMicroseconds, of: 1_000_000) },
      .numbers("sent, GB") { Figures.tenths($0.result.memoryBytes, of: 1_000_000_000) },
      .numbers("foretold, ms") { $0.result.foretoldMicroseconds.map { Figures.tenths($0, of: 1000) } ?? "-" },
      .numbers("stood still, ms") { $0.result.downtimeMicroseconds.map { Figures.tenths($0, of: 1000) } ?? "-" },
      .numbers("lowest limit, Gbit/s") {
        $0.result.limits.min().map { Figures.tenths($0, of: ThrottleSweep.bytesOfGigabit) } ?? "-"
      },
      .numbers("limited, s") {
        $0.result.limits.isEmpty ? "-" : Figures.tenths($0.result.limitedMicroseconds, of: 1_000_000)
      },
      .words("ending") { $0.result.ending.words },
    ]
  }

  private static func object(_ row: ThrottleSweepRow) -> JSON {
    .object([
      "nic_bytes_per_second": .unsigned(row.gigabits * ThrottleSweep.bytesOfGigabit),
      "way": .string(row.way.rawValue), "ending": .string(row.result.ending.rawValue),
      "rounds": .integer(Int64(row.result.rounds)), "total_us": .unsigned(row.result.totalMicroseconds),
      "channel_bytes": .unsigned(row.result.memoryBytes), "foretold_us": JSON(row.result.foretoldMicroseconds),
      "downtime_us": JSON(row.result.downtimeMicroseconds),
      "inbound_limits_bytes_per_second": .array(row.result.limits.map { .unsigned($0) }),
      "limited_us": .unsigned(row.result.limitedMicroseconds), "problem": JSON(row.result.problem),
    ])
  }
}

extension ThrottleSweepWay {
  /// What is done where rounds get no smaller, in words.
  var words: String {
    switch self {
    case .giveUp: "give up"
    case .force: "stop all the same"
    case .throttle: "limit the NIC"
    }
  }
}

extension ThrottleSweepResult.Ending {
  fileprivate var words: String {
    switch self {
    case .moved: "moved"
    case .forced: "moved, stopped too long"
    case .gaveUp: "gave up"
    case .failed: "failed"
    }
  }
}

extension Figures {
  /// A number of units with one digit behind the point, which is cut off there.
  static func tenths(_ number: UInt64, of unit: UInt64) -> String {
    "\(grouped(number / unit)).\(number % unit / (unit / 10))"
  }

  /// The same without a digit behind the point where that is 0.
  static func short(_ number: UInt64, of unit: UInt64) -> String {
    number % unit < unit / 10 ? grouped(number / unit) : tenths(number, of: unit)
  }
}
