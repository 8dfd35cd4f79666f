// SPDX-License-Identifier: Apache-2.0

/// What the pre-copy loop decided after a reading of dirty pages, and from which figures.
public struct PreCopyDecision: Hashable, Sendable {
  /// What is done.
  public enum Verdict: Hashable, Sendable {
    /// Another round.
    case goOn
    /// Another round, because the destination has not said yet that it has taken in this device's initial bytes.
    case awaitInitial(device: Int)
    /// Another round, with what comes in to the devices limited to so many bytes a second, all together (DA9).
    case throttle(bytesPerSecond: UInt64)
    /// The guest is stopped.
    case stop
    /// The guest is stopped although it will stand still for longer than wanted: the caller chose that.
    case force
    /// The guest dirties more than can be sent, and goes on running here: the caller chose that.
    case giveUp
  }

  /// The round that ends with it; 1 is the one that sends everything.
  public var round: Int
  /// The figures.
  public var forecast: PreCopyForecast
  /// Microseconds that the guest may stand still.
  public var limit: UInt64
  /// What is done.
  public var verdict: Verdict

  /// A decision.
  public init(round: Int, forecast: PreCopyForecast, limit: UInt64, verdict: Verdict) {
    self.round = round
    self.forecast = forecast
    self.limit = limit
    self.verdict = verdict
  }
}

extension PreCopyDecision: CustomStringConvertible {
  /// One line for a person.
  public var description: String {
    let left = "\(decimal(forecast.pageBytes))B of pages and \(decimal(forecast.deviceBytes))B of device state left"
    guard let downtime = forecast.downtime else { return "round \(round): \(left); nothing measured yet: \(verdict)" }
    return
      "round \(round): \(left), \(decimal(forecast.bandwidth))B/s out, \(decimal(forecast.dirtyRate))B/s dirtied: "
      + "\(milliseconds(downtime)) if stopped now, \(milliseconds(limit)) allowed: \(verdict)"
  }
}

extension PreCopyDecision.Verdict: CustomStringConvertible {
  public var description: String {
    switch self {
    case .goOn: "go on"
    case .awaitInitial(let device): "go on until the destination has the initial data of device \(device)"
    case .throttle(let rate): "limit what comes in to \(decimal(rate))B/s and go on"
    case .stop: "stop"
    case .force: "it gets no less, so stop all the same"
    case .giveUp: "it gets no less, so give up"
    }
  }
}

/// Three digits at least, with a decimal prefix and a space before it.
private func decimal(_ number: UInt64) -> String {
  let prefixes = ["", "k", "M", "G", "T", "P", "E"]
  var index = 0
  var unit: UInt64 = 1
  while number / unit >= 1000, index + 1 < prefixes.count {
    unit *= 1000
    index += 1
  }
  if index == 0 || number / unit >= 100 { return "\(number / unit) \(prefixes[index])" }
  return "\(number / unit).\(number % unit * 10 / unit) \(prefixes[index])"
}

private func milliseconds(_ microseconds: UInt64) -> String {
  microseconds < 10_000
    ? "\(microseconds / 1000).\(microseconds % 1000 / 100) ms" : "\(microseconds / 1000) ms"
}
