// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
public import LinuxIO
internal import Synchronization

/// What the I/O addresses of a device mean that is bound to an iommufd.
public enum Attachment: Sendable {
  /// What is mapped there, by a page table that the kernel makes as it likes, or by none for an emulated device.
  case addressSpace(AddressSpace)
  /// This page table, which an address space fills.
  case pageTable(PageTable)
}

extension KernelDevice {
  /// What the device is attached to, as far as it was attached by this object or its maker said so. It is kept alive.
  public var attachment: Attachment? { attached.withLock { $0 } }

  /// Attaches the device: from then on it can reach what is mapped there. Where it was attached before, the kernel changes
  /// from one to the other at once, if the IOMMU's driver can. The corresponding C constant is
  /// `VFIO_DEVICE_ATTACH_IOMMUFD_PT`.
  /// - Parameter attachment: of the iommufd that the device is bound to. An emulated device takes no page table.
  /// - Throws: what the kernel answered; the device is attached to what it was before then.
  public func attach(to attachment: Attachment) throws(SystemError) {
    var request = vf_vfio_device_attach_iommufd_pt()
    request.argsz = UInt32(MemoryLayout<vf_vfio_device_attach_iommufd_pt>.size)
    request.pt_id =
      switch attachment {
      case .addressSpace(let space): space.number
      case .pageTable(let table): table.number
      }
    try attached.withLock { attached throws(SystemError) in
      try descriptor.ioctl(VF_VFIO_DEVICE_ATTACH_IOMMUFD_PT, "attaching", &request)
      attached = attachment
    }
  }

  /// Takes the device's address space away; its DMA reaches nothing then. The corresponding C constant is
  /// `VFIO_DEVICE_DETACH_IOMMUFD_PT`.
  public func detach() throws(SystemError) {
    var request = vf_vfio_device_detach_iommufd_pt()
    request.argsz = UInt32(MemoryLayout<vf_vfio_device_detach_iommufd_pt>.size)
    try attached.withLock { attached throws(SystemError) in
      try descriptor.ioctl(VF_VFIO_DEVICE_DETACH_IOMMUFD_PT, "detaching", &request)
      attached = nil
    }
  }

  /// Attaches a device that was bound here to an address space, by a page table that tracks writes where its IOMMU can.
  /// - Parameter space: of the iommufd that the device is bound to.
  public func attachTracking(to space: AddressSpace) throws(SystemError) {
    let canTrack = iommufdNumber.map { (try? space.iommufd.canTrackWrites(of: $0)) ?? false } ?? false
    guard canTrack, let number = iommufdNumber else { return try attach(to: .addressSpace(space)) }
    try attach(to: .pageTable(PageTable(for: number, of: space)))
  }
}
