// SPDX-License-Identifier: Apache-2.0
internal import Migration

extension SimulatedWorld {
  /// How the simulation ended or, before its end, how far it is.
  public var summary: SimulationSummary {
    let arcs = notes.compactMap { timed -> (device: Int, arc: TimedArc)? in
      guard case .arc(let arc) = timed.note else { return nil }
      let took = TimedArc(
        side: timed.side, from: arc.from, to: arc.to, begin: arc.times.began, end: arc.times.ended, error: arc.error)
      return (arc.device, took)
    }
    let devices = hosts[0].devices.indices.map { index in
      let source = hosts[0].devices[index]
      let twin = hosts[1].devices.indices.contains(index) ? hosts[1].devices[index] : nil
      return SimulationSummary.Device(
        name: source.configuration.name,
        stateBytes: machines == nil ? source.configuration.stateBytes : source.stateBytes,
        imageBytes: twin == nil ? 0 : load.progress[index].bytes, preCopyBytes: save.progress[index].preCopyBytes,
        restarts: save.restarts[index], arcs: arcs.filter { $0.device == index }.map(\.arc),
        isVerified: source.savedDigest != nil && source.savedDigest == twin?.loadedDigest && twin?.isInUse == true)
    }
    var summary = SimulationSummary(
      source: save.outcome, destination: load.outcome, devices: devices, streamBytes: directions[0].sentBytes,
      frameOffsets: directions[0].frameOffsets, totalMicroseconds: now.microseconds,
      downtimeMicroseconds: downtime(arcs.map(\.arc)), violations: referee.violations, runDigest: runDigest)
    summary.memory = memory
    summary.decisions = decisions
    if areSessionsOver { summary.violations += memoryFindings }
    guard machines != nil else { return summary }
    summary.place = place
    summary.peers = peers
    summary.stopPhases = stopPhases
    return summary
  }

  /// The same, with all that a judge finds to be broken.
  public func summary(_ judge: Judge) -> SimulationSummary {
    var summary = summary
    summary.violations = judge.findings(self)
    return summary
  }

  /// A digest of all that happened in the sessions and in the world, and when.
  private var runDigest: UInt64 {
    guard let machines else { return digest.value }
    var all = digest
    all.add(machines.digest)
    return all.value
  }

  private func downtime(_ arcs: [TimedArc]) -> UInt64? {
    if machines != nil {
      if case .runs = place { return stoppedMicroseconds }
      return nil
    }
    guard let stopBegan = save.stopBegan, let destination = load.outcome else { return nil }
    if destination.fault == nil, !scenario.load.keepStopped {
      let starts = arcs.filter { $0.side == .destination && $0.error == nil && $0.to == .running }
      return starts.map(\.end).max()?.microseconds(since: stopBegan)
    }
    guard let source = save.outcome, source.devices.allSatisfy({ $0.state == .running }) else { return nil }
    return save.stopEnded?.microseconds(since: stopBegan)
  }
}

extension SessionEvent {
  /// A number for each kind of event, for the digest of a run.
  var code: UInt64 {
    switch self {
    case .control(let device, _, let result, _):
      if case .success = result { UInt64(device) << 8 | 1 } else { UInt64(device) << 8 | 2 }
    case .read(let device, _, let result):
      switch result {
      case .success(.bytes(let count)): UInt64(count) << 16 | UInt64(device) << 8 | 3
      case .success(.end): UInt64(device) << 8 | 4
      case .failure: UInt64(device) << 8 | 5
      }
    case .written(let device, _, let error): UInt64(device) << 8 | (error == nil ? 6 : 7)
    case .sent: 8
    case .channelFinished: 9
    case .received: 10
    case .streamFailed: 11
    case .channelFailed: 12
    case .time: 13
    case .interrupt: 14
    case .vcpusStopped: 15
    case .declareDead(let device): UInt64(device) << 8 | 16
    case .dirty(let reading): reading.pages << 16 | 17
    case .pagesSent(let bytes): bytes << 16 | 18
    case .memoryFailed: 19
    case .limited(let device, let error): UInt64(device) << 8 | (error == nil ? 20 : 21)
    case .order: 22
    }
  }
}
