// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// A page-aligned piece of memory that device state passes through.
///
/// One thread has it at a time; it is handed on by message, so there is no lock.
@safe
public final class TransferBuffer: @unchecked Sendable {
  // Unchecked because ownership is by protocol: a session gives each buffer to one lane at a time.
  private let memory: UnsafeMutableRawBufferPointer

  /// The checksum of what was put into it last, by whoever did; it travels with the memory.
  public var checksum: UInt64 = 0

  /// Bytes in it.
  public var count: Int { unsafe memory.count }

  /// Takes that many bytes, zeroed. Fails where there is no memory.
  public init(count: Int) throws(SystemError) {
    let address = unsafe mmap(nil, count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    let error = errno
    if unsafe address == MAP_FAILED { throw SystemError("taking", "\(count) bytes of memory", errno: error) }
    unsafe memory = UnsafeMutableRawBufferPointer(start: address, count: count)
  }

  deinit { unsafe munmap(memory.baseAddress, memory.count) }

  /// Lends the memory, or a part of it, for writing.
  public func withMutableSpan<Result, Failure: Error>(
    _ part: Range<Int>? = nil, _ body: (inout MutableSpan<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let part = part ?? 0..<count
    precondition(part.upperBound <= count)
    let typed = unsafe memory.assumingMemoryBound(to: UInt8.self)
    var span = unsafe MutableSpan(_unsafeElements: UnsafeMutableBufferPointer(rebasing: typed[part]))
    return try body(&span)
  }

  /// Lends its first bytes for reading.
  public func withSpan<Result, Failure: Error>(
    first count: Int, _ body: (Span<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(count <= self.count)
    let typed = unsafe UnsafeRawBufferPointer(memory).assumingMemoryBound(to: UInt8.self)
    return try body(unsafe Span(_unsafeElements: UnsafeBufferPointer(rebasing: typed[..<count])))
  }

  /// Lends a part of it for reading.
  public func withSpan<Result, Failure: Error>(
    _ part: Range<Int>, _ body: (Span<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(part.lowerBound >= 0 && part.upperBound <= count)
    let typed = unsafe UnsafeRawBufferPointer(memory).assumingMemoryBound(to: UInt8.self)
    return try body(unsafe Span(_unsafeElements: UnsafeBufferPointer(rebasing: typed[part])))
  }

  /// Copies a part of it to another place in it; the two may overlap.
  public func move(_ part: Range<Int>, to start: Int) {
    precondition(part.lowerBound >= 0 && part.upperBound <= count && start >= 0 && start <= count - part.count)
    guard let base = unsafe memory.baseAddress else { return }
    unsafe memmove(base + start, base + part.lowerBound, part.count)
  }
}
