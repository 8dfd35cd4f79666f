// SPDX-License-Identifier: Apache-2.0

/// A guest that resets its device while it is read ahead of the stop.
extension SaveSession {
  /// During pre-copy the guest still runs and may reset its device: the data session is over then, and the device is in
  /// RUNNING. Anything else is a fault.
  mutating func suspectReset(of device: Int, _ error: DeviceError) {
    let mayBeReset = error.errno == .noDevice || error.errno == .invalidArgument
    guard phase == .preCopying, mayBeReset else { return fail(.device(device, error)) }
    pumps[device].suspicion = error
    pumps[device].infoDue = nil
  }

  mutating func settleSuspicion(
    _ device: Int, _ result: Result<ControlAnswer, DeviceError>, at now: MonotonicTime
  ) -> [SessionEffect] {
    group.mover.release(device)
    let suspicion = pumps[device].suspicion
    pumps[device].suspicion = nil
    switch result {
    case .success(.state(let state)) where state == .running || state == .runningP2P:
      group.mover.observe(device, state: state)
      pumps[device].isOpen = false
      var effects = restart(device)
      guard fault == nil, let again = preCopyState(of: group.mover.members[device]) else { return effects }
      effects.append(group.mover.ask(device, .setState(again), at: now))
      return effects
    case .success(.state(let state)):
      group.mover.observe(device, state: state)
      fail(.device(device, suspicion ?? DeviceError(.readState, .unexpectedState(state))))
    case .failure(let error):
      group.mover.observe(device, state: nil)
      if let suspicion { fail(.device(device, suspicion)) }
      fail(.device(device, error))
    case .success:
      break
    }
    return []
  }

  /// Voids what was sent of a device; its new session is read from the start.
  mutating func restart(_ device: Int) -> [SessionEffect] {
    pumps[device].restart()
    loop?.reconsider()
    guard pumps[device].restarts <= configuration.pace.mostRestarts else {
      fail(.keptResetting(device, times: pumps[device].restarts))
      return []
    }
    let restarted = [
      SessionEffect.note(.restarted(device: device, times: pumps[device].restarts)),
      send(writer.mark(.void, device: device)),
    ]
    return loop == nil ? restarted : restarted + [.restartTracking(device: device)]
  }
}
