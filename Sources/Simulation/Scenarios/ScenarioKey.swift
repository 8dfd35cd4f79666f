// SPDX-License-Identifier: Apache-2.0

/// A key of a scenario file: what it is called, what it may be, and what it changes.
struct ScenarioKey: Sendable {
  /// What a value looks like.
  enum Form: Sendable {
    /// A number.
    case quantity(ScenarioUnit, ClosedRange<UInt64>)
    /// One of these words. The value is the word's place.
    case choice([String])
  }

  let name: String
  let form: Form
  let read: @Sendable (ScenarioFile) -> UInt64
  let write: @Sendable (inout ScenarioFile, UInt64) -> Void

  /// What a value has to be, in words.
  var expected: String {
    switch form {
    case .quantity(let unit, let range):
      "\(unit.words), \(unit.text(range.lowerBound)) to \(unit.text(range.upperBound))"
    case .choice(let words):
      words.count == 1 ? words[0] : words.dropLast().joined(separator: ", ") + " or " + words[words.count - 1]
    }
  }

  /// Whether a value is one that it may have.
  func allows(_ value: UInt64) -> Bool {
    switch form {
    case .quantity(_, let range): range.contains(value)
    case .choice(let words): value < UInt64(words.count)
    }
  }

  /// A value as a file has it.
  func text(_ value: UInt64) -> String {
    switch form {
    case .quantity(let unit, _): unit.text(value)
    case .choice(let words): value < UInt64(words.count) ? words[Int(value)] : "\(value)"
    }
  }

  /// The value of a text, in words of one line; nil where it is none that this key may have.
  func value(_ text: some StringProtocol) -> UInt64? {
    let value: UInt64? =
      switch form {
      case .quantity(let unit, _): unit.value(text)
      case .choice(let words): words.firstIndex { $0 == text }.map { UInt64($0) }
      }
    return value.flatMap { allows($0) ? $0 : nil }
  }

  /// The line of a file that gives it this value.
  func line(_ value: UInt64) -> String { "\(name) \(text(value))" }
}

extension ScenarioKey {
  /// The words of a file that begin a line and are not in the table.
  static let others = ["base", "name", "fault"]

  /// The key of that name.
  static func named(_ name: some StringProtocol) -> ScenarioKey? { all.first { $0.name == name } }

  /// The known word that is most like this one.
  static func nearest(_ word: some StringProtocol) -> String {
    let typed = Array(word.utf8.prefix(40))
    let known = others + all.map(\.name)
    let distances = known.map { distance(typed, Array($0.utf8)) }
    return zip(known, distances).min { $0.1 < $1.1 }?.0 ?? "base"
  }

  /// How many bytes have to be changed, put in or taken out to get from one to the other.
  private static func distance(_ one: [UInt8], _ other: [UInt8]) -> Int {
    var row = Array(0...other.count)
    for (index, byte) in one.enumerated() {
      var diagonal = row[0]
      row[0] = index + 1
      for (column, wanted) in other.enumerated() {
        let next = min(row[column + 1] + 1, row[column] + 1, diagonal + (byte == wanted ? 0 : 1))
        diagonal = row[column + 1]
        row[column + 1] = next
      }
    }
    return row[other.count]
  }
}
