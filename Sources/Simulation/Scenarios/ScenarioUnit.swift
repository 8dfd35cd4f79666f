// SPDX-License-Identifier: Apache-2.0

/// In what a number of a scenario file is given. Numbers are whole in the unit that the simulation counts in; a decimal
/// point is for people, and nothing is rounded.
enum ScenarioUnit: Sendable {
  /// None.
  case count
  /// Microseconds.
  case time
  /// Bytes.
  case bytes
  /// Bytes in a microsecond.
  case rate
  /// Parts in a million.
  case chance

  /// A unit's name, and how many of the simulation's are `times` of it.
  private struct Name {
    let text: String
    let factor: UInt64
    var times: UInt64 = 1
  }

  /// Smallest first.
  private var names: [Name] {
    switch self {
    case .count: [Name(text: "", factor: 1)]
    case .time:
      [Name(text: "us", factor: 1), Name(text: "ms", factor: 1000), Name(text: "s", factor: 1_000_000)]
    case .bytes:
      [
        Name(text: "bytes", factor: 1), Name(text: "KiB", factor: 1 << 10), Name(text: "MiB", factor: 1 << 20),
        Name(text: "GiB", factor: 1 << 30),
      ]
    case .rate: [Name(text: "Mbit/s", factor: 1, times: 8), Name(text: "Gbit/s", factor: 125)]
    case .chance: [Name(text: "%", factor: 10_000)]
    }
  }

  /// What a person has to write.
  var words: String {
    switch self {
    case .count: "a whole number"
    case .time: "a time in us, ms or s"
    case .bytes: "bytes, KiB, MiB or GiB"
    case .rate: "a rate in Mbit/s or Gbit/s"
    case .chance: "a part in %"
    }
  }

  /// The number as a file has it, in the largest unit that needs no decimal point.
  func text(_ value: UInt64) -> String {
    switch self {
    case .count: return "\(value)"
    case .chance:
      var digits = String(value % 10_000)
      digits = String(repeating: "0", count: 4 - digits.count) + digits
      while digits.last == "0" { digits.removeLast() }
      return "\(value / 10_000)\(digits.isEmpty ? "" : ".")\(digits)%"
    case .bytes where value == 1: return "1 byte"
    case .time, .bytes, .rate:
      let fitting = names.last { value >= $0.factor && value % $0.factor == 0 } ?? names[0]
      let (number, overflow) = (value / fitting.factor).multipliedReportingOverflow(by: fitting.times)
      return overflow ? "more than can be told" : "\(number) \(fitting.text)"
    }
  }

  /// The number of a text like `150 us`, `25 Gbit/s` or `0.5%`; nil where it is none, too large, or not whole in what
  /// the simulation counts in.
  func value(_ text: some StringProtocol) -> UInt64? {
    var digits = Substring(text)
    let isNumeral = { (character: Character) in ("0"..."9").contains(character) || character == "." }
    let numeral = digits.prefix(while: isNumeral)
    digits = digits.dropFirst(numeral.count)
    while digits.first == " " { digits.removeFirst() }
    if digits == "byte" { digits += "s" }
    guard let name = names.first(where: { $0.text == digits }) else { return nil }
    let parts = numeral.split(separator: ".", omittingEmptySubsequences: false)
    guard 1...2 ~= parts.count, parts.allSatisfy({ 1...18 ~= $0.utf8.count }) else { return nil }
    guard var scaled = UInt64(parts[0]) else { return nil }
    var divisor = name.times
    for digit in parts.count == 2 ? parts[1] : "" {
      guard let addend = digit.wholeNumberValue else { return nil }
      let (shifted, overflow) = scaled.multipliedReportingOverflow(by: 10)
      let (sum, carry) = shifted.addingReportingOverflow(UInt64(addend))
      let (lower, isTooFine) = divisor.multipliedReportingOverflow(by: 10)
      guard !overflow, !carry, !isTooFine else { return nil }
      scaled = sum
      divisor = lower
    }
    let (product, overflow) = scaled.multipliedReportingOverflow(by: name.factor)
    return !overflow && product % divisor == 0 ? product / divisor : nil
  }
}
