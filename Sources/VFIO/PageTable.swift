// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
public import LinuxIO

/// A page table of an iommufd (a "HWPT"): what an address space looks like to the IOMMU before some devices.
public final class PageTable: Sendable {
  /// The address space that it is made from; kept alive.
  public let space: AddressSpace
  /// Its number in the iommufd: what a device is attached to.
  public let number: UInt32
  private let isOwn: Bool

  /// Makes one that can track writes, for a device and those that share its IOMMU. It goes when this object does, unless
  /// a device is attached to it then. The corresponding C constants are `IOMMU_HWPT_ALLOC` and
  /// `IOMMU_HWPT_ALLOC_DIRTY_TRACKING`.
  /// - Parameter device: the number that the iommufd knows the device by.
  /// - Throws: what the kernel answered; EOPNOTSUPP where the IOMMU can't track (``IOMMUFD/canTrackWrites(of:)``).
  public init(for device: UInt32, of space: AddressSpace) throws(SystemError) {
    var request = vf_iommu_hwpt_alloc()
    request.size = UInt32(MemoryLayout<vf_iommu_hwpt_alloc>.size)
    request.flags = UInt32(VF_IOMMU_HWPT_ALLOC_DIRTY_TRACKING)
    request.dev_id = device
    request.pt_id = space.number
    try space.iommufd.descriptor.ioctl(VF_IOMMU_HWPT_ALLOC, "making a page table that tracks writes in", &request)
    self.space = space
    number = request.out_hwpt_id
    isOwn = true
  }

  /// Uses one that somebody else made from the same address space, a VMM for example, and leaves it to them.
  public init(adopting number: UInt32, of space: AddressSpace) {
    self.space = space
    self.number = number
    isOwn = false
  }

  deinit { if isOwn { space.iommufd.destroy(number) } }

  /// Turns tracking on or off. Turning it on forgets what was written before, also where it was on already.
  /// The corresponding C constant is `IOMMU_HWPT_SET_DIRTY_TRACKING`.
  func setTracking(_ isOn: Bool) throws(SystemError) {
    var request = vf_iommu_hwpt_set_dirty_tracking()
    request.size = UInt32(MemoryLayout<vf_iommu_hwpt_set_dirty_tracking>.size)
    request.flags = isOn ? UInt32(VF_IOMMU_HWPT_DIRTY_TRACKING_ENABLE) : 0
    request.hwpt_id = number
    try space.iommufd.descriptor.ioctl(
      VF_IOMMU_HWPT_SET_DIRTY_TRACKING, "turning dirty tracking \(isOn ? "on" : "off") in", &request)
  }

  /// Adds to the words a bit for every page that was written to. **The kernel hides most errors of this**: see
  /// ``PageTableTracker``. The corresponding C constant is `IOMMU_HWPT_GET_DIRTY_BITMAP`.
  /// - Parameters:
  ///   - addresses: I/O addresses, whole mappings, in whole pages of that size.
  ///   - pageSize: bytes that a bit stands for.
  ///   - clears: whether the page table forgets them.
  ///   - words: room for a bit for each page.
  func addDirty(
    _ addresses: Range<UInt64>, pageSize: UInt64, clears: Bool, to words: AnswerWords
  ) throws(SystemError) {
    var request = vf_iommu_hwpt_get_dirty_bitmap()
    request.size = UInt32(MemoryLayout<vf_iommu_hwpt_get_dirty_bitmap>.size)
    request.hwpt_id = number
    request.flags = clears ? 0 : UInt32(VF_IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR)
    request.iova = addresses.lowerBound
    request.length = addresses.upperBound - addresses.lowerBound
    request.page_size = pageSize
    request.data = words.address
    precondition((request.length / pageSize + 63) / 64 <= UInt64(words.count))
    try space.iommufd.descriptor.ioctl(VF_IOMMU_HWPT_GET_DIRTY_BITMAP, "reading the dirty bits of", &request)
  }
}
