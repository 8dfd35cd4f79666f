// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Topology

/// What a device of a plan supports, and who says so.
struct PlannedDevice {
  /// Who says what it supports.
  enum Source: Hashable {
    /// The device itself, through a descriptor that somebody holds.
    case device
    /// What its driver usually offers.
    case usual(driver: String)
    /// The command line.
    case assumed
  }

  let name: String
  let features: MigrationFeatures
  let source: Source

  /// Who says so, for a person.
  var sourceWords: String {
    switch source {
    case .device: "the device says so"
    case .usual(let driver): "usually, with the driver \(driver)"
    case .assumed: "assumed (--assume)"
    }
  }

  /// The same for a script.
  var sourceKey: String {
    switch source {
    case .device: "device"
    case .usual: "usual"
    case .assumed: "assumed"
    }
  }
}

/// A quiescing plan explained: who goes where in which step, and why in this order.
struct TopologyPlan {
  /// A device that changes its state.
  struct Move: Hashable {
    let device: Int
    let from: MigrationState
    let to: MigrationState
  }

  /// All moves between two barriers.
  struct Step: Hashable {
    let step: GroupStep
    let moves: [Move]

    /// As people read it.
    var title: String { step == .enterPreCopy ? "reading ahead" : "\(step)" }
  }

  let devices: [PlannedDevice]
  let plan: QuiescePlan
  /// Whether each device's configuration space is read between the steps.
  let flush: Bool
  /// Into pre-copy, for those that have it, while the guest runs.
  let ahead: Step
  /// From there to where the devices are saved.
  let stop: [Step]
  /// And back to running.
  let start: [Step]

  init(devices: [PlannedDevice], reachability: Reachability, flush: Bool) throws(QuiesceRefusal) {
    self.devices = devices
    self.flush = flush
    let plan = try QuiescePlan(
      devices: devices.map { QuiescePlan.Device(name: $0.name, features: $0.features) }, reachability: reachability)
    self.plan = plan
    var states: [MigrationState] = devices.map { _ in .running }
    func step(_ step: GroupStep, _ target: (Int) -> MigrationState?) -> Step {
      var moves: [Move] = []
      for device in devices.indices {
        guard let next = target(device) else { continue }
        moves.append(Move(device: device, from: states[device], to: next))
        states[device] = next
      }
      return Step(step: step, moves: moves)
    }
    ahead = step(.enterPreCopy) { devices[$0].features.contains(.preCopy) ? .preCopy : nil }
    var stop: [Step] = []
    for stopStep in plan.stopSteps {
      stop.append(step(.stop(stopStep)) { plan.target(stopStep, device: $0, from: states[$0], goal: .stopCopy) })
    }
    self.stop = stop.filter { !$0.moves.isEmpty }
    var start: [Step] = []
    for startStep in plan.startSteps {
      start.append(step(.start(startStep)) { plan.target(startStep, device: $0, from: states[$0], goal: .running) })
    }
    self.start = start.filter { !$0.moves.isEmpty }
  }

  // MARK: For a person

  var lines: [String] {
    var lines = ["Devices"]
    lines += TextTable.lines(
      devices.map { ["  \($0.name)", $0.features.names.joined(separator: ","), $0.sourceWords] })
    lines += ["", "Quiesce domains: devices that can reach each other, directly or through others"]
    for (index, domain) in plan.domains.enumerated() {
      lines.append("  \(index + 1)  \(names(domain))")
    }
    if !ahead.moves.isEmpty {
      lines += ["", "While the guest runs"] + Self.lines([ahead], names: devices.map(\.name))
    }
    lines += [
      "", "To a stop, once no vCPU runs: all devices of a step at once, and each step when the one before has ended",
    ]
    lines += Self.lines(stop, names: devices.map(\.name))
    if flush { lines.append("  Between these steps every device's configuration space is read.") }
    if !orderReasons.isEmpty { lines += ["", "Why those without P2P states stop in this order"] + orderReasons }
    lines += ["", "Running again: the same in reverse, and so is the way back from a failure"]
    lines += Self.lines(start, names: devices.map(\.name))
    return lines
  }

