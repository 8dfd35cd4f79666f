// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc
public import LinuxIO
public import Migration

/// A VFIO group with a container: the older way to open devices, for kernels and VMMs without iommufd.
///
/// It owns its descriptor and keeps the container alive; the devices obtained from it keep it alive. A group can be open
/// once, so the devices of one group share one object.
public final class LegacyGroup: DeviceSupport {
  /// The IOMMU group's number.
  public let number: Int
  /// The container that the group is in, of its own.
  public let container: Container
  private let group: Descriptor

  /// Opens the group, gives it a container of its own, and chooses the type 1 IOMMU.
  /// - Parameters:
  ///   - number: the IOMMU group.
  ///   - folder: where the nodes are.
  public init(number: Int, folder: String = "/dev/vfio") throws(OpeningError) {
    do throws(SystemError) {
      let container = try Container(path: "\(folder)/vfio")
      let group = try Descriptor.open("\(folder)/\(number)", O_RDWR)
      var status = vf_vfio_group_status()
      status.argsz = UInt32(MemoryLayout<vf_vfio_group_status>.size)
      try group.ioctl(VF_VFIO_GROUP_GET_STATUS, "looking at", &status)
      guard status.flags & UInt32(VF_VFIO_GROUP_FLAGS_VIABLE) != 0 else {
        throw SystemError("using", "\(folder)/\(number)", errno: EPERM)
      }
      var containerNumber = container.descriptor.rawValue
      try group.ioctl(VF_VFIO_GROUP_SET_CONTAINER, "giving a container to", &containerNumber)
      try container.chooseIOMMU()
      self.number = number
      self.container = container
      self.group = group
    } catch {
      let remedy =
        switch error.errno {
        case EBUSY: "another process holds the group: name that with --pid, or end it"
        case EPERM: "every device of the group must be bound to a VFIO driver, or to none"
        case EACCES: "run as root, or with access to \(folder)"
        case ENOENT: "the kernel has no VFIO_GROUP or VFIO_CONTAINER, or the device is gone"
        default: ""
        }
      throw OpeningError(device: "group \(number)", cause: error, remedy: remedy)
    }
  }

  /// The variable is `VFIO_FERRY_GROUPS`, the value `GROUP=NUMBER,CONTAINER`.
  public func handOver() throws(SystemError) -> HandedOver {
    try group.setCloseOnExec(false)
    try container.descriptor.setCloseOnExec(false)
    return HandedOver(
      variable: "VFIO_FERRY_GROUPS", value: "\(number)=\(group.rawValue),\(container.descriptor.rawValue)")
  }

  /// Opens a device of the group. **This resets a PCI device** when nobody else has it open.
  /// - Parameters:
  ///   - kernelName: the name of its folder in sysfs: a PCI address or an mdev's UUID.
  ///   - name: what messages call the device.
  public func openDevice(kernelName: String, name: DeviceName) throws(OpeningError) -> KernelDevice {
    do throws(SystemError) {
      let number = try group.ioctl(VF_VFIO_GROUP_GET_DEVICE_FD, "opening \(kernelName) in", text: kernelName)
      let descriptor = Descriptor(owning: number, subject: kernelName)
      try descriptor.setCloseOnExec(true)
      return KernelDevice(adopting: descriptor, name: name, support: self)
    } catch {
      throw OpeningError(device: "\(name)", cause: error)
    }
  }
}
