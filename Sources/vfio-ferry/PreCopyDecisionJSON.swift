// SPDX-License-Identifier: Apache-2.0
internal import Migration

extension PreCopyDecision {
  /// The decision with the figures that it was taken from, for scripts.
  var json: JSON {
    .object([
      "round": .integer(Int64(round)), "verdict": .string(verdict.key),
      "inbound_limit_bytes_per_second": JSON(verdict.inboundLimit), "awaited_device": JSON(verdict.awaitedDevice),
      "page_bytes": .unsigned(forecast.pageBytes), "device_bytes": .unsigned(forecast.deviceBytes),
      "device_us": .unsigned(forecast.deviceMicroseconds), "bandwidth_bytes_per_second": .unsigned(forecast.bandwidth),
      "dirty_bytes_per_second": .unsigned(forecast.dirtyRate), "reading_us": .unsigned(forecast.reading),
      "quiescing_us": .unsigned(forecast.quiescing),
      "loading_us": .unsigned(forecast.loading), "downtime_us": JSON(forecast.downtime), "limit_us": .unsigned(limit),
    ])
  }
}

extension PreCopyDecision.Verdict {
  /// Whether a person should hear of it who did not ask for every decision.
  var isOutOfTheOrdinary: Bool {
    switch self {
    case .throttle, .force, .giveUp: true
    case .goOn, .awaitInitial, .stop: false
    }
  }

  fileprivate var key: String {
    switch self {
    case .goOn: "go-on"
    case .awaitInitial: "await-initial"
    case .throttle: "throttle"
    case .stop: "stop"
    case .force: "force"
    case .giveUp: "give-up"
    }
  }

  fileprivate var inboundLimit: UInt64? { if case .throttle(let rate) = self { rate } else { nil } }
  fileprivate var awaitedDevice: Int? { if case .awaitInitial(let device) = self { device } else { nil } }
}
