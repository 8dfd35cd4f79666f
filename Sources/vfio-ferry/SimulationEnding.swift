// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Simulation

/// Where a simulated move left the machine.
struct SimulationEnding: Hashable {
  /// The four places where it can be.
  enum Kind: String, CaseIterable, Hashable {
    case moved
    case wentBack = "went_back"
    /// Nobody runs it, and somebody said so.
    case stopped
    case lost
  }

  let kind: Kind
  /// What kept it from moving, in a few words that many runs have in common.
  let why: String?

  /// How a run ended.
  init(_ world: SimulatedWorld, _ summary: SimulationSummary) {
    kind =
      switch summary.place {
      case .runs(.destination): .moved
      case .runs(.source): .wentBack
      case .stopped: .stopped
      case .lost: .lost
      case nil: Self.kind(summary, isKilled: world.isKilled)
      }
    why = kind == .moved ? nil : Self.why(summary, isKilled: world.isKilled, isLost: kind == .lost)
  }

  /// Where nobody watches the machine itself: what the sessions say.
  private static func kind(_ summary: SimulationSummary, isKilled: [Bool]) -> Kind {
    if isKilled[0], summary.destination?.fault != nil { return .lost }
    if let destination = summary.destination, destination.fault == nil { return .moved }
    if let source = summary.source, source.devices.allSatisfy({ $0.state == .running }) {
      return source.devices.contains(where: \.wasReset) ? .lost : .wentBack
    }
    return .stopped
  }

  private static func why(_ summary: SimulationSummary, isKilled: [Bool], isLost: Bool) -> String {
    if isKilled[0] { return "the source's process was killed" }
    if isLost, (summary.source?.devices ?? []).contains(where: \.wasReset) { return "a device had to be reset" }
    if isKilled[1] { return "the destination's process was killed" }
    // The one that failed first pulls the other along, by the link.
    let faults = [summary.source?.fault, summary.destination?.fault].compactMap { $0 }
    return faults.map(\.words).first { !SessionFault.consequences.contains($0) } ?? faults.first?.words
      ?? "no side says why"
  }

  /// As the end of a report says it.
  var words: String {
    switch kind {
    case .moved: "Moved: the machine runs on the destination."
    case .wentBack: "Went back: the machine runs on the source\(reason)."
    case .stopped: "Stands still: the machine runs on no host, and that was said\(reason)."
    case .lost: "Lost: the machine is gone\(reason)."
    }
  }

  private var reason: String { why.map { ", because \($0)" } ?? "" }
}

extension SessionFault {
  static let linkWords = "the link failed"
  /// What one side says because of what the other did.
  static let consequences = [linkWords, givenUpWords]
  private static let givenUpWords = "the destination gave up"

  /// What kind of fault it is, in words without numbers.
  var words: String {
    switch self {
    case .device: "a device failed"
    case .channel: Self.linkWords
    // It ends where the link does, or the source.
    case .stream(let error): error.kind == .incomplete ? Self.linkWords : "the stream was damaged"
    case .mismatch: "the devices do not fit"
    case .givenUp: Self.givenUpWords
    case .keptResetting: "the guest kept resetting a device"
    case .memory: "guest memory could not be sent"
    case .stillLimited: "a limit could not be lifted"
    case .resetAtLastMoment: "the guest reset a device at the last moment"
    case .outrun: "the guest dirtied more than could be sent"
    case .declaredDead: "a device did not answer"
    case .interrupted: "somebody ended it"
    }
  }
}
