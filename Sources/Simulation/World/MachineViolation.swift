// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What must not happen around a device that was brought to a stop. One that is in ERROR is never the reason.
struct MachineViolation: Hashable, Sendable {
  /// What happened.
  enum Kind: Hashable, Sendable {
    /// Something arrived at the stopped device: there it is lost.
    case arrivedAtStopped
    /// Guest memory was written by the device, after its driver had the answer that it is stopped.
    case wroteWhileStopped
  }

  /// When.
  let time: MonotonicTime
  /// On which host.
  let host: Int
  /// The number of the stopped device.
  let device: Int
  /// What happened to it, or by it.
  let kind: Kind
  /// What arrived, or wrote.
  let packet: FabricPacket
}