  private func names(_ positions: [Int]) -> String { positions.map { devices[$0].name }.joined(separator: ", ") }

  private static func lines(_ steps: [Step], names: [String]) -> [String] {
    var rows: [[String]] = []
    for (index, step) in steps.enumerated() {
      for (place, move) in step.moves.enumerated() {
        rows.append([
          place == 0 ? "  \(index + 1)" : "", place == 0 ? step.title : "", names[move.device],
          "\(move.from) -> \(move.to)",
        ])
      }
    }
    return TextTable.lines(rows)
  }

  /// A line for each device without P2P states: its round, and the links that put it there.
  private var orderReasons: [String] {
    let without = devices.indices.filter { plan.levels[$0] != nil }
    return without.sorted { (plan.levels[$0] ?? 0, $0) < (plan.levels[$1] ?? 0, $1) }.flatMap { device -> [String] in
      let round = "  round \((plan.levels[device] ?? 0) + 1): \(devices[device].name)"
      let links = before(device)
      if links.isEmpty { return ["\(round): no other without P2P states can start transfers to it"] }
      return links.map { other in
        let link = plan.reachability[other, device]
        return "\(round), after \(devices[other].name), which can start transfers to it (\(link.path): \(link.reason))"
      }
    }
  }

  /// The devices without P2P states that have to stop before this one.
  private func before(_ device: Int) -> [Int] {
    devices.indices.filter { plan.levels[$0] != nil && plan.reachability.reaches($0, device) }
  }

  // MARK: For a script

  var json: JSON {
    .object([
      "devices": .array(
        devices.indices.map { index in
          .object([
            "name": .string(devices[index].name),
            "features": .array(devices[index].features.names.map { .string($0) }),
            "features_source": .string(devices[index].sourceKey),
            "stop_round": JSON(plan.levels[index].map { $0 + 1 }),
            "stops_after": .array((plan.levels[index] == nil ? [] : before(index)).map { .string(devices[$0].name) }),
          ])
        }),
      "domains": .array(plan.domains.map { domain in .array(domain.map { .string(devices[$0].name) }) }),
      "flush": .bool(flush),
      "pre_copy": json(ahead),
      "stop_steps": .array(stop.map(json)),
      "start_steps": .array(start.map(json)),
      "refusal": .null,
    ])
  }

  private func json(_ step: Step) -> JSON {
    let moves = step.moves.map { move in
      JSON.object([
        "device": .string(devices[move.device].name), "from": .string(move.from.name), "to": .string(move.to.name),
      ])
    }
    return .object(step.step.json + [JSON.Member(key: "moves", value: .array(moves))])
  }
}

extension QuiesceRefusal {
  /// The circle and what would allow it, for a person.
  var lines: [String] {
    var lines = ["These devices have no P2P states, and can start transfers to each other in a circle:"]
    lines += TextTable.lines(links.map { ["  \($0.from) -> \($0.to)", "\($0.link.path)", $0.link.reason] })
    lines += ["Whichever stops first, one that still runs can write to it. What would allow the group:"]
    for link in links { lines.append("  --no-link \(link.from),\(link.to)   if it never starts transfers to it") }
    lines.append("  a driver or firmware with P2P states for one of them")
    lines.append("  streams of their own, if they don't talk to each other")
    return lines
  }

  /// The same for a script.
  var json: JSON {
    .object([
      "refusal": .object([
        "message": .string("\(self)"),
        "cycle": .array(
          links.map { link in
            .object([
              "from": .string(link.from), "to": .string(link.to), "path": .string(link.link.path.key),
              "at": JSON(link.link.path.place), "reason": .string(link.link.reason),
              "origin": .string(link.link.origin.key),
            ])
          }),
      ])
    ])
  }
}
