// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Topology

/// Something that `monitor` prints, as a line for a person and as an object for a script.
enum MonitorLine: Hashable {
  /// A device that was there at the start.
  case existing(DeviceSighting)
  /// Something has happened.
  case change(DeviceWatch.Change)
  /// Events are lost.
  case overrun(SystemError)

  /// For a person.
  var text: String {
    switch self {
    case .existing(let sighting): Self.text("exists", sighting)
    case .change(let change):
      Self.text(change.action, change.sighting) + (change.sequence == nil ? " (found by looking again)" : "")
    case .overrun(let error): "overrun: events are lost (\(error)); looking at all devices again"
    }
  }

  private static func text(_ action: String, _ sighting: DeviceSighting) -> String {
    var words = [padded(action, 6), padded(sighting.kind.rawValue, 6), sighting.name]
    func add(_ name: String, _ value: String?) {
      if let value { words.append("\(name) \(value.split(separator: " ").joined(separator: ","))") }
    }
    add("driver", sighting.driver)
    // Which node a device has, its name says where it has no other.
    if sighting.node != sighting.name { add("node", sighting.node) }
    for property in DeviceSighting.properties { add(property.lowercased(), sighting.told[property]) }
    return words.joined(separator: " ")
  }

  private static func padded(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.utf8.count))
  }

  /// For a script.
  var json: JSON {
    switch self {
    case .existing(let sighting): Self.json("exists", sighting, sequence: nil, isFound: false)
    case .change(let change):
      Self.json(change.action, change.sighting, sequence: change.sequence, isFound: change.sequence == nil)
    case .overrun(let error): .object(["action": .string("overrun"), "error": .string(error.name)])
    }
  }

  private static func json(_ action: String, _ sighting: DeviceSighting, sequence: UInt64?, isFound: Bool) -> JSON {
    let states = sighting.told["STATES"].map { $0 == "none" ? [] : $0.split(separator: " ").map(String.init) }
    return .object([
      "action": .string(action), "kind": .string(sighting.kind.rawValue), "name": .string(sighting.name),
      "driver": JSON(sighting.driver), "node": JSON(sighting.node),
      "states": states.map { .array($0.map { .string($0) }) } ?? .null,
      "dirty": JSON(sighting.told["DIRTY"]), "tag": JSON(sighting.told["TAG"]),
      "sysfs": .string(sighting.path), "sequence": JSON(sequence), "found_by_looking": .bool(isFound),
    ])
  }
}
