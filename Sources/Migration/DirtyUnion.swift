// SPDX-License-Identifier: Apache-2.0

/// Which bits of a kernel's answer are meant, and whose pages they are.
///
/// The answer is what `IOMMU_HWPT_GET_DIRTY_BITMAP` and `VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT` write: 64-bit words in which
/// bit `i` stands for the I/O addresses from `base + i * pageSize` up to `base + (i + 1) * pageSize`.
public struct DirtyAnswer: Hashable, Sendable {
  /// The I/O address of the first byte that bit 0 stands for. It need not be a multiple of anything.
  public var base: UInt64
  /// Bytes that one bit stands for: a power of two.
  public var pageSize: UInt64
  /// The I/O addresses in bytes that are of interest; none before the base.
  public var addresses: Range<UInt64>
  /// The guest address that the first of these is mapped to. The others follow it.
  public var guest: UInt64

  /// What the parameters say about an answer.
  public init(base: UInt64, pageSize: UInt64, addresses: Range<UInt64>, guest: UInt64) {
    self.base = base
    self.pageSize = pageSize
    self.addresses = addresses
    self.guest = guest
  }
}

extension DirtyBitmap where Words: ~Copyable {
  /// Adds what is dirty in another bitmap over the same guest ranges.
  ///
  /// Page sizes may differ. A coarser page marks all pages here that it covers, finer ones mark the page here that they
  /// are in.
  public mutating func union<Other: DirtyWords & ~Copyable>(
    _ other: borrowing DirtyBitmap<Other>
  ) throws(DirtyBitmapError) {
    let layout = layout
    let theirs = other.layout
    guard layout.hasRanges(of: theirs) else { throw .differentLayout }
    other.storage.withWords { others in
      storage.withMutableWords { words in
        if layout.pageSize == theirs.pageSize {
          words.union(others)
          return
        }
        for index in layout.parts.indices {
          let part = theirs.parts[index]
          let bits = others.extracting(part.firstWord..<part.firstWord + part.words)
          let start = part.range.lowerBound & ~(theirs.pageSize - 1)
          let offsets = part.range.lowerBound - start..<part.range.upperBound - start
          words.union(layout, layout.parts[index], part.range, bits, shift: theirs.shift, offsets: offsets)
        }
      }
    }
  }

  /// A bitmap with another page size that has everything dirty that is so here: coarser pages where one of those they cover
  /// is, finer ones where the one they are in is.
  /// - Parameter words: fresh memory, as much as `layout.with(pageSize:)` takes.
  public func converted<Other: DirtyWords & ~Copyable>(
    pageSize: UInt64, words: consuming Other
  ) throws(DirtyBitmapError) -> DirtyBitmap<Other> {
    var result = try DirtyBitmap<Other>(layout: layout.with(pageSize: pageSize), words: words)
    try result.union(self)
    return result
  }

  /// Has the kernel add an answer by itself, where this bitmap has each of its bits at the same place of a word, and has
  /// its words locked in memory: of a large guest that saves going through an answer that is mostly zeros.
  /// - Parameters:
  ///   - answer: all of its addresses are asked for, from the base on.
  ///   - call: gets where bit 0 is to be, and how many words the answer takes. It sets bits and leaves all others as they
  ///     are. What it has set before it throws stays set: too much is dirty then, and nothing missed.
  /// - Returns: whether it was called. Where it was not, the answer has to come by ``union(_:_:)``.
  public mutating func add<Failure: Error>(
    _ answer: DirtyAnswer, byKernel call: (_ address: UInt64, _ words: Int) throws(Failure) -> Void
  ) throws(Failure) -> Bool {
    guard let bits = layout.wholeWords(of: answer), let address = storage.lockedAddress else { return false }
    try call(address + UInt64(bits.lowerBound / 64 * 8), (bits.count + 63) / 64)
    return true
  }

  /// Adds what a kernel's answer says, and marks every page that a dirty bit touches.
  /// - Parameters:
  ///   - words: the answer.
  ///   - answer: what its bits stand for. The guest addresses are all in guest ranges.
  public mutating func union(_ words: Span<UInt64>, _ answer: DirtyAnswer) throws(DirtyBitmapError) {
    guard answer.pageSize.nonzeroBitCount == 1 else { throw .pageSize(answer.pageSize) }
    if answer.addresses.isEmpty { return }
    let shift = UInt64(answer.pageSize.trailingZeroBitCount)
    guard answer.addresses.lowerBound >= answer.base,
      ((answer.addresses.upperBound - 1 - answer.base) >> shift) / 64 < UInt64(words.count)
    else { throw .notInAnswer(answer.addresses) }
    let length = answer.addresses.upperBound - answer.addresses.lowerBound
    let (end, overflow) = answer.guest.addingReportingOverflow(length)
    guard !overflow else { throw .overflow(answer.addresses, guest: answer.guest) }
    let parts = try layout.parts(of: answer.guest..<end)
    let layout = layout
    storage.withMutableWords { mine in
      for part in layout.parts[parts] {
        let guest = part.range.clamped(to: answer.guest..<end)
        let start = answer.addresses.lowerBound - answer.base + (guest.lowerBound - answer.guest)
        let offsets = start..<start + (guest.upperBound - guest.lowerBound)
        mine.union(layout, part, guest, words, shift: shift, offsets: offsets)
      }
    }
  }
}

extension DirtyLayout {
  /// The bits that an answer's bits are one by one, if there are such and the first begins a word.
  fileprivate func wholeWords(of answer: DirtyAnswer) -> Range<Int>? {
    let length = answer.addresses.upperBound - answer.addresses.lowerBound
    let (end, overflow) = answer.guest.addingReportingOverflow(length)
    guard answer.pageSize == pageSize, answer.addresses.lowerBound == answer.base, length > 0, !overflow,
      (answer.guest | length) & (pageSize - 1) == 0,
      let touched = try? parts(of: answer.guest..<end), touched.count == 1
    else { return nil }
    let bits = bits(of: parts[touched.lowerBound], touching: answer.guest..<end)
    return bits.lowerBound % 64 == 0 ? bits : nil
  }
}

extension MutableSpan<UInt64> {
  /// Adds to one part of a bitmap what another row of bits says about some of its addresses.
  /// - Parameters:
  ///   - guest: guest addresses in this part; at least one.
  ///   - other: bit `i` stands for the offsets from `i << shift` up to `(i + 1) << shift`.
  ///   - offsets: of the guest addresses, as many as there are of these.
  fileprivate mutating func union(
    _ layout: DirtyLayout, _ part: DirtyLayout.Part, _ guest: Range<UInt64>, _ other: Span<UInt64>, shift: UInt64,
    offsets: Range<UInt64>
  ) {
    let first = Int(offsets.lowerBound >> shift)
    let end = Int((offsets.upperBound - 1) >> shift) + 1
    if shift == layout.shift, (guest.lowerBound ^ offsets.lowerBound) & (layout.pageSize - 1) == 0 {
      // Every page is one bit on both sides.
      union(layout.bits(of: part, touching: guest), other, from: first)
      return
    }
    let toGuest = guest.lowerBound &- offsets.lowerBound
    _ = other.forEachRun(first..<end) { lowBit, highBit in
      // The edges are cut first: what lies beyond them may not fit into 64 bits.
      let low = lowBit == first ? offsets.lowerBound : UInt64(lowBit) << shift
      let high = highBit == end ? offsets.upperBound : UInt64(highBit) << shift
      set(layout.bits(of: part, touching: low &+ toGuest..<high &+ toGuest))
      return true
    }
  }
}
