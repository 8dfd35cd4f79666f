// SPDX-License-Identifier: Apache-2.0

/// Watches how guest memory becomes dirty: takes one reading of a tracker after the other, and keeps figures of them.
public struct DirtyWatch: ~Copyable, Sendable {
  /// What the readings so far say.
  public private(set) var figures: DirtyFigures
  private var seen: DirtyBitmap<PrivateWords>

  /// Nothing was read yet.
  /// - Parameter ranges: guest addresses in bytes, in ascending order, in units of ``DirtyLayout/unit``. Two may touch.
  public init(ranges: [Range<UInt64>]) throws(DirtyBitmapError) {
    let layout = try DirtyLayout(ranges: ranges, pageSize: DirtyLayout.unit)
    figures = DirtyFigures(layout: layout)
    seen = DirtyBitmap(layout: layout)
  }

  /// Where the bits of a reading are.
  public var layout: DirtyLayout { seen.layout }

  /// Takes in what a reading has marked; the bitmap is clean then, and can take the next one.
  /// - Parameters:
  ///   - bitmap: over ``layout``.
  ///   - microseconds: since the reading before, or since tracking began.
  public mutating func take<Words: DirtyWords & ~Copyable>(
    _ bitmap: inout DirtyBitmap<Words>, microseconds: UInt64
  ) throws(DirtyBitmapError) {
    let buckets = figures.buckets
    guard bitmap.layout == layout else { throw .differentLayout }
    var counts: [UInt64] = []
    counts.reserveCapacity(buckets.count)
    for part in buckets.layout.parts.indices {
      for bucket in buckets.buckets(of: part) {
        counts.append(UInt64(try bitmap.count(in: buckets.addresses(of: bucket..<bucket + 1, in: part))))
      }
    }
    try bitmap.takeAll(into: &seen)
    figures.take(counts, workingSetPages: seen.count, microseconds: microseconds)
  }
}
