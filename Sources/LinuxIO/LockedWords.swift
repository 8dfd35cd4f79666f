// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// 64-bit words for a kernel call that writes them and can't say when it failed to.
///
/// Some calls pin the memory that they write, and ignore it where they can't. These words are in memory before anything
/// asks for them and stay there: they are locked, private, writable, not on their way to a child process, and can't be cut
/// off like a file's.
@safe
public struct LockedWords: ~Copyable, @unchecked Sendable {
  // Unchecked because of the pointer: whoever owns this value is the only one who has the memory.
  private let memory: UnsafeMutableBufferPointer<UInt64>

  /// How many words.
  public var count: Int { unsafe memory.count }

  /// The address of the first word, for a request's structure.
  public var address: UInt64 { unsafe UInt64(UInt(bitPattern: memory.baseAddress)) }

  /// That many words, zeroed, in memory.
  /// - Parameter count: at least one.
  /// - Throws: what the kernel answered; ENOMEM or EPERM where this process may not lock so much (`RLIMIT_MEMLOCK`).
  public init(count: Int) throws(SystemError) {
    guard count > 0, count <= Int.max / MemoryLayout<UInt64>.stride else {
      throw SystemError("locking", "\(count) words", errno: EINVAL)
    }
    let bytes = count * MemoryLayout<UInt64>.stride
    let address = unsafe mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    let mapped = errno
    if unsafe address == MAP_FAILED { throw SystemError("taking", "\(bytes) bytes", errno: mapped) }
    // Not inherited: what a child shares would have to be copied when it is written, and that can fail.
    var result = unsafe madvise(address, bytes, MADV_DONTFORK)
    var error = errno
    if result == 0 {
      // Puts every page into memory, to be written, and keeps it there.
      result = unsafe mlock(address, bytes)
      error = errno
    }
    if result != 0 {
      unsafe munmap(address, bytes)
      throw SystemError("locking", "\(bytes) bytes", errno: error)
    }
    unsafe memory = UnsafeMutableBufferPointer(start: address?.assumingMemoryBound(to: UInt64.self), count: count)
  }

  deinit { unsafe munmap(memory.baseAddress, memory.count * MemoryLayout<UInt64>.stride) }

  /// Makes these words zero.
  public mutating func clear(_ words: Range<Int>) {
    precondition(words.lowerBound >= 0 && words.upperBound <= count)
    unsafe memory[words].update(repeating: 0)
  }

  /// Where among the first words there are any that are not zero, in ascending order, in blocks of 64 words each. Outside of
  /// these all of them are zero.
  public borrowing func used(_ words: Int) -> [Range<Int>] {
    precondition(words >= 0 && words <= count)
    var found: [Range<Int>] = []
    guard let start = unsafe memory.baseAddress else { return found }
    for low in stride(from: 0, to: words, by: 64) {
      let high = min(low + 64, words)
      var all: UInt64 = 0
      for index in low..<high { unsafe all |= start[index] }
      if all == 0 { continue }
      if let last = found.last, last.upperBound == low {
        found[found.count - 1] = last.lowerBound..<high
      } else {
        found.append(low..<high)
      }
    }
    return found
  }

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
