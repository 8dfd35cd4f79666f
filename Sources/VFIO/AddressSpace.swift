// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc
public import LinuxIO

/// An address space of an iommufd (an "IOAS"): I/O addresses and the memory behind them.
public final class AddressSpace: Sendable {
  /// The iommufd that it is in; kept alive.
  public let iommufd: IOMMUFD
  /// Its number there.
  public let number: UInt32
  private let isOwn: Bool

  /// Makes an empty one, which goes when this object does. The corresponding C constant is `IOMMU_IOAS_ALLOC`.
  public init(in iommufd: IOMMUFD) throws(SystemError) {
    var request = vf_iommu_ioas_alloc()
    request.size = UInt32(MemoryLayout<vf_iommu_ioas_alloc>.size)
    try iommufd.descriptor.ioctl(VF_IOMMU_IOAS_ALLOC, "making an address space in", &request)
    self.iommufd = iommufd
    number = request.out_ioas_id
    isOwn = true
  }

  /// Uses one that somebody else made, and leaves it to them.
  public init(adopting number: UInt32, in iommufd: IOMMUFD) {
    self.iommufd = iommufd
    self.number = number
    isOwn = false
  }

  deinit { if isOwn { iommufd.destroy(number) } }

  /// Whether all of these I/O addresses are mapped, without a hole: asked by lending them to another address space, which
  /// the kernel refuses where there is one. The corresponding C constant is `IOMMU_IOAS_COPY`.
  /// - Parameters:
  ///   - addresses: bytes, in whole pages.
  ///   - scratch: another address space of the same iommufd, with no device; nothing stays in it.
  func isMapped(_ addresses: Range<UInt64>, scratch: AddressSpace) throws(SystemError) -> Bool {
    var copy = vf_iommu_ioas_copy()
    copy.size = UInt32(MemoryLayout<vf_iommu_ioas_copy>.size)
    copy.flags = UInt32(VF_IOMMU_IOAS_MAP_READABLE)
    copy.dst_ioas_id = scratch.number
    copy.src_ioas_id = number
    copy.length = addresses.upperBound - addresses.lowerBound
    copy.src_iova = addresses.lowerBound
    do throws(SystemError) {
      try iommufd.descriptor.ioctl(VF_IOMMU_IOAS_COPY, "looking at the mappings of", &copy)
    } catch {
      if error.errno == ENOENT { return false }
      throw error
    }
    var unmap = vf_iommu_ioas_unmap()
    unmap.size = UInt32(MemoryLayout<vf_iommu_ioas_unmap>.size)
    unmap.ioas_id = scratch.number
    unmap.iova = copy.dst_iova
    unmap.length = copy.length
    try iommufd.descriptor.ioctl(VF_IOMMU_IOAS_UNMAP, "looking at the mappings of", &unmap)
    return true
  }
}

extension IOMMUFD {
  /// Frees an object. One that a device still uses stays (EBUSY), until the iommufd is closed.
  /// The corresponding C constant is `IOMMU_DESTROY`.
  func destroy(_ number: UInt32) {
    var request = vf_iommu_destroy()
    request.size = UInt32(MemoryLayout<vf_iommu_destroy>.size)
    request.id = number
    _ = try? descriptor.ioctl(VF_IOMMU_DESTROY, "freeing an object of", &request)
  }

  /// Whether the IOMMU before a device can tell which pages it has written. False where the kernel is too old to say.
  /// The corresponding C constants are `IOMMU_GET_HW_INFO` and `IOMMU_HW_CAP_DIRTY_TRACKING`.
  /// - Parameter device: the number that the iommufd knows it by.
  /// - Throws: what the kernel answered; ``hasNoIOMMU(_:)`` tells what it says of emulated devices.
  public func canTrackWrites(of device: UInt32) throws(SystemError) -> Bool {
    var request = vf_iommu_hw_info()
    request.size = UInt32(MemoryLayout<vf_iommu_hw_info>.size)
    request.dev_id = device
    try descriptor.ioctl(VF_IOMMU_GET_HW_INFO, "asking about the IOMMU of a device in", &request)
    return request.out_capabilities & UInt64(VF_IOMMU_HW_CAP_DIRTY_TRACKING) != 0
  }

  /// Whether that is what ``canTrackWrites(of:)`` says of a device that has no IOMMU of its own, as emulated ones: ENOENT,
  /// because an iommufd keeps no device for them; EOPNOTSUPP where the IOMMU's driver has nothing to tell.
  static func hasNoIOMMU(_ error: SystemError) -> Bool { error.errno == ENOENT || error.errno == EOPNOTSUPP }
}
