// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc
public import LinuxIO
public import Migration

/// An iommufd: the object that devices opened by their character device are bound to.
///
/// It owns its descriptor. The devices bound to it keep it alive.
public final class IOMMUFD: DeviceSupport {
  /// For the requests on it, which are in this file, AddressSpace.swift and PageTable.swift.
  let descriptor: Descriptor

  /// Opens `/dev/iommu`.
  public init(path: String = "/dev/iommu") throws(SystemError) {
    descriptor = try Descriptor.open(path, O_RDWR)
  }

  /// Takes over an iommufd that is open already: the one of a VMM, or a duplicate of it.
  /// - Parameter descriptor: becomes the object's own.
  public init(adopting descriptor: consuming Descriptor) { self.descriptor = descriptor }

  /// Whether the other object is for the same iommufd, by whichever descriptor.
  /// - Throws: as ``Descriptor/isSameFile(as:)``.
  public func isSame(as other: IOMMUFD) throws(SystemError) -> Bool { try descriptor.isSameFile(as: other.descriptor) }

  /// The variable is `VFIO_FERRY_IOMMUFD`.
  public func handOver() throws(SystemError) -> HandedOver {
    try descriptor.setCloseOnExec(false)
    return HandedOver(variable: "VFIO_FERRY_IOMMUFD", value: "\(descriptor.rawValue)")
  }

  /// Opens a device by its character device and binds it here. **Binding resets a PCI device**, and fails with EINVAL
  /// where somebody else has bound it.
  ///
  /// No page table is attached: a device whose VM is elsewhere has no memory to reach, and the migration states need
  /// none.
  /// - Parameters:
  ///   - node: `/dev/vfio/devices/vfioN`.
  ///   - name: what messages call the device.
  public func openDevice(node: String, name: DeviceName) throws(OpeningError) -> KernelDevice {
    do throws(SystemError) {
      let device = try Descriptor.open(node, O_RDWR)
      var request = vf_vfio_device_bind_iommufd()
      request.argsz = UInt32(MemoryLayout<vf_vfio_device_bind_iommufd>.size)
      request.iommufd = descriptor.rawValue
      try device.ioctl(VF_VFIO_DEVICE_BIND_IOMMUFD, "binding", &request)
      return KernelDevice(adopting: device, name: name, support: self, iommufdNumber: request.out_devid)
    } catch {
      let remedy =
        switch error.errno {
        case EINVAL, EBUSY: "another process holds it: name that with --pid, or end it"
        case EACCES, EPERM: "run as root, or with access to \(node) and /dev/iommu"
        case ENOENT: "the kernel has no VFIO_DEVICE_CDEV, or the device is gone"
        default: ""
        }
      throw OpeningError(device: "\(name)", cause: error, remedy: remedy)
    }
  }
}
