// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Simulation

/// What one simulated move came to: everything that its table, its JSON and its picture say.
struct SimulationReport {
  /// As the command line names it.
  let scenario: String
  let seed: UInt64
  /// The command that plays it again.
  let command: String
  /// The faults that were drawn, in words.
  let faults: [String]
  var summary: SimulationSummary
  let ending: SimulationEnding
  /// By the device's number.
  let lanes: [DeviceLanes]
  /// By the side's number.
  let isKilled: [Bool]
  /// Microseconds for which the machine stood still.
  let stoppedMicroseconds: UInt64?
  /// Whether nothing was to go wrong.
  let expectsSuccess: Bool
  /// The run without what the command line changed; nil where it changed nothing.
  var comparison: SimulationComparison?

  /// The state of a run; at its end, what it came to.
  init(
    _ world: SimulatedWorld, scenario: String, seed: UInt64, command: String, faults: [String], expectsSuccess: Bool
  ) {
    self.scenario = scenario
    self.seed = seed
    self.command = command
    self.faults = faults
    self.expectsSuccess = expectsSuccess
    summary = world.summary(Judge())
    ending = SimulationEnding(world, summary)
    lanes = DeviceLanes.all(of: world)
    isKilled = world.isKilled
    stoppedMicroseconds = world.stoppedMicroseconds ?? summary.downtimeMicroseconds
  }

  /// Why the run shows that this program is wrong; nil where it does not.
  var problem: String? {
    if let violation = summary.violations.first { return violation }
    guard expectsSuccess, !summary.isVerified else { return nil }
    if ending.kind != .moved { return ending.words }
    let wrong = summary.devices.first { !$0.isVerified }
    return "\(wrong?.name ?? "a device") does not hold what the source's held"
  }

  /// What each side said at its end.
  var statements: [String] {
    let names = summary.devices.map(\.name)
    return zip(SimulatedSide.allCases, [summary.source, summary.destination]).map { side, outcome in
      let doing = side == .source ? "saving" : "loading"
      if isKilled[side.rawValue] { return "\(side): its process was killed, and the kernel reset its devices" }
      guard let outcome else { return "\(side): it said nothing" }
      // Devices that fared alike are counted below.
      var withoutDevices = outcome
      withoutDevices.devices = []
      var text = withoutDevices.failure(names: names, doing: doing)?.message ?? "\(doing) is done"
      if text.hasSuffix("; ") { text.removeLast(2) }
      return ["\(side): \(text)", outcome.places, outcome.commitment.words(on: side)].compactMap { $0 }
        .joined(separator: "; ")
    }
  }

  /// A digest as people and scripts compare it.
  static func digest(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}

extension SessionOutcome {
  /// Where its devices are, those that fared alike together; nil where there are none.
  fileprivate var places: String? {
    var groups: [(place: String, names: [String])] = []
    for device in devices {
      let state = device.isHung ? "does not answer" : device.state.map { "in \($0)" } ?? "nobody knows where"
      let place = state + (device.wasReset ? ", reset and empty" : "")
      if let index = groups.firstIndex(where: { $0.place == place }) {
        groups[index].names.append(device.name)
      } else {
        groups.append((place, [device.name]))
      }
    }
    if groups.isEmpty { return nil }
    return groups.map { group in
      let names = group.names.count > 2 ? "\(group.names.count) devices" : group.names.joined(separator: " and ")
      return "\(names): \(group.place)"
    }.joined(separator: "; ")
  }
}

extension Commitment {
  /// What a side knows about who runs; nil where that goes without saying.
  func words(on side: SimulatedSide) -> String? {
    switch self {
    case .none, .complete: nil
    case .offered: "it asked whether it may run and had no answer, so its devices stand still"
    case .unanswered:
      side == .source
        ? "it has let go and did not hear whether the destination runs, so its devices stand still"
        : "it was told to run, and not every device does"
    }
  }

  /// As scripts read it.
  var key: String {
    switch self {
    case .none: "none"
    case .offered: "offered"
    case .unanswered: "unanswered"
    case .complete: "complete"
    }
  }
}
