// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What is watched of devices' states, and how a device is reset.
extension VirtualMachine {
  /// The state that a device is in.
  func state(of device: Int) -> MigrationState {
    device < nics.count ? nics[device].state : gpus[device - nics.count].state
  }

  /// Drives a NIC or a GPU, whichever the device is.
  mutating func drive(
    device: Int, nic: NICFunction.Input, gpu: GPU.Input, at now: MonotonicTime, _ random: inout SeededGenerator,
    _ outputs: inout [Output]
  ) {
    if device < nics.count {
      drive(nic: device, nic, at: now, &random, &outputs)
    } else {
      drive(gpu: device - nics.count, gpu, at: now, &random, &outputs)
    }
  }

  /// Whoever resets it, what was asked of it before is void.
  mutating func reset(
    _ device: Int, at now: MonotonicTime, _ random: inout SeededGenerator, _ outputs: inout [Output]
  ) {
    forgetCommands(of: device)
    drive(device: device, nic: .reset, gpu: .reset, at: now, &random, &outputs)
  }

  /// The commands that are under way are neither done nor answered.
  mutating func forgetCommands(of device: Int) {
    firstCommands[device] = commands.count
    areStopped[device] = false
  }

  /// The driver makes what it can make without peers. A NIC without objects refuses none of it.
  mutating func setUpAfterReset(nic: Int) {
    do { try setUp(nic: nic) } catch { preconditionFailure("a NIC that was reset makes no object: \(error)") }
  }

  /// Tells where a device's state is another than the last that was told, or its network.
  mutating func tellState(of device: Int, _ outputs: inout [Output]) {
    let state = state(of: device)
    if state != toldStates[device] {
      toldStates[device] = state
      outputs.append(.entered(device: device, state))
    }
    guard device < nics.count, nics[device].nic.isServing != toldServing[device] else { return }
    toldServing[device].toggle()
    outputs.append(.serves(nic: device, toldServing[device]))
  }

  // MARK: Violations

  /// A device was stopped when that packet arrived.
  func violation(at now: MonotonicTime, _ device: Int, _ kind: MachineViolation.Kind, _ packet: FabricPacket) -> Output
  {
    .violation(MachineViolation(time: now, host: host, device: device, kind: kind, packet: packet))
  }

  /// Whether a packet was sent for a device that is in ERROR by now.
  func isOfFailed(_ packet: FabricPacket) -> Bool {
    let requester = deviceOfNode[packet.requester]
    return requester >= 0 && state(of: requester) == .error
  }

  /// Guest memory is about to be written: may it be?
  func checkWrite(_ packet: FabricPacket, at now: MonotonicTime, _ outputs: inout [Output]) {
    let device = deviceOfNode[packet.requester]
    guard device >= 0, areStopped[device], state(of: device) != .error else { return }
    outputs.append(violation(at: now, device, .wroteWhileStopped, packet))
  }
}
