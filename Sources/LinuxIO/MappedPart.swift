// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc
internal import Synchronization

/// A part of a file of huge pages, mapped so that the kernel can write to it, because `pwrite` can't.
///
/// Nothing is written by a touch: where the file was cut off, or there are no huge pages left, that would be a SIGBUS.
/// The bytes go through a small file in memory and are read from it by `pread` into the mapping: the kernel answers
/// EFAULT.
@safe
final class MappedPart: @unchecked Sendable {
  // Unchecked because of the pointer, which never changes and is only ever handed to the kernel.
  private let address: UnsafeMutableRawPointer
  private let length: Int
  /// Where the part begins in the mapping.
  private let start: Int
  private let subject: String
  /// What bytes go through, and one thread at a time.
  private let staging: Mutex<Descriptor>
  private static let piece = 1 << 16

  /// - Parameters:
  ///   - part: bytes of the file.
  ///   - page: what mappings of the file begin and end at multiples of.
  init(_ file: borrowing Descriptor, _ part: Range<Int>, page: Int) throws(SystemError) {
    let low = part.lowerBound / page * page
    let (high, overflow) = part.upperBound.addingReportingOverflow(page - 1)
    if overflow { throw SystemError("mapping", file.subject, errno: EOVERFLOW) }
    length = high / page * page - low
    start = part.lowerBound - low
    subject = file.subject
    staging = Mutex(try Descriptor.inMemory(name: "guest memory on its way"))
    let mapped = unsafe mmap(nil, length, PROT_READ | PROT_WRITE, MAP_SHARED, file.rawValue, low)
    let error = errno
    guard let mapped = unsafe mapped, unsafe mapped != MAP_FAILED else {
      throw SystemError("mapping", subject, errno: error)
    }
    unsafe address = mapped
  }

  deinit { unsafe munmap(address, length) }

  /// Writes bytes, all of them in the part.
  /// - Throws: EFAULT where there is no memory behind them.
  func write(_ bytes: Span<UInt8>, at position: Int) throws(SystemError) {
    precondition(position >= 0 && start + position + bytes.count <= length)
    try staging.withLock { staging throws(SystemError) in
      for low in stride(from: 0, to: bytes.count, by: Self.piece) {
        let count = min(Self.piece, bytes.count - low)
        try staging.writeAll(bytes.extracting(low..<low + count), at: 0)
        var taken = 0
        while taken < count {
          let target = unsafe address + (start + position + low + taken)
          let result = unsafe pread(staging.rawValue, target, count - taken, taken)
          let error = errno
          if result > 0 {
            taken += result
          } else if result == 0 || error != EINTR {
            throw SystemError("writing", subject, errno: result == 0 ? EIO : error)
          }
        }
      }
    }
  }
}
