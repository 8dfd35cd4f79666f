// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Simulation

extension SimulationReport {
  /// Everything that the table says, for scripts.
  var json: JSON {
    .object([
      "scenario": .string(scenario), "seed": .unsigned(seed), "faults": .array(faults.map { .string($0) }),
      "ending": .string(ending.kind.rawValue), "reason": JSON(ending.why), "verified": .bool(summary.isVerified),
      "downtime_us": JSON(stoppedMicroseconds), "total_us": .unsigned(summary.totalMicroseconds),
      "stream_bytes": .unsigned(summary.streamBytes), "run_digest": .string(Self.digest(summary.runDigest)),
      "violations": .array(summary.violations.map { .string($0) }),
      "stop_phases": .array(summary.stopPhases.map(\.json)), "memory": summary.memory?.json ?? .null,
      "decisions": .array(summary.decisions.map(\.json)),
      "peers": summary.peers?.json ?? .null,
      "source": Self.json(summary.source, isKilled: isKilled[0]),
      "destination": Self.json(summary.destination, isKilled: isKilled[1]),
      "devices": .array(zip(summary.devices, lanes).map(Self.json)), "compared_with": comparison?.json ?? .null,
    ])
  }

  private static func json(_ outcome: SessionOutcome?, isKilled: Bool) -> JSON {
    let names = outcome?.devices.map(\.name) ?? []
    return .object([
      "killed": .bool(isKilled), "failure": JSON(outcome?.failure(names: names, doing: "the session")?.message),
      "commitment": JSON(outcome?.commitment.key),
      "devices": .array(
        (outcome?.devices ?? []).map { device in
          .object([
            "name": .string(device.name), "state": JSON(device.state?.name), "was_reset": .bool(device.wasReset),
            "hangs": .bool(device.isHung),
          ])
        }),
    ])
  }

  private static func json(_ device: SimulationSummary.Device, _ lanes: DeviceLanes) -> JSON {
    let standstill = lanes.standstill
    return .object([
      "name": .string(device.name), "state_bytes": .integer(Int64(device.stateBytes)),
      "image_bytes": .unsigned(device.imageBytes), "pre_copy_bytes": .unsigned(device.preCopyBytes),
      "stop_copy_bytes": .unsigned(device.stopCopyBytes), "p2p_us": .unsigned(lanes.quietMicroseconds),
      "stopped_at_us": JSON(standstill?.begin),
      "stopped_us": JSON(standstill.flatMap { stop in stop.end.map { $0 - stop.begin } }),
      "on_wire_us": JSON(lanes.wireMicroseconds), "restarts": .integer(Int64(device.restarts)),
      "verified": .bool(device.isVerified), "arcs": .array(device.arcs.map(\.json)),
    ])
  }
}

extension MovePhase {
  var json: JSON {
    .object([
      "phase": .string(name), "begin_us": .unsigned(begin.microseconds), "took_us": .unsigned(microseconds),
    ])
  }
}

extension MemorySummary {
  var json: JSON {
    .object([
      "pages": .integer(Int64(pages)), "round_pages": .array(rounds.map { .integer(Int64($0)) }),
      "channel_bytes": .unsigned(bytes),
    ])
  }
}

extension PeerSummary {
  var json: JSON {
    .object([
      "connections": JSON(connections), "broken_connections": JSON(broken), "answers": JSON(answered),
      "wanted_answers": JSON(wanted), "wrong_answers": JSON(wrong), "mean_round_trip_us": .unsigned(meanRoundTrip),
      "longest_round_trip_us": .unsigned(longestRoundTrip), "longest_silence_us": .unsigned(longestSilence),
      "packets": JSON(packets), "retransmitted_packets": JSON(retransmitted),
    ])
  }
}

extension TimedArc {
  var json: JSON {
    .object([
      "side": .string("\(side)"), "from": JSON(from?.name), "to": .string(to.name),
      "begin_us": .unsigned(begin.microseconds), "end_us": .unsigned(end.microseconds),
      "error": JSON(error.map { "\($0)" }),
    ])
  }
}
