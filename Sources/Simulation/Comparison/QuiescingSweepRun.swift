// SPDX-License-Identifier: Apache-2.0
public import Migration

extension QuiescingSweep.Run {
  /// The world of this run.
  var world: WorldDescription {
    var world = QuiescingSweep.world(queuePairs: queuePairs)
    if let way {
      world.quiescing = way.quiescing
      world.retransmission.kind = way.timeouts
    } else {
      // What gives up first.
      world.retransmission.kind = .fixed
    }
    return world
  }

  /// Plays it to its end.
  /// - Parameter checksum: the stream's; any will do.
  public func play(checksum: StreamChecksum) -> QuiescingSweepResult {
    let scenario = Scenario(world: world, seed: 1)
    return way == nil ? Self.playStill(scenario) : Self.playMove(scenario, checksum)
  }

  static func playMove(_ scenario: Scenario, _ checksum: StreamChecksum) -> QuiescingSweepResult {
    var result = QuiescingSweepResult()
    guard var world = try? SimulatedWorld(scenario, checksum: checksum) else {
      result.problem = "the world can't be played"
      return result
    }
    while world.advance() {}
    let summary = world.summary
    result.quiescingMicroseconds =
      summary.stopPhases.first { $0.name == StopClock.intoP2P }?.microseconds ?? 0
    result.downtimeMicroseconds = summary.downtimeMicroseconds ?? 0
    result.imageBytes = summary.devices.reduce(0) { $0 + $1.imageBytes }
    world.machines?.describe(&result)
    if !summary.isVerified {
      result.problem = summary.violations.first ?? "the machine does not run on the destination"
    }
    return result
  }

  private static func playStill(_ scenario: Scenario) -> QuiescingSweepResult {
    var result = QuiescingSweepResult()
    guard let description = scenario.world,
      var world = try? MachineWorld(
        MachineWorld.Configuration(description, scriptSeed: scenario.scriptSeed), seed: scenario.seed)
    else {
      result.problem = "the world can't be played"
      return result
    }
    world.start()
    world.runOut()
    world.describe(&result)
    return result
  }
}

extension MachineWorld {
  /// What its peers saw, and whether all of it is right.
  fileprivate func describe(_ result: inout QuiescingSweepResult) {
    for machine in machines {
      for nic in machine.nics { result.sentAgain += nic.nic.counters.retransmittedPackets }
    }
    var answered = 0
    let wanted = configuration.machine.nics * configuration.machine.connections * configuration.machine.requests
    for peer in peers {
      result.sentAgain += peer.nic.counters.retransmittedPackets
      let seen = peer.observations
      answered += seen.answered
      result.broken += seen.failures.count
      result.longestSilence = max(result.longestSilence, seen.longestPause)
      result.longestRoundTrip = max(result.longestRoundTrip, seen.longestRoundTrip)
      if !seen.mismatches.isEmpty { result.problem = "a peer got a wrong answer" }
    }
    if isExhausted { result.problem = "the run does not come to an end" }
    if !violations.isEmpty { result.problem = "\(violations[0])" }
    if result.broken == 0, answered != wanted { result.problem = "\(wanted - answered) requests have no answer" }
  }
}
