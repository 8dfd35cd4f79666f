// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// Watches the devices themselves, not what sessions believe about them, for breaches of the contracts: two phases with
/// all devices, and never two of one device running.
struct Referee: Sendable {
  /// A breach, unless the session reports in the end that this device could not be brought along.
  private struct Suspicion: Sendable {
    let text: String
    let side: SimulatedSide
    /// The device that moved.
    let mover: Int
    /// The device that was not ready for it.
    let device: Int
    /// The latter had a call that it has not answered, and nobody had declared it dead.
    let hangs: Bool
  }

  /// Who of a side's devices can start transfers to whom, by the side's number.
  private let reachability: [Reachability]
  private(set) var violations: [String] = []
  private var suspicions: [Suspicion] = []
  /// Devices that ran on both sides before the source's session was over.
  private var twins: [String] = []
  private var sourceSucceeded: Bool?

  init(reachability: [Reachability]) { self.reachability = reachability }

  mutating func record(_ text: String, at time: MonotonicTime) {
    violations.append("\(time.microseconds): \(text)")
  }

  /// A device of a host has changed its state.
  /// - Parameter hanging: the devices with a call that is not answered although it was reported, and not given up.
  mutating func observe(
    _ host: borrowing SimulatedHost, _ index: Int, from: MigrationState, hanging: [Bool], at time: MonotonicTime
  ) {
    let device = host.devices[index]
    let to = device.state
    let links = reachability[host.side.rawValue]
    guard device.isInUse, !device.isFreshFromReset else { return }
    let stops = from.mayWriteMemory && !to.mayWriteMemory && to != .error
    let starts = to.mayStartPeerTransfers && !from.mayStartPeerTransfers
    for other in host.devices.indices where other != index && (stops || starts) {
      let peer = host.devices[other]
      guard peer.isInUse, !peer.isFreshFromReset else { continue }
      let peerHasP2P = peer.graph.contains(.runningP2P)
      // Devices with P2P states wait for all others. One without waits for those of its kind that it has to do with.
      let hasToDo =
        device.graph.contains(.runningP2P) || peerHasP2P
        || (stops ? links.reaches(other, index) : links.reaches(index, other))
      let peerIsReady = !hasToDo || (stops ? !peer.state.mayStartPeerTransfers : peer.state.mayWriteMemory)
      guard !peerIsReady else { continue }
      let text = "\(host.side): device \(index) went from \(from) to \(to) while device \(other) was in \(peer.state)"
      suspicions.append(
        Suspicion(
          text: "\(time.microseconds): \(text)", side: host.side, mover: index, device: other, hangs: hanging[other]))
    }
  }

  /// A session is over: compares what it says with the devices.
  mutating func close(_ host: borrowing SimulatedHost, _ outcome: SessionOutcome, at time: MonotonicTime) {
    for suspicion in suspicions where suspicion.side == host.side {
      // A device that was declared dead may still move when its call answers at last.
      if outcome.devices[suspicion.mover].isHung { continue }
      let device = outcome.devices[suspicion.device]
      let isReported = device.isHung || device.wasReset || device.state == nil || device.state == .error
      // A device that was stopped before, or had to be left where it can't run, holds nobody up.
      let staysStopped = device.state.map { !$0.mayWriteMemory } ?? true
      if suspicion.hangs || !(isReported || staysStopped) { violations.append(suspicion.text) }
    }
    suspicions.removeAll { $0.side == host.side }
    for (index, device) in outcome.devices.enumerated() {
      if let state = device.state, state != host.devices[index].state, !host.devices[index].wasResetByGuest {
        record("\(host.side): device \(index) is in \(host.devices[index].state), not in \(state)", at: time)
      }
      guard !device.isHung else { continue }
      let hasFailedAgain = outcome.cleanupFaults.contains { if case .device(index, _) = $0 { true } else { false } }
      if host.devices[index].isHalfSuspended, !hasFailedAgain,
        device.state == host.devices[index].configuration.initialState
      {
        record("\(host.side): device \(index) runs, and a part of it is still suspended", at: time)
      }
      if !host.control[index].isIdle { record("\(host.side): device \(index) has a control call left", at: time) }
      if !host.data[index].isIdle { record("\(host.side): device \(index) has a data call left", at: time) }
    }
    if host.side == .source {
      sourceSucceeded = outcome.fault == nil
      if outcome.fault == nil { violations += twins }
    }
    guard outcome.fault == nil else { return }
    for (number, user) in host.bufferUsers.enumerated() {
      // The receiving end offers buffers that nobody needs any more.
      if let user, user != "receiving" { record("\(host.side): buffer \(number) is left to \(user)", at: time) }
    }
  }

  /// A loaded device runs: its original must not. Without an agreement that holds unless the source reports a fault in the
  /// end, because a stream can't tell the destination of a fault that comes after its end frame.
  mutating func compare(
    _ source: borrowing SimulatedHost, _ destination: borrowing SimulatedHost, isAgreed: Bool, at time: MonotonicTime
  ) {
    for index in source.devices.indices where destination.devices.indices.contains(index) {
      let twin = destination.devices[index]
      guard twin.loadedDigest != nil, twin.isInUse, twin.state.mayWriteMemory else { continue }
      if source.devices[index].isInUse, source.devices[index].state.mayWriteMemory {
        let text = "\(time.microseconds): device \(index) runs on both sides"
        if isAgreed || sourceSucceeded == true { violations.append(text) } else { twins.append(text) }
      }
    }
  }
}
