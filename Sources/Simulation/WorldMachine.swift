// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// The hosts' numbers.
private let source = SimulatedSide.source.rawValue
private let destination = SimulatedSide.destination.rawValue

/// What the VMMs of both hosts do for the virtual machine: they stop and start its vCPUs.
extension SimulatedWorld {
  // MARK: vCPUs

  /// A session wants the vCPUs to stand still.
  mutating func askToStopVCPUs(_ side: SimulatedSide) {
    if side == .source, machines != nil { stopClock.enter("vCPUs stop", at: now) }
    queue.put(.vcpusStop(side), at: now.adding(microseconds: scenario.vcpuStopMicroseconds))
  }

  mutating func stopVCPUs(_ side: SimulatedSide) {
    guard !isDone(side) else { return }
    machines?.stopProcessors(host: side.rawValue)
    if side == .source {
      runMemory()
      vcpusAreStopped = true
    }
    if side == .source, machines != nil {
      place = .stopped
      stopClock.enter(StopClock.intoP2P, at: now)
      breakOrder()
      if sabotage == .earlyReading { readTooEarly() }
    }
    deliver(.vcpusStopped, to: side)
  }

  /// A session is over: whose machine is it now?
  mutating func decideWhoRuns(_ side: SimulatedSide, _ outcome: SessionOutcome) {
    guard machines != nil else { return }
    let allRun = outcome.devices.allSatisfy { $0.state == .running && !$0.wasReset && !$0.isHung }
    switch side {
    case .source:
      machines?.setTracking(false, host: source)
      if outcome.commitment == .unanswered, sabotage == .commitAsAbort { return forceRestart() }
      guard outcome.commitment == .none else { return }
      if isCommitHanded { find("the source reports that it has not let go, and it has sent COMMIT") }
      if allRun {
        startVCPUs(.source)
      } else if outcome.devices.contains(where: \.wasReset)
        || hosts[source].devices.contains(where: { $0.state == .error })
      {
        lose()
      }
    case .destination:
      // Where nothing can be agreed on, a stream that was taken in to its end is all that there is.
      guard outcome.commitment == .complete || (!areAgreed && outcome.fault == nil && allRun) else { return }
      let state = mover.arrivedState
      find(state == nil ? "the machine is to run without its vCPUs' state" : nil)
      if let state, !loadVMMState(state) { find("the vCPUs' state does not fit") }
      startVCPUs(.destination)
    }
  }

  private mutating func loadVMMState(_ words: [UInt64]) -> Bool {
    do {
      try machines?.loadVMMState(words, host: destination)
      return true
    } catch {
      return false
    }
  }

  mutating func startVCPUs(_ side: SimulatedSide) {
    machines?.startProcessors(host: side.rawValue)
    vcpusAreStopped = false
    place = .runs(side)
    stopClock.stop(at: now)
  }

  /// The process that owned the machine is gone, or a device of it is empty.
  mutating func lose() {
    place = .lost
    stopClock.stop(at: now)
  }

  /// The kernel takes back what a killed process held.
  mutating func bury(_ side: SimulatedSide) {
    if side == .source { liftLeftLimits() }
    guard machines != nil else { return }
    machines?.stopProcessors(host: side.rawValue)
    for device in hosts[side.rawValue].devices.indices {
      functionCalls[side.rawValue][device] = nil
      machines?.reset(host: side.rawValue, device: device)
    }
    // A machine that the source has let go of may yet come to run on the destination.
    if place == .runs(side) || (side == .source && place == .stopped) { lose() }
  }

  // MARK: How far the stop is

  /// A device's driver begins to take it to a state. From the first that leaves STOP on the destination, memory changes there.
  mutating func noteDeparture(_ side: SimulatedSide, _ device: Int, to state: MigrationState) {
    let driver = hosts[destination].devices[device]
    guard side == .destination, state.mayWriteMemory, driver.isInUse, driver.loadedDigest != nil else { return }
    if !isMemoryCompared {
      isMemoryCompared = true
      if areAgreed, !isCommitHanded { find("device \(device) of the destination leaves STOP before COMMIT") }
      compareMemory()
      for function in hosts[1].devices.indices { compareFunction(function) }
    }
    if stopClock.isRunning { stopClock.enterOnce("devices run again, in two phases", at: now) }
  }

  /// A call of a device has ended: how far are all of them?
  mutating func noteProgress(_ side: SimulatedSide) {
    guard stopClock.isRunning else { return }
    let devices = hosts[side.rawValue].devices
    switch side {
    case .source:
      guard save.outcome == nil, vcpusAreStopped else { return }
      if devices.allSatisfy({ !$0.state.mayWriteMemory }) {
        stopClock.enterOnce("the last pages and states go over", at: now)
      } else if devices.allSatisfy({ !$0.state.mayStartPeerTransfers }) {
        stopClock.enterOnce("devices into STOP", at: now)
      }
    case .destination:
      if devices.allSatisfy({ $0.loadedDigest != nil && $0.state == .stop }) {
        stopClock.enterOnce("both sides agree who runs", at: now)
      }
    }
  }
}
