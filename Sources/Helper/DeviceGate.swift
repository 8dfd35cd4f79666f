// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Synchronization

/// What every change of a device's state passes, and every reset. Shut once the helper ends, for good: when the VMM is gone its
/// guest is, too, and whatever is under way then would only take devices towards running for nobody.
final class DeviceGate: Sendable {
  private let isShut = Mutex(false)

  /// No device is asked to change its state from now on. A call that has passed already goes on.
  func shut() { isShut.withLock { $0 = true } }

  fileprivate func pass(_ operation: DeviceOperation) throws(DeviceError) {
    if isShut.withLock({ $0 }) { throw DeviceError(operation, .notAsked) }
  }
}

/// A device behind a gate. What only looks at it, and its data, pass always.
final class GatedDevice: MigratableDevice {
  private let device: any MigratableDevice
  private let gate: DeviceGate

  init(_ device: any MigratableDevice, behind gate: DeviceGate) {
    self.device = device
    self.gate = gate
  }

  var name: DeviceName { device.name }

  func migrationFeatures() throws(DeviceError) -> MigrationFeatures { try device.migrationFeatures() }

  func migrationState() throws(DeviceError) -> MigrationState { try device.migrationState() }

  func setMigrationState(_ state: MigrationState) throws(DeviceError) -> (any MigrationData)? {
    try gate.pass(.setState(state))
    return try device.setMigrationState(state)
  }

  func stopCopySize() throws(DeviceError) -> UInt64? { try device.stopCopySize() }

  func flush() throws(DeviceError) { try device.flush() }

  func reset() throws(DeviceError) {
    try gate.pass(.reset)
    try device.reset()
  }
}

extension AdoptedDevice {
  /// The same device behind a gate.
  func behind(_ gate: DeviceGate) -> AdoptedDevice {
    AdoptedDevice(
      device: GatedDevice(device, behind: gate), driver: driver, tag: tag, endLeftLog: endLeftLog, offers: offers)
  }
}
