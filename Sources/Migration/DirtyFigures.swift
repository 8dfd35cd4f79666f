// SPDX-License-Identifier: Apache-2.0

/// How fast guest memory becomes dirty, where, and how that came to be, from one reading of dirty pages after the other.
///
/// A page that was written many times between two readings counts once, as it is sent once: readings that follow each
/// other sooner find a higher rate, or the same.
public struct DirtyFigures: Hashable, Sendable {
  /// What one reading found.
  public struct Reading: Hashable, Sendable {
    /// Microseconds since the reading before it, at least 1.
    public let microseconds: UInt64
    /// Pages that were dirty.
    public let pages: Int
    /// Bytes of them in a second.
    public let bytesPerSecond: UInt64
  }

  /// Neighbouring memory that is written to about equally.
  public struct HotRange: Hashable, Sendable {
    /// Guest addresses in bytes.
    public let addresses: Range<UInt64>
    /// Pages a second, of late.
    public let pagesPerSecond: UInt64
    /// How much of all that is of late written to, in hundredths.
    public let percent: Int
  }

  /// Memory in pieces of at least ``smallestBucket``: at most ``mostBuckets``, or one for each guest range.
  public let buckets: DirtyBuckets
  /// What happened when.
  public private(set) var history: DirtyHistory
  /// How many readings there were.
  public private(set) var readings = 0
  /// The last one.
  public private(set) var last: Reading?
  /// Microseconds of all readings.
  public private(set) var microseconds: UInt64 = 0
  /// Dirty pages of all readings; one that was dirty in two of them counts twice.
  public private(set) var pages: UInt64 = 0
  /// The highest rate of a reading, in bytes a second.
  public private(set) var peakBytesPerSecond: UInt64 = 0
  /// How many different pages were dirty so far.
  public private(set) var workingSetPages = 0
  /// For each bucket the rate of late, in units of which a page a second has ``heatOfPage``. A new reading counts for a
  /// quarter, so what has cooled down is forgotten by and by.
  public private(set) var heat: [UInt64]

  /// What one page a second is in ``heat``.
  public static let heatOfPage: UInt64 = 256
  /// The most buckets.
  public static let mostBuckets = 4096
  /// Bytes. In smaller pieces what is hot would be a matter of chance.
  public static let smallestBucket: UInt64 = 65_536

  /// Nothing was read yet.
  public init(layout: DirtyLayout) {
    buckets = DirtyBuckets(layout, atMost: Self.mostBuckets, smallest: Self.smallestBucket)
    history = DirtyHistory(buckets)
    heat = Array(repeating: 0, count: buckets.count)
  }

  /// Takes in a reading.
  /// - Parameters:
  ///   - counts: dirty pages for each bucket.
  ///   - workingSetPages: how many different pages were dirty so far, with these.
  ///   - microseconds: since the reading before, or since tracking began.
  package mutating func take(_ counts: [UInt64], workingSetPages: Int, microseconds: UInt64) {
    let time = max(1, microseconds)
    let sum = counts.reduce(0, +)
    let reading = Reading(
      microseconds: time, pages: Int(sum), bytesPerSecond: rate(sum * buckets.layout.pageSize, in: time))
    for (bucket, count) in counts.enumerated() {
      let now = rate(count * Self.heatOfPage, in: time)
      // Rounded so that what is written to no more becomes 0 in the end.
      heat[bucket] = readings == 0 ? now : heat[bucket] - (heat[bucket] + 3) / 4 + now / 4
    }
    readings += 1
    last = reading
    self.microseconds += time
    pages += sum
    peakBytesPerSecond = max(peakBytesPerSecond, reading.bytesPerSecond)
    self.workingSetPages = workingSetPages
    history.take(buckets.sums(of: counts, in: history.rows), microseconds: time)
  }

  /// Bytes a second over all readings.
  public var meanBytesPerSecond: UInt64 { rate(pages * buckets.layout.pageSize, in: max(1, microseconds)) }

  /// Bytes of all pages that are watched.
  public var watchedBytes: UInt64 { UInt64(buckets.layout.pages) * buckets.layout.pageSize }

  /// Where most is written to, the most first: rows of buckets that have at least a quarter of the hottest one's rate,
  /// but for one here and there.
  public func hottest(atMost count: Int) -> [HotRange] {
    let total = heat.reduce(0, +)
    guard let most = heat.max(), most >= Self.heatOfPage / 16 else { return [] }
    var found: [(addresses: Range<UInt64>, heat: UInt64)] = []
    for part in buckets.layout.parts.indices {
      for row in rows(of: buckets.buckets(of: part), atLeast: max(1, most / 4)) {
        found.append((buckets.addresses(of: row, in: part), heat[row].reduce(0, +)))
      }
    }
    found.sort { $0.heat == $1.heat ? $0.addresses.lowerBound < $1.addresses.lowerBound : $0.heat > $1.heat }
    return found.prefix(count).map { addresses, heat in
      HotRange(
        addresses: addresses, pagesPerSecond: heat / Self.heatOfPage, percent: Int(scaled(heat, by: 100, over: total)))
    }
  }

  /// Buckets that are that hot, as rows with no more than one between that is not.
  private func rows(of buckets: Range<Int>, atLeast least: UInt64) -> [Range<Int>] {
    var rows: [Range<Int>] = []
    for bucket in buckets where heat[bucket] >= least {
      if let last = rows.last, bucket - last.upperBound <= 1 {
        rows[rows.count - 1] = last.lowerBound..<bucket + 1
      } else {
        rows.append(bucket..<bucket + 1)
      }
    }
    return rows
  }

  private func rate(_ amount: UInt64, in microseconds: UInt64) -> UInt64 {
    scaled(amount, by: 1_000_000, over: microseconds)
  }
}
