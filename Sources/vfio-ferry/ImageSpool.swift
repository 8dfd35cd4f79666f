// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration

/// The image that a walk has read, kept in a file that has no name so that its size is no matter.
final class ImageSpool {
  private let file: Descriptor
  private let buffer: TransferBuffer
  private var size = 0
  private var completeSize: Int?

  init() throws(SystemError) {
    buffer = try TransferBuffer(count: StreamFormat.maximumDataSize)
    file = try Descriptor.temporary()
  }

  /// Reads what a saving session has now.
  func read(_ data: any MigrationData, isNew: Bool, toTheEnd: Bool) throws(DeviceError) -> UInt64 {
    if isNew {
      size = 0
      completeSize = nil
    }
    let before = size
    reading: while true {
      let result = try buffer.withMutableSpan { (span: inout MutableSpan<UInt8>) throws(DeviceError) in
        try data.read(into: &span)
      }
      switch result {
      case .end: break reading
      case .bytes(let count):
        try keep(count)
        // A device that dirties its state as fast as it is read would keep a walk here for ever.
        if !toTheEnd, size - before > 64 << 20 { break reading }
      }
    }
    if toTheEnd { completeSize = size }
    return UInt64(size - before)
  }

  private func keep(_ count: Int) throws(DeviceError) {
    let offset = size
    do throws(SystemError) {
      try buffer.withSpan(first: count) { (span: Span<UInt8>) throws(SystemError) in
        try file.writeAll(span, at: offset)
      }
    } catch {
      throw DeviceError(.readData, .errno(ErrorNumber(rawValue: error.errno)))
    }
    size += count
  }

  /// Writes the last whole image into a session in RESUMING.
  func write(_ data: any MigrationData) throws(DeviceError) -> UInt64 {
    guard let completeSize else { return 0 }
    var offset = 0
    while offset < completeSize {
      let wanted = min(buffer.count, completeSize - offset)
      let at = offset
      let count: Int
      do throws(SystemError) {
        count = try buffer.withMutableSpan(0..<wanted) { (span: inout MutableSpan<UInt8>) throws(SystemError) in
          try file.read(into: &span, at: at)
        }
      } catch {
        throw DeviceError(.writeData, .errno(ErrorNumber(rawValue: error.errno)))
      }
      if count == 0 { break }
      try buffer.withSpan(first: count) { (span: Span<UInt8>) throws(DeviceError) in try data.write(span) }
      offset += count
    }
    return UInt64(offset)
  }
}
