// SPDX-License-Identifier: Apache-2.0
public import Migration

extension ThrottleSweep.Run {
  /// The move that it plays.
  var scenario: Scenario {
    let imageBytes = Int(ThrottleSweep.imageBytes(guestBytes: guestBytes))
    var nic = SimulatedDevice.Configuration(name: "0000:17:00.2")
    nic.driver = "simulated-nic"
    nic.stateBytes = imageBytes
    nic.pageBytes = 64 << 10
    nic.changedBytesPerMicrosecond = 2
    nic.hotBytes = imageBytes / 16
    // As mlx5 does.
    nic.offersOnInfoOnly = true
    nic.offersInPreCopyP2P = false
    var scenario = Scenario(moving: [nic])
    scenario.commits = true
    scenario.link.bytesPerMicrosecond = ThrottleSweep.linkGigabits * ThrottleSweep.bytesOfGigabit / 1_000_000
    let pageBytes = UInt64(ThrottleSweep.pageBytes)
    scenario.memory = SimulatedMemory.Configuration(
      pages: Int(guestBytes / pageBytes),
      writers: [
        SimulatedMemory.Writer(
          device: 0, pages: 0..<Int(ThrottleSweep.workingSetBytes(guestBytes: guestBytes) / pageBytes),
          bytesPerSecond: gigabits * ThrottleSweep.bytesOfGigabit)
      ])
    var memory = PreCopyConfiguration()
    memory.downtimeLimit = ThrottleSweep.downtimeLimit(guestBytes: guestBytes)
    memory.throttled = [way.isThrottled]
    memory.lastResort = way.lastResort
    scenario.save.memory = memory
    return scenario
  }

  /// Plays it to its end.
  /// - Parameter checksum: the stream's; any will do.
  public func play(checksum: StreamChecksum) -> ThrottleSweepResult {
    var result = ThrottleSweepResult()
    guard var world = try? SimulatedWorld(scenario, checksum: checksum) else {
      result.problem = "the move can't be played"
      return result
    }
    while world.advance() {}
    let summary = world.summary
    result.rounds = summary.decisions.count
    result.totalMicroseconds = summary.totalMicroseconds
    result.foretoldMicroseconds = summary.decisions.last?.forecast.downtime
    result.memoryBytes = summary.memory?.bytes ?? 0
    result.limits = summary.decisions.compactMap(\.newLimit)
    result.limitedMicroseconds = world.limitedMicroseconds
    result.ending = Self.ending(summary)
    switch result.ending {
    case .moved, .forced: result.downtimeMicroseconds = summary.downtimeMicroseconds
    case .gaveUp: break
    case .failed: result.problem = "the move fails: \(summary.source?.fault.map { "\($0)" } ?? "nobody knows why")"
    }
    if let violation = summary.violations.first { result.problem = violation }
    return result
  }

  private static func ending(_ summary: SimulationSummary) -> ThrottleSweepResult.Ending {
    if case .outrun = summary.source?.fault { return .gaveUp }
    guard summary.isVerified, let last = summary.decisions.last else { return .failed }
    return last.verdict == .force ? .forced : .moved
  }
}

extension SimulatedWorld {
  /// Microseconds from the first limit to the last decision.
  fileprivate var limitedMicroseconds: UInt64 {
    var first: MonotonicTime?
    var last: MonotonicTime?
    for timed in notes {
      guard case .decided(let decision) = timed.note else { continue }
      if decision.newLimit != nil, first == nil { first = timed.time }
      last = timed.time
    }
    guard let first, let last else { return 0 }
    return last.microseconds(since: first)
  }
}

extension PreCopyDecision {
  /// The limit that it sets, in bytes a second; nil where it sets none.
  fileprivate var newLimit: UInt64? { if case .throttle(let rate) = verdict { rate } else { nil } }
}
