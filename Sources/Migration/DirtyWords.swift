// SPDX-License-Identifier: Apache-2.0

/// Memory for a bitmap of dirty pages: 64-bit words that are zero at first and don't move to another place by themselves.
///
/// One owner has it at a time, also where another process maps it too: it is handed over by message, so nothing here is
/// atomic.
public protocol DirtyWords: ~Copyable, Sendable {
  /// How many words; it never changes.
  var count: Int { get }

  /// Where the first word is, for a call of the kernel that sets bits by itself; nil where the words are not locked in
  /// memory: there the kernel may fail to write, and most of these calls don't say so.
  var lockedAddress: UInt64? { get }

  /// Lends the words for reading.
  borrowing func withWords<Result, Failure: Error>(
    _ body: (Span<UInt64>) throws(Failure) -> Result
  ) throws(Failure) -> Result

  /// Lends the words for writing.
  mutating func withMutableWords<Result, Failure: Error>(
    _ body: (inout MutableSpan<UInt64>) throws(Failure) -> Result
  ) throws(Failure) -> Result
}

extension DirtyWords where Self: ~Copyable {
  /// They are not locked.
  public var lockedAddress: UInt64? { nil }
}

/// Words in this process's own memory.
public struct PrivateWords: ~Copyable, DirtyWords {
  private var words: [UInt64]

  /// That many words, zeroed.
  public init(count: Int) { words = Array(repeating: 0, count: count) }

  public var count: Int { words.count }

  public borrowing func withWords<Result, Failure: Error>(
    _ body: (Span<UInt64>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try body(words.span)
  }

  public mutating func withMutableWords<Result, Failure: Error>(
    _ body: (inout MutableSpan<UInt64>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    var span = words.mutableSpan
    return try body(&span)
  }
}
