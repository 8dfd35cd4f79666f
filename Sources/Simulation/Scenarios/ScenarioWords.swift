// SPDX-License-Identifier: Apache-2.0

/// The words of a line, taken one after the other.
struct ScenarioWords {
  private var words: ArraySlice<Substring>

  /// - Parameter text: one line; its words are apart by spaces.
  init(_ text: Substring) { words = text.split(separator: " ")[...] }

  var isAtEnd: Bool { words.isEmpty }

  /// The next word.
  mutating func next(_ expected: @autoclosure () -> String) throws(ScenarioTextProblem) -> Substring {
    guard let word = words.popFirst() else { throw ScenarioTextProblem("the line ends", expected: expected()) }
    return word
  }

  /// The next word, which is one of these.
  mutating func next(of known: [String]) throws(ScenarioTextProblem) -> String {
    let expected =
      known.count == 1 ? known[0] : known.dropLast().joined(separator: ", ") + " or " + known[known.count - 1]
    let word = try next(expected)
    guard let found = known.first(where: { $0 == word }) else {
      throw ScenarioTextProblem("\"\(ScenarioFileError.printable(word))\"", expected: expected)
    }
    return found
  }

  /// Takes this word, which has to be the next.
  mutating func take(_ word: String) throws(ScenarioTextProblem) { _ = try next(of: [word]) }

  /// Takes this word if it is the next. - Returns: whether it was.
  mutating func takes(_ word: String) -> Bool {
    guard let next = words.first, next == word else { return false }
    words.removeFirst()
    return true
  }

  /// The next word as a number.
  mutating func number(_ what: String, _ range: ClosedRange<UInt64>) throws(ScenarioTextProblem) -> UInt64 {
    let expected = "\(what), \(range.lowerBound) to \(range.upperBound)"
    let word = try next(expected)
    guard let value = ScenarioUnit.count.value(word), range.contains(value) else {
      throw ScenarioTextProblem("\"\(ScenarioFileError.printable(word))\"", expected: expected)
    }
    return value
  }

  /// All that is left as a number with its unit.
  mutating func rest(_ unit: ScenarioUnit, _ range: ClosedRange<UInt64>) throws(ScenarioTextProblem) -> UInt64 {
    let text = words.joined(separator: " ")
    words = []
    guard let value = unit.value(text), range.contains(value) else {
      throw ScenarioTextProblem(
        text.isEmpty ? "the line ends" : "\"\(ScenarioFileError.printable(text))\"",
        expected: "\(unit.words), \(unit.text(range.lowerBound)) to \(unit.text(range.upperBound))")
    }
    return value
  }

  /// Nothing may be left.
  func end() throws(ScenarioTextProblem) {
    guard let word = words.first else { return }
    throw ScenarioTextProblem("\"\(ScenarioFileError.printable(word))\"", expected: "the end of the line")
  }
}
