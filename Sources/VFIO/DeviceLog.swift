// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import LinuxIO

/// A device's own log of what it writes.
extension KernelDevice {
  private static func header<Request>(_ feature: Int, _ request: Request.Type) -> vf_vfio_device_feature {
    var header = vf_vfio_device_feature()
    header.argsz = UInt32(MemoryLayout<Request>.size)
    header.flags = UInt32(feature)
    return header
  }

  /// Whether the device has a log. The corresponding C constant is `VFIO_DEVICE_FEATURE_PROBE`.
  /// - Throws: what the kernel answered; ENOTTY where it has none.
  func probeLog() throws(SystemError) {
    var request = Self.header(
      VF_VFIO_DEVICE_FEATURE_PROBE | VF_VFIO_DEVICE_FEATURE_SET | VF_VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
      vf_vfio_device_feature.self)
    try descriptor.ioctl(VF_VFIO_DEVICE_FEATURE, "asking for the DMA log of", &request)
  }

  /// Starts the log. The corresponding C constant is `VFIO_DEVICE_FEATURE_DMA_LOGGING_START`.
  /// - Parameters:
  ///   - ranges: I/O addresses in whole pages, at least one range; they don't overlap.
  ///   - pageSize: bytes that a bit should stand for.
  /// - Returns: bytes that a bit will stand for.
  func startLog(_ ranges: [Range<UInt64>], pageSize: UInt64) throws(SystemError) -> UInt64 {
    var request = vf_request_dma_logging_control()
    request.header = Self.header(
      VF_VFIO_DEVICE_FEATURE_SET | VF_VFIO_DEVICE_FEATURE_DMA_LOGGING_START, vf_request_dma_logging_control.self)
    request.body.page_size = pageSize
    request.body.num_ranges = UInt32(ranges.count)
    let list = ranges.map {
      vf_vfio_device_feature_dma_logging_range(iova: $0.lowerBound, length: $0.upperBound - $0.lowerBound)
    }
    try unsafe list.withUnsafeBufferPointer { list throws(SystemError) in
      request.body.ranges = UInt64(UInt(bitPattern: list.baseAddress))
      try descriptor.ioctl(VF_VFIO_DEVICE_FEATURE, "starting the DMA log of", &request)
    }
    return request.body.page_size
  }

  /// Stops the log; what was not read is lost. The corresponding C constant is `VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP`.
  func stopLog() throws(SystemError) {
    var request = Self.header(
      VF_VFIO_DEVICE_FEATURE_SET | VF_VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, vf_vfio_device_feature.self)
    try descriptor.ioctl(VF_VFIO_DEVICE_FEATURE, "stopping the DMA log of", &request)
  }

  /// Adds to the words a bit for every page that the device has written, and has the log forget them.
  /// The corresponding C constant is `VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT`.
  /// - Parameters:
  ///   - addresses: watched, in whole pages of that size.
  ///   - pageSize: bytes that a bit stands for: what the log was started with.
  ///   - words: room for a bit for each page.
  func addLogged(_ addresses: Range<UInt64>, pageSize: UInt64, to words: AnswerWords) throws(SystemError) {
    var request = vf_request_dma_logging_report()
    request.header = Self.header(
      VF_VFIO_DEVICE_FEATURE_GET | VF_VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, vf_request_dma_logging_report.self)
    request.body.iova = addresses.lowerBound
    request.body.length = addresses.upperBound - addresses.lowerBound
    request.body.page_size = pageSize
    request.body.bitmap = words.address
    precondition((request.body.length / pageSize + 63) / 64 <= UInt64(words.count))
    try descriptor.ioctl(VF_VFIO_DEVICE_FEATURE, "reading the DMA log of", &request)
  }
}
