// SPDX-License-Identifier: Apache-2.0

/// Where in a bitmap of dirty pages the bit of a guest page is.
///
/// It follows from the guest ranges and the page size alone, so that a VMM computes the same for itself:
///
/// - The bitmap is an array of 64-bit words in the machine's byte order, which is little-endian on all that VFIO runs on.
///   A bit of 1 means dirty.
/// - Pages are aligned: page number `n` is the bytes from `n * pageSize` up to `(n + 1) * pageSize`. Ranges need not
///   be. A page at the edge of a range belongs to it with the bytes that the range has of it, and where a hole or a border
///   lies within a page, each of the ranges around it has a bit of its own for it.
/// - A range from `start` up to `end` has `(end - 1) / pageSize - start / pageSize + 1` pages. It begins at bit 0 of
///   a word and takes whole words: ranges never share one. The words of the first range begin at word 0, those of each next
///   one where those of the one before it end.
/// - The page of the address `a` in a range has the index `i = a / pageSize - start / pageSize`. Its bit is bit `i % 64` of
///   word `firstWord + i / 64`.
/// - What a range leaves over of its last word has no meaning: nobody reads it.
public struct DirtyLayout: Hashable, Sendable {
  /// The page sizes that a layout may have, in bytes. They are powers of two.
  public static let pageSizes: ClosedRange<UInt64> = 4096...(1 << 30)
  /// What guest ranges are counted in, whatever the page size: each begins and ends at a multiple of 4,096 bytes.
  public static let unit: UInt64 = 4096
  /// The most guest ranges.
  public static let maximumRanges = 4096
  /// The most words: 8 GiB of bitmap, for 256 TiB of guest memory in pages of 4 KiB.
  public static let maximumWords = 1 << 30

  /// One guest range in the bitmap.
  public struct Part: Hashable, Sendable {
    /// Guest addresses in bytes. The last 4 KiB before 2^64 can't be in a range, since its end would have no number.
    public let range: Range<UInt64>
    /// The word that holds its first page.
    public let firstWord: Int
    /// How many pages have bytes in it; at least one.
    public let pages: Int

    /// How many words it takes.
    public var words: Int { (pages + 63) / 64 }
  }

  /// Bytes of a page.
  public let pageSize: UInt64
  /// The guest ranges with their places, in the order of their addresses.
  public let parts: [Part]
  /// How many words the bitmap takes.
  public let wordCount: Int
  /// The power of two that the page size is.
  @usableFromInline let shift: UInt64

  /// The layout for these guest ranges.
  /// - Parameters:
  ///   - ranges: guest addresses in bytes, in ascending order, in units of ``unit``. Two may touch.
  ///   - pageSize: bytes; one of ``pageSizes``.
  public init(ranges: [Range<UInt64>], pageSize: UInt64) throws(DirtyBitmapError) {
    guard Self.pageSizes.contains(pageSize), pageSize.nonzeroBitCount == 1 else { throw .pageSize(pageSize) }
    guard !ranges.isEmpty, ranges.count <= Self.maximumRanges else { throw .rangeCount(ranges.count) }
    let shift = UInt64(pageSize.trailingZeroBitCount)
    var parts: [Part] = []
    var words = 0
    for range in ranges {
      guard !range.isEmpty, range.lowerBound % Self.unit == 0, range.upperBound % Self.unit == 0 else {
        throw .range(range)
      }
      if let last = parts.last, last.range.upperBound > range.lowerBound { throw .order(range) }
      // At most 2^52 pages, and the words before are within their cap: no sum here can overflow.
      let pages = Int((range.upperBound - 1) >> shift - range.lowerBound >> shift) + 1
      let part = Part(range: range, firstWord: words, pages: pages)
      words += part.words
      guard words <= Self.maximumWords else { throw .tooManyPages }
      parts.append(part)
    }
    self.pageSize = pageSize
    self.shift = shift
    self.parts = parts
    wordCount = words
  }

