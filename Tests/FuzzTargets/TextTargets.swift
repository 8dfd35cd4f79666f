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
}
