// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// A session that has ended, and what a command tells of it.
struct EndedSession<Machine: SessionMachine> {
  let machine: Machine
  let outcome: SessionOutcome
  let names: [String]
  let began: MonotonicTime
  /// Microseconds.
  let took: UInt64

  var steps: JSON { .array(machine.steps.map { $0.json(names: names, since: began) }) }

  /// What a script needs to know after a session that failed: where every device is, and how it came there.
  func reportFailure(_ format: FormatOptions, _ console: Console, more: [JSON.Member] = []) {
    guard format.wantsJSON, outcome.fault != nil else { return }
    let devices = outcome.devices.map { device in
      JSON.object([
        "name": .string(device.name), "state": JSON(device.state?.name), "reset": .bool(device.wasReset),
        "hung": .bool(device.isHung),
      ])
    }
    let error = outcome.failure(names: names, doing: "this")?.message
    let members = [
      JSON.Member(key: "error", value: JSON(error)), JSON.Member(key: "devices", value: .array(devices)),
      JSON.Member(key: "steps", value: steps),
    ]
    console.json(.object(members + more), format)
  }
}

extension EndedSession where Machine == SaveSession {
  /// - Parameters:
  ///   - place: where the stream has gone, and its key.
  ///   - downtime: in microseconds, where the devices run again.
  ///   - summary: the last line.
  func report(
    place: (key: String, name: String), downtime: UInt64?, summary: String, _ format: FormatOptions,
    _ say: (String) -> Void,
    more: [JSON.Member] = []
  ) {
    if format.wantsJSON {
      let devices = zip(outcome.devices, zip(machine.progress, machine.restarts)).map { device, figures in
        JSON.object([
          "name": .string(device.name), "state": JSON(device.state?.name), "bytes": .unsigned(figures.0.bytes),
          "pre_copy_bytes": .unsigned(figures.0.preCopyBytes), "restarts": .integer(Int64(figures.1)),
        ])
      }
      let members = [
        JSON.Member(key: place.key, value: .string(place.name)), JSON.Member(key: "devices", value: .array(devices)),
        JSON.Member(key: "downtime_us", value: JSON(downtime)), JSON.Member(key: "total_us", value: .unsigned(took)),
        JSON.Member(key: "steps", value: steps),
      ]
      say(JSON.object(members + more).text(pretty: format.pretty))
      return
    }
    for (device, progress) in zip(outcome.devices, machine.progress) {
      say(
        "\(device.name): \(progress.bytes) bytes, \(progress.preCopyBytes) of them before the stop; now in "
          + "\(device.state?.name ?? "an unknown state")")
    }
    say(summary)
  }
}

extension EndedSession where Machine == LoadSession {
  /// - Parameter place: where the stream has come from, and its key.
  func report(place: (key: String, name: String), _ format: FormatOptions, _ console: Console, more: [JSON.Member] = [])
  {
    if format.wantsJSON {
      let devices = zip(outcome.devices, zip(machine.progress, machine.vmmStates)).map { device, figures in
        JSON.object([
          "name": .string(device.name), "state": JSON(device.state?.name), "bytes": .unsigned(figures.0.bytes),
          "vmm_state_bytes": JSON(figures.1?.count),
        ])
      }
      let members = [
        JSON.Member(key: place.key, value: .string(place.name)), JSON.Member(key: "devices", value: .array(devices)),
        JSON.Member(key: "total_us", value: .unsigned(took)), JSON.Member(key: "steps", value: steps),
      ]
      console.json(.object(members + more), format)
      return
    }
    for (device, progress) in zip(outcome.devices, machine.progress) {
      console.line("\(device.name): \(progress.bytes) bytes loaded; \(device.state?.name ?? "unknown")")
    }
    console.line("\(Figures.time(took)) in all")
  }
}

extension Commitment {
  /// Its name in JSON.
  var word: String {
    switch self {
    case .none: "none"
    case .offered: "offered"
    case .unanswered: "unanswered"
    case .complete: "complete"
    }
  }
}