  /// The same guest ranges with another page size.
  public func with(pageSize: UInt64) throws(DirtyBitmapError) -> DirtyLayout {
    try DirtyLayout(ranges: parts.map(\.range), pageSize: pageSize)
  }

  /// How many pages have a bit.
  public var pages: Int { parts.reduce(0) { $0 + $1.pages } }

  /// Whether both are over the same guest ranges, with whatever page sizes.
  func hasRanges(of other: DirtyLayout) -> Bool {
    parts.count == other.parts.count && zip(parts, other.parts).allSatisfy { $0.range == $1.range }
  }

  /// The parts that these guest addresses lie in.
  /// - Throws: ``DirtyBitmapError/outside(_:)`` where one of the addresses is in none.
  @usableFromInline
  func parts(of range: Range<UInt64>) throws(DirtyBitmapError) -> Range<Int> {
    if range.isEmpty { return 0..<0 }
    // The first part that ends after the first address.
    var low = 0
    var high = parts.count
    while low < high {
      let middle = (low + high) / 2
      if parts[middle].range.upperBound > range.lowerBound { high = middle } else { low = middle + 1 }
    }
    let first = low
    var covered = range.lowerBound
    while covered < range.upperBound {
      guard low < parts.count, parts[low].range.lowerBound <= covered else { throw .outside(range) }
      covered = parts[low].range.upperBound
      low += 1
    }
    return first..<low
  }

  /// The pages of a part that these guest addresses touch, as bits of the bitmap.
  /// - Parameter range: overlaps the part.
  @usableFromInline
  func bits(of part: Part, touching range: Range<UInt64>) -> Range<Int> {
    let zero = part.range.lowerBound >> shift
    let range = range.clamped(to: part.range)
    let first = part.firstWord * 64
    return first + Int(range.lowerBound >> shift - zero)..<first + Int((range.upperBound - 1) >> shift - zero) + 1
  }

  /// The pages of a part whose every byte that the part has is among these guest addresses, as bits of the bitmap.
  /// - Parameter range: overlaps the part.
  func bits(of part: Part, inside range: Range<UInt64>) -> Range<Int> {
    let touched = bits(of: part, touching: range)
    let outer = bytes(of: part, touched.lowerBound, touched.upperBound)
    let low = touched.lowerBound + (outer.lowerBound < range.lowerBound ? 1 : 0)
    let high = touched.upperBound - (outer.upperBound > range.upperBound ? 1 : 0)
    return low..<max(low, high)
  }

  /// All pages of a part, as bits of the bitmap.
  @usableFromInline
  func bits(of part: Part) -> Range<Int> { part.firstWord * 64..<part.firstWord * 64 + part.pages }

  /// Whether a part begins and ends at borders of pages, so that the addresses of its pages follow from their numbers.
  @inlinable
  func hasWholePages(_ part: Part) -> Bool { (part.range.lowerBound | part.range.upperBound) & (pageSize - 1) == 0 }

  /// The guest addresses of some pages of a part, which has them.
  /// - Parameters:
  ///   - lowBit: the first one's bit in the bitmap.
  ///   - highBit: the bit after the last one's; after `lowBit`.
  @usableFromInline
  func bytes(of part: Part, _ lowBit: Int, _ highBit: Int) -> Range<UInt64> {
    let first = part.firstWord &* 64
    // The edges are the range's, and what lies beyond them may not fit into 64 bits.
    let zero = part.range.lowerBound &>> shift &- UInt64(truncatingIfNeeded: first)
    var low = (zero &+ UInt64(truncatingIfNeeded: lowBit)) &<< shift
    var high = (zero &+ UInt64(truncatingIfNeeded: highBit)) &<< shift
    if lowBit == first { low = part.range.lowerBound }
    if highBit == first &+ part.pages { high = part.range.upperBound }
    return low..<high
  }
}
