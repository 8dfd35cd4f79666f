// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc
public import LinuxIO

/// A container: the address space that groups are put into where there is no iommufd.
///
/// It owns its descriptor.
public final class Container: Sendable {
  /// For the requests on it, which are in this file, and for the group that is put into it.
  let descriptor: Descriptor

  /// Opens an empty one. The corresponding C constant is `VFIO_GET_API_VERSION`.
  /// - Parameter path: the node.
  /// - Throws: what the kernel answered; EPROTONOSUPPORT where it has another version than the only one there has been.
  public init(path: String = "/dev/vfio/vfio") throws(SystemError) {
    descriptor = try Descriptor.open(path, O_RDWR)
    let version = try descriptor.ioctl(VF_VFIO_GET_API_VERSION, "asking for the version of")
    guard version == VF_VFIO_API_VERSION else { throw SystemError("using", path, errno: EPROTONOSUPPORT) }
  }

  /// Takes over a container that has groups in it already: the one of a VMM, or a duplicate of it.
  /// - Parameter descriptor: becomes the object's own.
  public init(adopting descriptor: consuming Descriptor) { self.descriptor = descriptor }

  /// Chooses the type 1 IOMMU, once there is a group. The corresponding C constants are `VFIO_SET_IOMMU` and
  /// `VFIO_TYPE1v2_IOMMU`: the version that unmaps whole mappings only.
  func chooseIOMMU() throws(SystemError) {
    try descriptor.ioctl(VF_VFIO_SET_IOMMU, "choosing the IOMMU of", value: CInt(VF_VFIO_TYPE1v2_IOMMU))
  }

  /// Bytes that a bit of the container's dirty bitmap stands for, the smallest page of its IOMMUs; nil where it keeps none
  /// (kernels before 5.8). The corresponding C constants are `VFIO_IOMMU_GET_INFO` and
  /// `VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION`.
  /// - Throws: what the kernel answered; ENOSPC where it has more to say than was ever seen.
  public func trackingPageSize() throws(SystemError) -> UInt64? {
    // Usable ranges of addresses are told too, 16 bytes each: room for hundreds.
    var bytes = [UInt8](repeating: 0, count: 16 << 10)
    var info = vf_vfio_iommu_type1_info()
    info.argsz = UInt32(bytes.count)
    var span = bytes.mutableSpan
    Self.store(info, in: &span)
    try descriptor.ioctl(VF_VFIO_IOMMU_GET_INFO, "asking about the IOMMU of", bytes: &span)
    info = Self.load(bytes.span, at: 0) ?? info
    guard info.flags & UInt32(VF_VFIO_IOMMU_INFO_CAPS) != 0 else { return nil }
    guard info.argsz <= bytes.count else {
      throw SystemError("asking about the IOMMU of", descriptor.subject, errno: ENOSPC)
    }
    var offset = Int(info.cap_offset)
    while offset > 0, let header: vf_vfio_info_cap_header = Self.load(bytes.span, at: offset) {
      if header.id == UInt16(VF_VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION) {
        guard let found: vf_vfio_iommu_type1_info_cap_migration = Self.load(bytes.span, at: offset) else { return nil }
        let smallest = found.pgsize_bitmap & (0 &- found.pgsize_bitmap)
        return smallest == 0 ? nil : smallest
      }
      // They follow each other, and 0 ends them; one that pointed back would lead in a circle.
      guard Int(header.next) > offset else { return nil }
      offset = Int(header.next)
    }
    return nil
  }

  /// Turns the dirty bitmap on or off; where it is so already, nothing happens, and nothing is forgotten.
  /// The corresponding C constants are `VFIO_IOMMU_DIRTY_PAGES_FLAG_START` and `_STOP`.
  func setTracking(_ isOn: Bool) throws(SystemError) {
    var request = vf_vfio_iommu_type1_dirty_bitmap()
    request.argsz = UInt32(MemoryLayout<vf_vfio_iommu_type1_dirty_bitmap>.size)
    request.flags = UInt32(isOn ? VF_VFIO_IOMMU_DIRTY_PAGES_FLAG_START : VF_VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP)
    try descriptor.ioctl(VF_VFIO_IOMMU_DIRTY_PAGES, "turning dirty tracking \(isOn ? "on" : "off") in", &request)
  }

  /// Writes over the words a one for every page that was written to and a zero for every other, and has the container forget
  /// them: never into words that know of anything else. **What is not mapped counts as not written**: see
  /// ``ContainerTracker``. The corresponding C constant is `VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP`.
  /// - Parameters:
  ///   - addresses: I/O addresses, whole mappings.
  ///   - pageSize: bytes that a bit stands for: ``trackingPageSize()``.
  ///   - words: room for a bit for each page.
  func readDirty(_ addresses: Range<UInt64>, pageSize: UInt64, to words: AnswerWords) throws(SystemError) {
    var request = vf_request_container_dirty_bitmap()
    request.header.argsz = UInt32(MemoryLayout<vf_request_container_dirty_bitmap>.size)
    request.header.flags = UInt32(VF_VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP)
    request.body.iova = addresses.lowerBound
    request.body.size = addresses.upperBound - addresses.lowerBound
    request.body.bitmap.pgsize = pageSize
    request.body.bitmap.size = (request.body.size / pageSize + 63) / 64 * 8
    precondition(request.body.bitmap.size / 8 <= UInt64(words.count))
    request.body.bitmap.data = words.address
    try descriptor.ioctl(VF_VFIO_IOMMU_DIRTY_PAGES, "reading the dirty bits of", &request)
  }

  /// What lies there; nil where that is beyond the end.
  /// - Parameter offset: not negative.
  private static func load<Value: BitwiseCopyable>(_ bytes: Span<UInt8>, at offset: Int) -> Value? {
    guard bytes.count - offset >= MemoryLayout<Value>.size else { return nil }
    return unsafe bytes.withUnsafeBytes { bytes in
      unsafe bytes.loadUnaligned(fromByteOffset: offset, as: Value.self)
    }
  }

  private static func store<Value: BitwiseCopyable>(_ value: Value, in bytes: inout MutableSpan<UInt8>) {
    unsafe bytes.withUnsafeMutableBytes { bytes in unsafe bytes.storeBytes(of: value, as: Value.self) }
  }
}
