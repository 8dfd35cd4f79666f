// SPDX-License-Identifier: Apache-2.0
import Migration
import Simulation

@testable import Topology

extension FuzzTarget {
  /// A scenario file. What is read from it can be played; that is left to other tests.
  static let scenario = FuzzTarget("scenario") { bytes in
    let text = String(decoding: bytes, as: UTF8.self)
    let file: ScenarioFile
    do throws(ScenarioFileError) {
      file = try ScenarioFile.parse(text, name: "fuzz")
    } catch {
      return try demand(!"\(error)".isEmpty, "a refusal without words")
    }
    _ = file.scenario(seed: 1)
    try demand((try? ScenarioFile.parse(text, name: "fuzz")) == file, "it is read in two ways")
  }

  /// Short texts: records of limits, names of devices, sysfs's lists of BARs. Each says what it is made of, or nothing.
  static let records = FuzzTarget("records") { bytes in
    let text = String(decoding: bytes, as: UTF8.self)
    if let record = ThrottleRecord(bytes) {
      try demand(Array(record.text.utf8) == bytes, "a record is read that is written otherwise")
    }
    if let name = DeviceName(text) { try demand(DeviceName("\(name)") == name, "\(name) is another device's") }
    if let address = PCIAddress(text) {
      try demand(
        (0..<256).contains(address.bus) && (0..<32).contains(address.device) && (0..<8).contains(address.function),
        "\(address) is none")
    }
    for bar in PCIScanner.bars(text) { try demand(bar.size > 0, "a BAR of nothing") }
  }

  /// A file of prepare.d. What is taken is written again, the plainest way, and has to be read as the same.
  static let preparation = FuzzTarget("preparation") { bytes in
    let lines = bytes.count(where: { $0 == 10 }) + 1
    let settings: PlainTOML
    do throws(PlainTOML.Problem) {
      settings = try PlainTOML(bytes)
    } catch {
      try demand(!error.reason.isEmpty, "a refusal without words")
      return try demand((1...lines).contains(error.line), "line \(error.line) of \(lines) is wrong")
    }
    try demand(Set(settings.entries.map(\.key)).count == settings.entries.count, "a name is there twice")
    let written = settings.entries.map { "\($0.key)=\(plain($0.item.value))\n" }.joined()
    let again = try? PlainTOML(Array(written.utf8))
    try demand(
      again?.entries.map { "\($0.key)=\(plain($0.item.value))\n" }.joined() == written, "it is read in two ways")
    let file: PreparationFile
    do throws(PreparationFile.Problem) {
      file = try PreparationFile(path: "fuzz", bytes)
    } catch {
      return try demand(
        !error.reason.isEmpty && error.line.map { (1...lines).contains($0) } ?? true, "\(error) is no refusal")
    }
    let wish = file.wish
    try demand(!file.device.isEmpty && (1...Int(UInt16.max)).contains(wish.functions), "it prepares nothing")
    try demand(
      Set(wish.addresses).count == wish.addresses.count && wish.addresses.count <= wish.functions
        && wish.addresses.allSatisfy(\.isOfOne), "addresses are wrong")
    try demand(wish.driver.map(PreparationWish.isDriver) ?? true, "a driver has no driver's name")
    try demand((try? PreparationFile(path: "fuzz", Array(written.utf8))) == file, "the same settings are another wish")
  }

  /// A value as TOML has it.
  private static func plain(_ value: PlainTOML.Value) -> String {
    switch value {
    case .integer(let number): return "\(number)"
    case .boolean(let isSo): return "\(isSo)"
    case .array(let items): return "[" + items.map { plain($0.value) + "," }.joined() + "]"
    case .string(let text):
      // A tab may stand in a string as it is; of what is below a space only it and a newline can come from one.
      let escaped = text.unicodeScalars.map { scalar in
        switch scalar {
        case "\"", "\\": "\\\(scalar)"
        case "\n": "\\n"
        default: "\(scalar)"
        }
      }
      return "\"" + escaped.joined() + "\""
    }
  }
}
