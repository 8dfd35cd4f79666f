// SPDX-License-Identifier: Apache-2.0
internal import CZlib

/// A file in the format of gzip(1), in which the kernel shows its configuration.
enum GzipText {
  /// What was packed; nil where it is damaged, cut, longer than `maximum` bytes, or there is no libz.
  static func unpacked(_ packed: [UInt8], maximum: Int) -> [UInt8]? {
    var size = 0
    // A byte more, so that there is a place also where nothing may come.
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: maximum + 1) { room, count in
      size = unsafe packed.withUnsafeBufferPointer { packed in
        unsafe vf_gunzip(packed.baseAddress, packed.count, room.baseAddress, maximum)
      }
      count = max(size, 0)
    }
    return size < 0 ? nil : bytes
  }
}
