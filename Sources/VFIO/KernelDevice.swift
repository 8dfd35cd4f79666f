// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc
public import LinuxIO
public import Migration
internal import Synchronization

/// A VFIO device of this machine's kernel.
///
/// It owns its descriptor. Closing the last descriptor of a PCI device resets the device, and so does binding it; so its
/// state, and everything loaded into it, lives only while this object or another holder does.
public final class KernelDevice: MigratableDevice {
  /// The name that messages use.
  public let name: DeviceName
  /// For the requests on it, which are in this file, Attachment.swift and DeviceLog.swift.
  let descriptor: Descriptor
  /// What has to stay open for the device to work: its group with a container, or its iommufd.
  public let support: (any DeviceSupport)?
  /// The number by which its iommufd knows the device; nil where it was not bound here.
  public let iommufdNumber: UInt32?
  /// What its I/O addresses mean, kept alive: see ``attachment``.
  let attached: Mutex<Attachment?>

  /// Takes over a descriptor of a device that is open already: bound to an iommufd, or obtained from a group.
  /// - Parameters:
  ///   - descriptor: becomes the object's own, in success and in failure.
  ///   - support: kept alive as long as the device.
  ///   - iommufdNumber: what the iommufd that it is bound to calls it, where that is known.
  ///   - attachment: what it is attached to already, where that is known.
  public init(
    adopting descriptor: consuming Descriptor, name: DeviceName, support: (any DeviceSupport)? = nil,
    iommufdNumber: UInt32? = nil, attachment: Attachment? = nil
  ) {
    self.name = name
    self.descriptor = descriptor
    self.support = support
    self.iommufdNumber = iommufdNumber
    attached = Mutex(attachment)
  }

  /// Lets a command that this program becomes inherit the device's descriptor.
  /// - Returns: its number.
  public func handOver() throws(SystemError) -> Int32 {
    try descriptor.setCloseOnExec(false)
    return descriptor.rawValue
  }

  private func error(_ operation: DeviceOperation, _ error: SystemError) -> DeviceError {
    DeviceError(operation, .errno(ErrorNumber(rawValue: error.errno)))
  }

  private static func flags(_ feature: Int, _ action: Int) -> UInt32 { UInt32(feature | action) }

  /// What the driver supports. The corresponding C constant is `VFIO_DEVICE_FEATURE_MIGRATION`.
  public func migrationFeatures() throws(DeviceError) -> MigrationFeatures {
    var request = vf_request_migration()
    request.header.argsz = UInt32(MemoryLayout<vf_request_migration>.size)
    request.header.flags = Self.flags(VF_VFIO_DEVICE_FEATURE_MIGRATION, VF_VFIO_DEVICE_FEATURE_GET)
    do throws(SystemError) {
      try descriptor.ioctl(VF_VFIO_DEVICE_FEATURE, "reading the features of", &request)
    } catch {
      throw self.error(.readFeatures, error)
    }
    return MigrationFeatures(rawValue: request.body.flags)
  }

  /// The state. The corresponding C constant is `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE` with GET.
  public func migrationState() throws(DeviceError) -> MigrationState {
    var request = stateRequest(VF_VFIO_DEVICE_FEATURE_GET)
    do throws(SystemError) {
      try descriptor.ioctl(VF_VFIO_DEVICE_FEATURE, "reading the state of", &request)
    } catch {
      throw self.error(.readState, error)
    }
    guard let state = MigrationState(rawValue: request.body.device_state) else {
      throw DeviceError(.readState, .unknownState(request.body.device_state))
    }
    return state
  }

  /// Asks for a state. The corresponding C constant is `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE` with SET.
  ///
  /// EINTR is an error here: the device may be anywhere on the way, and only ``migrationState()`` tells.
  public func setMigrationState(_ state: MigrationState) throws(DeviceError) -> (any MigrationData)? {
    let infoIsVersion2 = (state == .preCopy || state == .preCopyP2P) && optIntoPreCopyInfoVersion2()
    var request = stateRequest(VF_VFIO_DEVICE_FEATURE_SET)
    request.body.device_state = state.rawValue
    do throws(SystemError) {
      try descriptor.ioctl(VF_VFIO_DEVICE_FEATURE, "changing the state of", &request, retryOnInterrupt: false)
    } catch {
      throw self.error(.setState(state), error)
    }
    guard request.body.data_fd >= 0 else { return nil }
    return DeviceData(
      owning: Descriptor(owning: request.body.data_fd, subject: "the state of \(name)"), infoIsVersion2: infoIsVersion2)
  }

  private func stateRequest(_ action: Int) -> vf_request_mig_state {
    var request = vf_request_mig_state()
    request.header.argsz = UInt32(MemoryLayout<vf_request_mig_state>.size)
    request.header.flags = Self.flags(VF_VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, action)
    request.body.data_fd = -1
    return request
  }

  /// Makes the pre-copy info's flags valid where the kernel knows that (from 7.1). Elsewhere the info is read as before.
  /// The corresponding C constant is `VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2`.
  private func optIntoPreCopyInfoVersion2() -> Bool {
    var request = vf_vfio_device_feature()
    request.argsz = UInt32(MemoryLayout<vf_vfio_device_feature>.size)
    request.flags = Self.flags(VF_VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, VF_VFIO_DEVICE_FEATURE_SET)
    return (try? descriptor.ioctl(VF_VFIO_DEVICE_FEATURE, "opting into pre-copy info version 2 of", &request)) != nil
  }

  /// The kernel's estimate of the stop-copy data in bytes; nil where the driver gives none (ENOTTY).
  /// The corresponding C constant is `VFIO_DEVICE_FEATURE_MIG_DATA_SIZE`.
  public func stopCopySize() throws(DeviceError) -> UInt64? {
    var request = vf_request_mig_data_size()
    request.header.argsz = UInt32(MemoryLayout<vf_request_mig_data_size>.size)
    request.header.flags = Self.flags(VF_VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, VF_VFIO_DEVICE_FEATURE_GET)
    do throws(SystemError) {
      try descriptor.ioctl(VF_VFIO_DEVICE_FEATURE, "asking for the stop-copy size of", &request)
    } catch {
      let failure = self.error(.stopCopySize, error)
      if failure.errno == .notTypewriter { return nil }
      throw failure
    }
    return request.body.stop_copy_length
  }

  /// Reads the command and status registers of a PCI function, by sysfs: the kernel asks the device itself for them. A
  /// read through the VFIO descriptor may be answered by the driver, or end the device's P2P state.
  public func flush() throws(DeviceError) {
    guard case .pci(let address) = name else { return }
    do throws(SystemError) {
      let file = try Descriptor.open("/sys/bus/pci/devices/\(address)/config", O_RDONLY)
      var registers: [UInt8] = [0, 0, 0, 0]
      var span = registers.mutableSpan
      let got = try file.read(into: &span, at: 4)
      // A function that has fallen off the bus answers nothing; the root complex puts in ones for it.
      if got != 4 || registers.allSatisfy({ $0 == 0xff }) {
        throw SystemError("reading", "the configuration space of \(address)", errno: EIO)
      }
    } catch {
      throw self.error(.flush, error)
    }
  }

  /// Resets the device. The corresponding C constant is `VFIO_DEVICE_RESET`.
  ///
  /// The device info's reset flag is not asked: mtty answers resets without advertising them.
  public func reset() throws(DeviceError) {
    do throws(SystemError) {
      try descriptor.ioctl(VF_VFIO_DEVICE_RESET, "resetting")
    } catch {
      throw self.error(.reset, error)
    }
  }
}
