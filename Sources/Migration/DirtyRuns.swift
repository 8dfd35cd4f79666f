// SPDX-License-Identifier: Apache-2.0
// Inlined into the caller, what it does with a run included, so that a run costs no call: there may be a hundred million
// of them. This is why they are local functions that are lent the words, and not closures, which nothing can make inline.

extension DirtyBitmap where Words: ~Copyable {
  /// Calls for every run of dirty pages, in ascending order, until it is told to end.
  ///
  /// A run is as long as can be within its guest range. It ends where the range ends, also where another one touches.
  /// - Parameter body: gets the run's guest addresses in bytes, and says whether to go on.
  @inlinable @inline(__always)
  public func forEachRun(_ body: (Range<UInt64>) -> Bool) {
    let layout = layout
    @inline(__always)
    func visit(_ words: Span<UInt64>) {
      for part in layout.parts {
        if !words.forEachRun(layout, part, layout.bits(of: part), body) { return }
      }
    }
    storage.withWords(visit)
  }

  /// Calls for every run of dirty pages among those that have one of these guest addresses: see ``forEachRun(_:)``.
  ///
  /// Pages are given whole: the first run may begin before the range, and the last one end after it.
  /// - Parameter range: bytes, all of them in guest ranges; may be empty.
  @inlinable @inline(__always)
  public func forEachRun(
    in range: Range<UInt64>, _ body: (Range<UInt64>) -> Bool
  ) throws(DirtyBitmapError) {
    let layout = layout
    let parts = try layout.parts(of: range)
    @inline(__always)
    func visit(_ words: Span<UInt64>) {
      for part in layout.parts[parts] {
        if !words.forEachRun(layout, part, layout.bits(of: part, touching: range), body) { return }
      }
    }
    storage.withWords(visit)
  }

  /// Takes every run of dirty pages among those that have one of these guest addresses: what was taken is clean.
  ///
  /// Pages are taken whole: the first run may begin before the range, and the last one end after it.
  /// - Parameters:
  ///   - range: bytes, all of them in guest ranges; may be empty.
  ///   - body: gets the run's guest addresses in bytes, and says whether it has taken it. Where it has not, the run stays
  ///     dirty and nothing more is asked.
  @inlinable @inline(__always)
  public mutating func takeRuns(
    in range: Range<UInt64>, _ body: (Range<UInt64>) -> Bool
  ) throws(DirtyBitmapError) {
    let layout = layout
    let parts = try layout.parts(of: range)
    @inline(__always)
    func visit(_ words: inout MutableSpan<UInt64>) {
      for part in layout.parts[parts] {
        let bits = layout.bits(of: part, touching: range)
        var refused: Range<UInt64>?
        let goesOn = words.span.forEachRun(layout, part, bits) { run in
          let takes = body(run)
          if !takes { refused = run }
          return takes
        }
        // Whatever is dirty before it was taken.
        let end = refused.map { layout.bits(of: part, touching: $0).lowerBound } ?? bits.upperBound
        words.clear(bits.lowerBound..<end)
        if !goesOn { return }
      }
    }
    storage.withMutableWords { words in visit(&words) }
  }
}

extension Span<UInt64> {
  /// Calls for every run among these bits of a part, by its guest addresses.
  @inlinable @inline(__always)
  func forEachRun(
    _ layout: DirtyLayout, _ part: DirtyLayout.Part, _ bits: Range<Int>, _ body: (Range<UInt64>) -> Bool
  ) -> Bool {
    let shift = layout.shift
    let zero = part.range.lowerBound &>> shift &- UInt64(truncatingIfNeeded: part.firstWord &* 64)
    if layout.hasWholePages(part) {
      return forEachRun(bits) { low, high in
        body((zero &+ UInt64(truncatingIfNeeded: low)) &<< shift..<(zero &+ UInt64(truncatingIfNeeded: high)) &<< shift)
      }
    }
    return forEachRun(bits) { low, high in body(layout.bytes(of: part, low, high)) }
  }
}
