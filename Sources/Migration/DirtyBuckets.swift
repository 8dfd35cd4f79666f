// SPDX-License-Identifier: Apache-2.0

/// Guest memory cut into pieces of one size, small enough to tell hot from cold and few enough to look at.
///
/// Each guest range begins with a bucket of its own; the last bucket of a range may be shorter.
public struct DirtyBuckets: Hashable, Sendable {
  /// The guest ranges.
  public let layout: DirtyLayout
  /// Bytes of a bucket: a power of two, a page or more.
  public let size: UInt64
  /// The number of the first bucket of each guest range, and behind them how many there are.
  public let starts: [Int]

  /// The smallest buckets that there are few enough of.
  /// - Parameters:
  ///   - count: the most; where there are more guest ranges, as many as these.
  ///   - smallest: bytes that a bucket has at least; a power of two.
  public init(_ layout: DirtyLayout, atMost count: Int, smallest: UInt64 = 0) {
    var size = max(layout.pageSize, smallest)
    while size < 1 << 63, Self.count(layout, size) > max(count, layout.parts.count) { size *= 2 }
    var starts = [0]
    for part in layout.parts { starts.append(starts[starts.count - 1] + Self.count(part, size)) }
    self.layout = layout
    self.size = size
    self.starts = starts
  }

  private static func count(_ layout: DirtyLayout, _ size: UInt64) -> Int {
    layout.parts.reduce(0) { $0 + count($1, size) }
  }

  /// A part has at most 2^52 units.
  private static func count(_ part: DirtyLayout.Part, _ size: UInt64) -> Int {
    Int((part.range.upperBound - part.range.lowerBound - 1) / size) + 1
  }

  /// How many there are.
  public var count: Int { starts[starts.count - 1] }

  /// The numbers of the buckets of a guest range.
  public func buckets(of part: Int) -> Range<Int> { starts[part]..<starts[part + 1] }

  /// The guest addresses of some buckets of one guest range.
  public func addresses(of buckets: Range<Int>, in part: Int) -> Range<UInt64> {
    let range = layout.parts[part].range
    let low = range.lowerBound + UInt64(buckets.lowerBound - starts[part]) * size
    let (length, overflow) = UInt64(buckets.count).multipliedReportingOverflow(by: size)
    return low..<(overflow || length > range.upperBound - low ? range.upperBound : low + length)
  }

  /// Sums over buckets of this size, in those of a larger size over the same ranges.
  public func sums(of values: [UInt64], in larger: DirtyBuckets) -> [UInt64] {
    var sums = [UInt64](repeating: 0, count: larger.count)
    let ratio = Int(larger.size / size)
    for part in layout.parts.indices {
      for bucket in buckets(of: part) {
        sums[larger.starts[part] + (bucket - starts[part]) / ratio] += values[bucket]
      }
    }
    return sums
  }
}
