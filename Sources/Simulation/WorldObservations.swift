// SPDX-License-Identifier: Apache-2.0
public import Migration

/// What can be seen of the virtual machine while it moves, and after; nothing where a scenario has no world.
extension SimulatedWorld {
  /// What the peers saw so far.
  public var peers: PeerSummary? {
    guard let machines else { return nil }
    let observations = machines.peers.map(\.observations)
    let counters = machines.peers.map(\.nic.counters)
    let answered = observations.reduce(0) { $0 + $1.answered }
    let sum = observations.reduce(0) { $0 + $1.roundTripSum }
    let machine = machines.configuration.machine
    return PeerSummary(
      connections: machine.nics * machine.connections, broken: observations.reduce(0) { $0 + $1.failures.count },
      answered: answered, wanted: machine.nics * machine.connections * machine.requests,
      wrong: observations.reduce(0) { $0 + $1.mismatches.count },
      meanRoundTrip: answered == 0 ? 0 : sum / UInt64(answered),
      longestRoundTrip: observations.map(\.longestRoundTrip).max() ?? 0,
      longestSilence: observations.map(\.longestPause).max() ?? 0,
      packets: counters.reduce(0) { $0 + $1.sentPackets },
      retransmitted: counters.reduce(0) { $0 + $1.retransmittedPackets })
  }

  /// How guest memory has gone over so far.
  public var memory: MemorySummary? {
    guard let pages = guestPages else { return nil }
    return MemorySummary(pages: pages, rounds: mover.rounds, bytes: mover.bytes)
  }

  /// What the source's pre-copy loop decided so far, in order.
  public var decisions: [PreCopyDecision] {
    notes.compactMap { if case .decided(let decision) = $0.note { decision } else { nil } }
  }

  /// Every change of a device's state so far, in truth.
  public var stateChanges: [DeviceStateChange] {
    (machines?.stateChanges ?? []).map {
      DeviceStateChange(
        time: $0.time, side: $0.host == 0 ? .source : .destination, device: $0.device, state: $0.state)
    }
  }

  /// Every round trip of the peers so far, by peer and oldest first, where the scenario keeps them.
  public var roundTrips: [PeerRoundTrip] {
    (machines?.peers ?? []).enumerated().flatMap { number, peer in
      peer.observations.roundTrips.map { PeerRoundTrip(peer: number, end: $0.end, microseconds: $0.microseconds) }
    }
  }

  /// The parts of the time in which the machine did not run, so far, in order.
  public var stopPhases: [MovePhase] { stopClock.phases(at: now) }

  /// Microseconds for which the machine has been stopped: from the moment at which its vCPUs were asked to stop until they ran
  /// again, or until now. Nil before.
  public var stoppedMicroseconds: UInt64? { stopClock.microseconds(at: now) }
}
