// SPDX-License-Identifier: Apache-2.0
internal import Migration

extension GroupStep {
  /// The step's name in JSON, and its round where it has one: from 1.
  private var key: (name: String, round: Int?) {
    switch self {
    case .enterPreCopy: ("enter-pre-copy", nil)
    case .look: ("look", nil)
    case .stop(.endPeerTransfers): ("end-peer-transfers", nil)
    case .stop(.stopOthers(let level)): ("stop-others", level + 1)
    case .stop(.stopAll): ("stop-all", nil)
    case .flush: ("flush", nil)
    case .start(.leaveData): ("leave-data", nil)
    case .start(.answerPeers): ("answer-peers", nil)
    case .start(.startOthers(let level)): ("start-others", level + 1)
    case .start(.startAll): ("start-all", nil)
    }
  }

  /// The members that name a step.
  var json: [JSON.Member] {
    [JSON.Member(key: "step", value: .string(key.name)), JSON.Member(key: "round", value: JSON(key.round))]
  }
}

extension StepReport {
  /// A step and its arcs, with times in microseconds since `start`.
  func json(names: [String], since start: MonotonicTime) -> JSON {
    let arcs = arcs.map { arc in
      JSON.object([
        "device": .string(names[arc.device]), "from": JSON(arc.from?.name), "to": .string(arc.to.name),
        "began_us": .unsigned(arc.times.began.microseconds(since: start)),
        "took_us": .unsigned(arc.times.microseconds), "error": JSON(arc.error.map { "\($0)" }),
        "errno": JSON(arc.error?.errno?.name),
      ])
    }
    return .object(
      step.json + [
        JSON.Member(key: "way_back", value: .bool(isWayBack)),
        JSON.Member(key: "began_us", value: .unsigned(began.microseconds(since: start))),
        JSON.Member(key: "took_us", value: .unsigned(ended.microseconds(since: began))),
        JSON.Member(key: "skew_us", value: .unsigned(skew)),
        JSON.Member(key: "arcs", value: .array(arcs)),
      ])
  }
}
