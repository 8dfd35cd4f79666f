// SPDX-License-Identifier: Apache-2.0

/// A device that can be migrated, as everything above the kernel sees it.
///
/// Every call blocks until the device has answered, which may take seconds. One thread at a time makes calls on a
/// device (its control lane); the ``MigrationData`` that it hands out is used by another (its data lane).
public protocol MigratableDevice: AnyObject, Sendable {
  /// The name that messages use.
  var name: DeviceName { get }

  /// What the driver supports. Fails with ENOTTY where the device can't be migrated at all.
  func migrationFeatures() throws(DeviceError) -> MigrationFeatures

  /// The state that the device is in now.
  func migrationState() throws(DeviceError) -> MigrationState

  /// Asks for a state and waits until the device is in it.
  ///
  /// On failure the device may be in any of ``StateGraph/possibleStates(afterFailed:to:)``; read it.
  /// - Returns: the data session that the request opened, or nil where it opened none. The caller owns it; the kernel's
  ///   descriptor is closed when the last reference to it goes.
  func setMigrationState(_ state: MigrationState) throws(DeviceError) -> (any MigrationData)?

  /// The kernel's estimate, in bytes, of what is to be read in STOP_COPY; nil where the kernel gives none.
  func stopCopySize() throws(DeviceError) -> UInt64?

  /// Reads the device's configuration space past every cache, so that what the device has sent before goes ahead of the
  /// answer, and what was sent to it arrives ahead of the request. Nothing to do where the device is no PCI function.
  func flush() throws(DeviceError)

  /// Resets the device. It is in RUNNING afterwards, empty, and its data sessions are over.
  func reset() throws(DeviceError)
}

/// A data session of a device: the stream of its opaque state (DA6).
public protocol MigrationData: AnyObject, Sendable {
  /// Reads what the device has, at most the size of `buffer`. Blocks while the device prepares it.
  func read(into buffer: inout MutableSpan<UInt8>) throws(DeviceError) -> DataRead

  /// Writes all of `bytes`. Where the split between two writes falls means nothing to the device.
  func write(_ bytes: Span<UInt8>) throws(DeviceError)

  /// How much there is to read; possible in the pre-copy states only.
  func preCopyInfo() throws(DeviceError) -> PreCopyInfo
}

/// What reading from a data session gave.
public enum DataRead: Hashable, Sendable {
  /// This many bytes, at least 1.
  case bytes(Int)
  /// Nothing now. In STOP_COPY that is the end of the state; in the pre-copy states more may follow, whether the
  /// driver said so with ENOMSG or with 0.
  case end
}

/// How much pre-copy data a device has, by its own estimate.
/// The corresponding C type is `struct vfio_precopy_info`.
public struct PreCopyInfo: Hashable, Sendable {
  /// Bytes left of what the destination should have before the stop.
  public var initialBytes: UInt64
  /// Bytes left of what has changed since.
  public var dirtyBytes: UInt64
  /// The driver has begun anew with its initial bytes. Valid where the kernel knows version 2 of the info.
  public var restartedInitial: Bool

  /// Figures in bytes, as the driver gave them.
  public init(initialBytes: UInt64, dirtyBytes: UInt64, restartedInitial: Bool = false) {
    self.initialBytes = initialBytes
    self.dirtyBytes = dirtyBytes
    self.restartedInitial = restartedInitial
  }

  /// All that is left, in bytes. Saturates, because the figures come from a driver.
  public var remainingBytes: UInt64 {
    let (sum, overflow) = initialBytes.addingReportingOverflow(dirtyBytes)
    return overflow ? .max : sum
  }
}
