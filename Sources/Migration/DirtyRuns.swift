// SPDX-License-Identifier: Apache-2.0
// Inlined into the caller, so that a run costs no call: there may be a hundred million of them.

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
        let goesOn = words.forEachRun(layout.bits(of: part)) { body(layout.bytes(of: part, $0, $1)) }
        if !goesOn { return }
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
    let parts = try layout.parts(of: range)
    storage.withWords { words in
      for part in layout.parts[parts] {
        let goesOn = words.forEachRun(layout.bits(of: part, touching: range)) {
          body(layout.bytes(of: part, $0, $1))
        }
        if !goesOn { return }
      }
    }
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
    let parts = try layout.parts(of: range)
    let layout = layout
    storage.withMutableWords { words in
      for part in layout.parts[parts] {
        let bits = layout.bits(of: part, touching: range)
        var refused = bits.upperBound
        _ = words.span.forEachRun(bits) { low, high in
          let takes = body(layout.bytes(of: part, low, high))
          if !takes { refused = low }
          return takes
        }
        // Whatever is dirty before it was taken.
        words.clear(bits.lowerBound..<refused)
        if refused < bits.upperBound { return }
      }
    }
  }
}
