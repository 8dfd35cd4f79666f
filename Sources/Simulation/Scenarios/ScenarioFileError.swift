// SPDX-License-Identifier: Apache-2.0

/// What is wrong with a scenario file, and where.
public struct ScenarioFileError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The file's name, as it was given.
  public let file: String
  /// The line; the first is 1.
  public let line: Int
  /// What is wrong there.
  public let problem: String
  /// What would be right.
  public let expected: String

  /// File, line, what is wrong and what is expected, on one line of printable ASCII.
  public var description: String {
    "\(Self.printable(file, most: 200)):\(line): \(problem): expected \(expected)"
  }

  /// A text that can be shown: what is no printable ASCII stands as its number, and what is too long is cut.
  static func printable(_ text: some StringProtocol, most: Int = 60) -> String {
    var shown = ""
    for (index, scalar) in text.unicodeScalars.prefix(most + 1).enumerated() {
      if index == most {
        shown += "..."
      } else if 0x20...0x7e ~= scalar.value {
        shown.unicodeScalars.append(scalar)
      } else {
        shown += "\\u{\(String(scalar.value, radix: 16))}"
      }
    }
    return shown
  }
}

/// What is wrong with a part of a line; whoever knows the line adds its number.
struct ScenarioTextProblem: Error, Hashable {
  let problem: String
  let expected: String

  init(_ problem: String, expected: String) {
    self.problem = problem
    self.expected = expected
  }
}
