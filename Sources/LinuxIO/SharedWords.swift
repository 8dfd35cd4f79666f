// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc

/// 64-bit words in a file in memory that another process can map too, such as a bitmap of dirty pages.
///
/// The file is made here and sealed: nobody can change its size any more, so touching the words never fails for want of a
/// file behind them. Words that were never written are zero and take no memory, until they are locked (``lock()``): then all
/// of them are in memory and stay there, so the kernel can always pin them.
///
/// One process uses the words at a time, and says by message when it is done. What another process writes at the wrong
/// time makes the words wrong and does no other harm. One that punches holes into the file takes away what was in the words,
/// and a lock of them too.
@safe
public struct SharedWords: ~Copyable, @unchecked Sendable {
  // Unchecked because of the pointer: whoever owns this value is the only one in this process who has the memory.
  private let memory: UnsafeMutableBufferPointer<UInt64>
  private let file: Descriptor
  /// Whether every word is in memory and stays there.
  public private(set) var isLocked = false

  /// How many words.
  public var count: Int { unsafe memory.count }

  /// Makes a file of that many words, sealed, and maps it.
  ///
  /// Huge pages are asked for, and not missed where the kernel has none for files in memory.
  /// - Parameters:
  ///   - count: at least one, and as many as a file may have.
  ///   - name: what `/proc/self/fd` and messages call it.
  /// - Throws: what the kernel answered; EINVAL where the count is not possible. Nothing is left open then.
  public init(count: Int, name: String) throws(SystemError) {
    guard count > 0, count <= Int.max / MemoryLayout<UInt64>.stride else {
      throw SystemError("sharing \(count) words as", name, errno: EINVAL)
    }
    let bytes = count * MemoryLayout<UInt64>.stride
    let number = unsafe vf_memfd_create_sealable(name)
    let madeError = errno
    if number < 0 { throw SystemError("making in memory", name, errno: madeError) }
    let file = Descriptor(owning: number, subject: name)
    let sized = ftruncate(file.rawValue, bytes)
    let sizedError = errno
    if sized != 0 { throw SystemError("giving \(bytes) bytes to", name, errno: sizedError) }
    let sealed = vf_seal_size(file.rawValue)
    let sealedError = errno
    if sealed != 0 { throw SystemError("sealing", name, errno: sealedError) }
    let address = unsafe mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.rawValue, 0)
    let mappedError = errno
    if unsafe address == MAP_FAILED { throw SystemError("mapping", name, errno: mappedError) }
    _ = unsafe madvise(address, bytes, MADV_HUGEPAGE)
    let start = unsafe address?.assumingMemoryBound(to: UInt64.self)
    unsafe memory = UnsafeMutableBufferPointer(start: start, count: count)
    self.file = file
  }

  deinit { unsafe munmap(memory.baseAddress, memory.count * MemoryLayout<UInt64>.stride) }

  /// The address of the first word, for a request's structure.
  public var address: UInt64 { unsafe UInt64(UInt(bitPattern: memory.baseAddress)) }

  /// Puts all words into memory and keeps them there, if this process may lock twice as much (`RLIMIT_MEMLOCK`): other
  /// words that a kernel call writes need the rest (``LockedWords``).
  /// - Returns: ``isLocked``.
  @discardableResult
  public mutating func lock() -> Bool {
    if isLocked { return true }
    let bytes = count * MemoryLayout<UInt64>.stride
    // Counts as locked, and takes no memory.
    let rest = unsafe mmap(nil, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if unsafe rest == MAP_FAILED { return false }
    defer { unsafe munmap(rest, bytes) }
    guard unsafe vf_lock_on_fault(rest, UInt(bytes)) == 0 else { return false }
    isLocked = unsafe mlock(memory.baseAddress, bytes) == 0
    // One that fails half way leaves them counted as locked.
    if !isLocked { unsafe munlock(memory.baseAddress, bytes) }
    return isLocked
  }

  /// A second descriptor of the file, close-on-exec, to be given to another process; the caller owns it. Whoever maps it
  /// sees the words, and may write them.
  public func duplicateDescriptor() throws(SystemError) -> Descriptor { try file.duplicate() }

  /// Lends the words for reading.
  public borrowing func withWords<Result, Failure: Error>(
    _ body: (Span<UInt64>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try body(unsafe Span(_unsafeElements: UnsafeBufferPointer(memory)))
  }

  /// Lends the words for writing.
  public mutating func withMutableWords<Result, Failure: Error>(
    _ body: (inout MutableSpan<UInt64>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    var span = unsafe MutableSpan(_unsafeElements: memory)
    return try body(&span)
  }
}
