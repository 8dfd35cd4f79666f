// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc

/// A part of a file that is somebody else's memory: a memfd, a file on tmpfs or hugetlbfs, any regular file.
///
/// Whoever maps it may write to it, seal it or cut it off at any time, and is not trusted. So the memory is never
/// touched here: the kernel copies, by `pread` and `pwrite`, and a part that is gone is an error of the call, where a
/// touch would be a SIGBUS. Reading what nobody ever wrote gives zeros and takes no memory; a touch would. Huge pages
/// can't be written by `pwrite`: they are mapped, and the kernel copies into the mapping (see ``MappedPart``).
///
/// Nothing is ever cut out of the file (`fallocate` with `FALLOC_FL_PUNCH_HOLE`): a device for which the memory is
/// pinned would go on with the pages that it had, and the guest with others.
public final class MemoryFile: Sendable {
  /// What is done with it.
  public enum Access: Hashable, Sendable {
    /// Reading.
    case read
    /// Reading and writing.
    case readAndWrite
  }

  /// How many bytes.
  public let size: UInt64
  private let offset: Int
  private let file: Descriptor
  /// Where it is written through a mapping.
  private let mapped: MappedPart?

  /// - Parameters:
  ///   - descriptor: becomes its own, in success and in failure.
  ///   - offset: of the first byte in the file.
  ///   - size: in bytes, at least one; the file must have them now.
  public convenience init(
    owning descriptor: consuming Descriptor, offset: UInt64, size: UInt64, access: Access
  ) throws(MemoryFileError) {
    try self.init(owning: descriptor, offset: offset, size: size, access: access, alwaysMaps: false)
  }

  /// - Parameter alwaysMaps: whether files of small pages are written through a mapping too: for tests, where there may
  ///   be no huge pages.
  package init(
    owning descriptor: consuming Descriptor, offset: UInt64, size: UInt64, access: Access, alwaysMaps: Bool
  ) throws(MemoryFileError) {
    let subject = descriptor.subject
    let (end, overflow) = offset.addingReportingOverflow(size)
    guard size > 0, !overflow, end <= UInt64(Int.max) else { throw .notAPart(subject, offset: offset, size: size) }
    var status = stat()
    let looked = unsafe fstat(descriptor.rawValue, &status)
    let lookError = errno
    if looked != 0 { throw .system(SystemError("looking at", subject, errno: lookError)) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw .notAFile(subject) }
    guard status.st_size >= Int(end) else {
      throw .tooSmall(subject, has: UInt64(max(0, status.st_size)), needed: end)
    }
    let flags = fcntl(descriptor.rawValue, F_GETFL)
    let flagsError = errno
    if flags < 0 { throw .system(SystemError("looking at", subject, errno: flagsError)) }
    guard flags & O_ACCMODE == O_RDWR || access == .read && flags & O_ACCMODE == O_RDONLY else {
      throw .wrongMode(subject, access)
    }
    let hugePage = vf_huge_page_size(descriptor.rawValue)
    let kindError = errno
    if hugePage < 0 { throw .system(SystemError("looking at", subject, errno: kindError)) }
    if access == .readAndWrite, hugePage > 0 || alwaysMaps {
      do throws(SystemError) {
        mapped = try MappedPart(descriptor, Int(offset)..<Int(end), page: max(hugePage, 4096))
      } catch {
        throw .system(error)
      }
    } else {
      mapped = nil
    }
    self.size = size
    self.offset = Int(offset)
    file = descriptor
  }

  /// Whether so many bytes from there on are in it.
  private func has(_ count: Int, at position: UInt64) -> Bool {
    count >= 0 && position <= size && UInt64(count) <= size - position
  }

  /// Fills a buffer with what is in memory now.
  /// - Parameter position: of the first byte, from the start of the part; all bytes must be in the part.
  public func read(into bytes: inout MutableSpan<UInt8>, at position: UInt64) throws(MemoryFileError) {
    precondition(has(bytes.count, at: position), "reading outside of the memory")
    let count: Int
    do throws(SystemError) {
      count = try file.readAll(into: &bytes, at: offset + Int(position))
    } catch {
      throw .system(error)
    }
    if count < bytes.count { throw .cutOff(file.subject, at: UInt64(offset) + position + UInt64(count)) }
  }

  /// Writes to memory.
  /// - Parameter position: of the first byte, from the start of the part; all bytes must be in the part.
  public func write(_ bytes: Span<UInt8>, at position: UInt64) throws(MemoryFileError) {
    precondition(has(bytes.count, at: position), "writing outside of the memory")
    do throws(SystemError) {
      if let mapped {
        try mapped.write(bytes, at: Int(position))
      } else {
        try file.writeAll(bytes, at: offset + Int(position))
      }
    } catch {
      if error.errno == EFAULT { throw .cutOff(file.subject, at: UInt64(offset) + position) }
      throw .system(error)
    }
  }
}

/// A file that is not the memory that it was said to be.
public enum MemoryFileError: Error, Hashable, Sendable {
  /// An offset and a size in bytes that no file can have.
  case notAPart(String, offset: UInt64, size: UInt64)
  /// It is no regular file.
  case notAFile(String)
  /// It ends before the part does.
  case tooSmall(String, has: UInt64, needed: UInt64)
  /// Its descriptor is open for something else.
  case wrongMode(String, MemoryFile.Access)
  /// It was cut off, and has no byte at this offset any more.
  case cutOff(String, at: UInt64)
  /// A call failed.
  case system(SystemError)

  /// The error number that says it best.
  public var errno: Int32 {
    switch self {
    case .notAPart, .notAFile, .tooSmall: EINVAL
    case .wrongMode: EACCES
    case .cutOff: ENODATA
    case .system(let error): error.errno
    }
  }
}

extension MemoryFileError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .notAPart(let file, let offset, let size): "\(file) can't have \(size) bytes from \(offset) on"
    case .notAFile(let file): "\(file) is no regular file: guest memory has to be a memfd, or on tmpfs or hugetlbfs"
    case .tooSmall(let file, let has, let needed): "\(file) has \(has) bytes and should have \(needed) at least"
    case .wrongMode(let file, .read): "\(file) is not open for reading"
    case .wrongMode(let file, .readAndWrite): "\(file) is not open for reading and writing"
    case .cutOff(let file, let offset): "\(file) was cut off: it has nothing at offset \(offset) any more"
    case .system(let error): "\(error)"
    }
  }
}

extension Span<UInt8> {
  /// Whether every byte is zero.
  public var isZero: Bool {
    if count < 16 { return indices.allSatisfy { self[$0] == 0 } }
    for index in 0..<16 where self[index] != 0 { return false }
    // Each byte is what the one 16 before it is, and the first 16 are zero.
    return unsafe withUnsafeBytes { bytes in
      guard let start = bytes.baseAddress else { return true }
      return unsafe memcmp(start, start + 16, bytes.count - 16) == 0
    }
  }
}
