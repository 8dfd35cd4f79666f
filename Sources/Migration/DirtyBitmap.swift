// SPDX-License-Identifier: Apache-2.0

/// Which guest pages were written to: one bit for each page of the guest ranges of a ``DirtyLayout``.
///
/// A dirty page is never lost: what touches a page in part marks it as a whole, and what clears or takes a page does so only
/// with its whole content accounted for. An operation that throws has changed nothing, but for ``add(_:byKernel:)``, which
/// may have marked pages by then.
///
/// The words may be in memory that another process maps. It has one owner at a time: ``words()`` gives it up, and
/// ``init(layout:words:)`` takes it with the bits that are in it. Were another process to write at the same time, pages
/// could be lost; nothing else could happen.
public struct DirtyBitmap<Words: DirtyWords & ~Copyable>: ~Copyable, Sendable {
  /// Where the bit of a page is.
  public let layout: DirtyLayout
  /// Whose memory it is. Other modules of this package extend the bitmap for a kind of memory.
  @usableFromInline package var storage: Words

  /// Takes over memory with the bits that are in it; fresh memory is zero, so nothing is dirty.
  /// - Parameter words: as many as the layout takes. They are let go of where this throws.
  public init(layout: DirtyLayout, words: consuming Words) throws(DirtyBitmapError) {
    let count = words.count
    guard count == layout.wordCount else { throw .wordCount(count, needed: layout.wordCount) }
    self.layout = layout
    storage = words
  }

  /// Gives up the memory, with the bits that are in it, to whoever is its owner from now on.
  public consuming func words() -> Words { storage }

  /// Lends the words for reading, laid out as ``layout`` says.
  public borrowing func withWords<Result, Failure: Error>(
    _ body: (Span<UInt64>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try storage.withWords(body)
  }

  /// Lends the words for writing, laid out as ``layout`` says.
  public mutating func withMutableWords<Result, Failure: Error>(
    _ body: (inout MutableSpan<UInt64>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try storage.withMutableWords(body)
  }

  /// Marks the page that has this guest address.
  public mutating func mark(_ address: UInt64) throws(DirtyBitmapError) {
    guard address < .max else { throw .outside(address..<address) }
    try mark(address..<address + 1)
  }

  /// Marks every page that has one of these guest addresses.
  /// - Parameter range: bytes, all of them in guest ranges; may be empty.
  public mutating func mark(_ range: Range<UInt64>) throws(DirtyBitmapError) {
    let parts = try layout.parts(of: range)
    storage.withMutableWords { words in
      for part in layout.parts[parts] { words.set(layout.bits(of: part, touching: range)) }
    }
  }

  /// Marks every page there is: what has to be done when a tracker failed.
  public mutating func markAll() {
    storage.withMutableWords { words in
      for part in layout.parts { words.set(layout.bits(of: part)) }
    }
  }

  /// Clears every page that lies in these guest addresses with all its bytes. A page that lies in them in part stays as it
  /// is, since something else in it may be dirty.
  /// - Parameter range: bytes, all of them in guest ranges; may be empty.
  public mutating func clear(_ range: Range<UInt64>) throws(DirtyBitmapError) {
    let parts = try layout.parts(of: range)
    storage.withMutableWords { words in
      for part in layout.parts[parts] { words.clear(layout.bits(of: part, inside: range)) }
    }
  }

  /// Clears every page.
  public mutating func clearAll() {
    storage.withMutableWords { words in
      for part in layout.parts { words.clear(layout.bits(of: part)) }
    }
  }

  /// How many pages are dirty.
  public var count: Int {
    storage.withWords { words in
      layout.parts.reduce(0) { $0 + words.ones(layout.bits(of: $1)) }
    }
  }

  /// How many pages that have one of these guest addresses are dirty.
  /// - Parameter range: bytes, all of them in guest ranges; may be empty.
  public func count(in range: Range<UInt64>) throws(DirtyBitmapError) -> Int {
    let parts = try layout.parts(of: range)
    return storage.withWords { words in
      layout.parts[parts].reduce(0) { $0 + words.ones(layout.bits(of: $1, touching: range)) }
    }
  }

  /// Moves what is dirty among the pages that have one of these guest addresses to another bitmap: it is dirty there, and
  /// clean here.
  /// - Parameters:
  ///   - range: bytes, all of them in guest ranges; may be empty.
  ///   - other: has the same layout; what is dirty there stays dirty.
  public mutating func take<Other: DirtyWords & ~Copyable>(
    _ range: Range<UInt64>, into other: inout DirtyBitmap<Other>
  ) throws(DirtyBitmapError) {
    guard layout == other.layout else { throw .differentLayout }
    let parts = try layout.parts(of: range)
    let layout = layout
    storage.withMutableWords { words in
      other.storage.withMutableWords { others in
        for part in layout.parts[parts] { words.move(layout.bits(of: part, touching: range), to: &others) }
      }
    }
  }

  /// Moves everything that is dirty to another bitmap of the same layout: see ``take(_:into:)``.
  public mutating func takeAll<Other: DirtyWords & ~Copyable>(
    into other: inout DirtyBitmap<Other>
  ) throws(DirtyBitmapError) {
    guard layout == other.layout else { throw .differentLayout }
    let layout = layout
    storage.withMutableWords { words in
      other.storage.withMutableWords { others in
        for part in layout.parts { words.move(layout.bits(of: part), to: &others) }
      }
    }
  }
}

extension DirtyBitmap where Words == PrivateWords {
  /// A bitmap in this process's own memory, with nothing dirty.
  public init(layout: DirtyLayout) {
    self.layout = layout
    storage = PrivateWords(count: layout.wordCount)
  }
}
