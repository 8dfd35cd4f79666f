// SPDX-License-Identifier: Apache-2.0
internal import Migration

extension ScenarioFile {
  /// The most bytes that a file has.
  public static let mostBytes = 64 << 10
  /// The most bytes that a line has.
  public static let mostLineBytes = 400

  /// Reads a file.
  /// - Parameters:
  ///   - text: what is in it.
  ///   - name: its name, for messages; the world is called so, in printable ASCII, where the file does not say
  ///     otherwise.
  /// - Throws: the first thing that is wrong.
  public static func parse(_ text: String, name: String) throws(ScenarioFileError) -> ScenarioFile {
    var parser = ScenarioFileParser(name: name)
    return try parser.parse(text)
  }
}

/// Reads a file line by line, then looks at what no line can know alone.
private struct ScenarioFileParser {
  let name: String
  private var file: ScenarioFile?
  private var line = 0
  /// The line of each key that there was, by its name.
  private var keyLines: [String: Int] = [:]
  /// The line of each fault.
  private var faultLines: [Int] = []

  init(name: String) { self.name = name }

  mutating func parse(_ text: String) throws(ScenarioFileError) -> ScenarioFile {
    var end = -1
    for bytes in text.utf8.prefix(ScenarioFile.mostBytes + 1).split(separator: 10, omittingEmptySubsequences: false) {
      line += 1
      end += 1 + bytes.count
      if end > ScenarioFile.mostBytes {
        throw error("the file is too long", expected: "at most \(ScenarioFile.mostBytes) bytes")
      }
      if bytes.count > ScenarioFile.mostLineBytes {
        throw error("the line is too long", expected: "at most \(ScenarioFile.mostLineBytes) bytes")
      }
      do throws(ScenarioTextProblem) {
        try take(Self.statement(bytes))
      } catch {
        throw self.error(error)
      }
    }
    guard let file else { throw error("the file has no base", expected: Self.bases) }
    try check(file)
    return file
  }

  /// What a line says, without its comment, with one space between words.
  private static func statement(_ bytes: Substring.UTF8View) -> Substring {
    let said = bytes.prefix { $0 != UInt8(ascii: "#") }
    let words = said.split { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") || $0 == UInt8(ascii: "\r") }
    return Substring(words.map { String(Substring($0)) }.joined(separator: " "))
  }

  private static let bases =
    "a line \"base NAME\" with one of " + BuiltInWorld.allCases.map(\.rawValue).joined(separator: ", ")

  private mutating func take(_ statement: Substring) throws(ScenarioTextProblem) {
    let key = statement.prefix { $0 != " " }
    guard !key.isEmpty else { return }
    let value = statement.dropFirst(key.count + 1)
    let shown = ScenarioFileError.printable(value)
    if key == "base" {
      try once("base")
      guard let base = BuiltInWorld.allCases.first(where: { $0.rawValue == value }) else {
        throw ScenarioTextProblem("base is \"\(shown)\"", expected: Self.bases)
      }
      file = ScenarioFile(world: base.description)
      file?.world.name = ScenarioFileError.printable(name, most: 100)
      return
    }
    let known = ScenarioKey.named(key)
    if known == nil, !ScenarioKey.others.contains(where: { $0 == key }) {
      throw ScenarioTextProblem(
        "unknown key \"\(ScenarioFileError.printable(key))\"",
        expected: "a known one; the nearest is \(ScenarioKey.nearest(key))")
    }
    guard var changed = file else {
      throw ScenarioTextProblem("\(ScenarioFileError.printable(key)) comes before the base", expected: Self.bases)
    }
    if let known {
      try once(known.name)
      guard let number = known.value(value) else {
        throw ScenarioTextProblem("\(known.name) is \"\(shown)\"", expected: known.expected)
      }
      known.write(&changed, number)
    } else if key == "name" {
      try once("name")
      guard 1...100 ~= value.utf8.count, value.utf8.allSatisfy({ 0x20...0x7e ~= $0 }) else {
        throw ScenarioTextProblem("name is \"\(shown)\"", expected: "1 to 100 characters of printable ASCII")
      }
      changed.world.name = String(value)
    } else {
      let fault = try ScenarioFaultParser.parse(value)
      if let index = changed.faults.firstIndex(where: fault.excludes) {
        throw ScenarioTextProblem("a fault like that of line \(faultLines[index])", expected: "one of both")
      }
      changed.faults.append(fault)
      faultLines.append(line)
    }
    file = changed
  }

  private mutating func once(_ key: String) throws(ScenarioTextProblem) {
    if let before = keyLines[key] {
      throw ScenarioTextProblem("\(key) again, as on line \(before)", expected: "it once")
    }
    keyLines[key] = line
  }

  // MARK: What no line can know alone

  private mutating func check(_ file: ScenarioFile) throws(ScenarioFileError) {
    if let (text, keys) = file.world.firstProblem {
      line = keys.compactMap { keyLines[$0] }.max() ?? line
      throw error(text)
    }
    for (index, fault) in file.faults.enumerated() {
      line = faultLines[index]
      if let problem = file.problem(of: fault) { throw error(problem) }
    }
  }

  private func error(_ text: ScenarioTextProblem) -> ScenarioFileError {
    error(text.problem, expected: text.expected)
  }

  private func error(_ problem: String, expected: String) -> ScenarioFileError {
    ScenarioFileError(file: name, line: line, problem: problem, expected: expected)
  }
}

extension ScenarioFile {
  /// Why a fault can't be a part of this file; nil where it can.
  fileprivate func problem(of fault: ScenarioFault) -> ScenarioTextProblem? {
    if let device = fault.device, device >= world.devices {
      return ScenarioTextProblem(
        "there is no device \(device)", expected: world.devices == 1 ? "device 0" : "0 to \(world.devices - 1)")
    }
    if case .device(_, let device, let failure) = fault, case .arc(let state) = failure.operation {
      let features = Scenario(world: world, seed: 1).source[device].features
      if !StateGraph(features: features).contains(state) {
        return ScenarioTextProblem(
          "device \(device) has no state \(state)", expected: "a state of a device without P2P states")
      }
    }
    if fault.hangsForEver, !faults.contains(where: { $0.ends(fault) }) {
      return ScenarioTextProblem(
        "the device hangs for ever, and nobody ends it",
        expected: "a time, or that side interrupted twice at a time, or the device declared dead")
    }
    return nil
  }
}
