// SPDX-License-Identifier: Apache-2.0

/// Columns for a person.
enum TextTable {
  /// The rows as lines, each column as wide as its widest cell, and nothing after the last.
  static func lines(_ rows: [[String]]) -> [String] {
    var widths: [Int] = []
    for row in rows {
      for (column, cell) in row.enumerated() {
        if column == widths.count { widths.append(0) }
        widths[column] = max(widths[column], cell.count)
      }
    }
    return rows.map { row in
      row.enumerated().map { column, cell in
        column == row.count - 1 ? cell : cell + String(repeating: " ", count: widths[column] - cell.count)
      }.joined(separator: "  ")
    }
  }
}

/// Figures for a person.
enum Figures {
  /// Bytes with a binary unit.
  static func bytes(_ count: UInt64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    var unit = 0
    var value = count
    var tenth: UInt64 = 0
    while value >= 1024, unit + 1 < units.count {
      tenth = value % 1024 * 10 / 1024
      value /= 1024
      unit += 1
    }
    return unit == 0 ? "\(value) bytes" : "\(value).\(tenth) \(units[unit])"
  }

  /// Microseconds, with a unit that suits them.
  static func time(_ microseconds: UInt64) -> String {
    switch microseconds {
    case ..<10_000: "\(microseconds) us"
    case ..<10_000_000: "\(microseconds / 1000).\(microseconds % 1000 / 100) ms"
    default: "\(microseconds / 1_000_000).\(microseconds % 1_000_000 / 100_000) s"
    }
  }

  /// Bytes a second, as a link's rate: bits, in decimal units.
  static func linkRate(_ bytesPerSecond: UInt64) -> String {
    let units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"]
    var (bits, overflow) = bytesPerSecond.multipliedReportingOverflow(by: 8)
    if overflow { bits = .max }
    var unit = 0
    var value = bits
    var tenth: UInt64 = 0
    while value >= 1000, unit + 1 < units.count {
      tenth = value % 1000 / 100
      value /= 1000
      unit += 1
    }
    return unit == 0 ? "\(value) bit/s" : "\(value).\(tenth) \(units[unit])"
  }

  /// Addresses as START+LENGTH, in the way in which options take them.
  static func range(_ range: Range<UInt64>) -> String {
    "0x\(String(range.lowerBound, radix: 16))+\(wholeUnits(range.upperBound - range.lowerBound))"
  }

  /// Bytes in the largest unit of which they are a whole number, in the way in which options take them.
  static func wholeUnits(_ bytes: UInt64) -> String {
    var number = bytes
    var unit = 0
    while number > 0, number % 1024 == 0, unit < 4 {
      number /= 1024
      unit += 1
    }
    return "\(number)\(["", "K", "M", "G", "T"][unit])"
  }
}
