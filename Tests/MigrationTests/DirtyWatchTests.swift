// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

/// Rates, places and history of dirty memory, from readings that are made up.
struct DirtyWatchTests {
  private static let mega: UInt64 = 1 << 20
  private static let second: UInt64 = 1_000_000

  /// What readings come to: each marks these ranges, and takes a second.
  private func figures(
    _ guest: [Range<UInt64>], _ readings: [[Range<UInt64>]], microseconds: UInt64 = second
  ) throws -> DirtyFigures {
    var watch = try DirtyWatch(ranges: guest)
    var bitmap = DirtyBitmap(layout: watch.layout)
    for reading in readings {
      for range in reading { try bitmap.mark(range) }
      try watch.take(&bitmap, microseconds: microseconds)
      #expect(bitmap.count == 0)
    }
    return watch.figures
  }

  @Test("rates are the pages of a reading over its time, and different pages are counted once")
  func rates() throws {
    let figures = try figures(
      [0..<Self.mega], [[0..<0x10000], [0..<0x4000], []], microseconds: Self.second / 2)
    #expect(figures.readings == 3 && figures.pages == 20 && figures.workingSetPages == 16)
    #expect(figures.last?.pages == 0 && figures.last?.microseconds == Self.second / 2)
    #expect(figures.peakBytesPerSecond == 2 * 0x10000)
    #expect(figures.meanBytesPerSecond == 20 * 4096 * 2 / 3)
    #expect(figures.watchedBytes == Self.mega)
  }

  @Test("what is hot is told by range, the hottest first, and what has cooled down is forgotten by and by")
  func hottest() throws {
    let guest = [0..<16 * Self.mega, 32 * Self.mega..<48 * Self.mega]
    let low: Range<UInt64> = 2 * Self.mega..<3 * Self.mega
    let high: Range<UInt64> = 40 * Self.mega..<42 * Self.mega
    var found = try figures(guest, [[low, high]]).hottest(atMost: 8)
    #expect(found.map(\.addresses) == [high, low])
    #expect(found.map(\.percent) == [66, 33] && found.map(\.pagesPerSecond) == [512, 256])
    found = try figures(guest, [[low, high]] + Array(repeating: [low], count: 20)).hottest(atMost: 8)
    #expect(found.map(\.addresses) == [low])
    #expect(try figures(guest, [[]]).hottest(atMost: 8).isEmpty)
  }

  @Test("a bucket within a hot range that happens to be cold does not cut it in two")
  func gap() throws {
    let bucket: UInt64 = 65_536
    let one = try figures([0..<Self.mega], [[0..<bucket, 2 * bucket..<3 * bucket]])
    #expect(one.hottest(atMost: 8).map(\.addresses) == [0..<3 * bucket])
    let two = try figures([0..<Self.mega], [[0..<bucket, 3 * bucket..<4 * bucket]])
    #expect(two.hottest(atMost: 8).count == 2)
  }

  @Test(
    "every page of guest memory is in one bucket, whatever the ranges are",
    arguments: [
      [0..<4096], [4096..<12288, 12288..<0x30000], [0..<1 << 40],
      [0x1000..<0x23000, 1 << 32..<(1 << 32) + 12345 * 4096],
    ] as [[Range<UInt64>]])
  func buckets(guest: [Range<UInt64>]) throws {
    let buckets = DirtyBuckets(try DirtyLayout(ranges: guest, pageSize: 4096), atMost: 512)
    #expect(buckets.count <= max(512, guest.count))
    for (part, range) in guest.enumerated() {
      var end = range.lowerBound
      for bucket in buckets.buckets(of: part) {
        let addresses = buckets.addresses(of: bucket..<bucket + 1, in: part)
        #expect(addresses.lowerBound == end)
        end = addresses.upperBound
      }
      #expect(end == range.upperBound)
    }
  }

  @Test("a history keeps every page of every reading in few columns, however many readings there are")
  func history() throws {
    var watch = try DirtyWatch(ranges: [0..<Self.mega])
    var bitmap = DirtyBitmap(layout: watch.layout)
    for reading in 0..<1000 {
      try bitmap.mark(0..<4096)
      if reading % 2 == 0 { try bitmap.mark(Self.mega / 2..<Self.mega / 2 + 8192) }
      try watch.take(&bitmap, microseconds: 10)
      let columns = watch.figures.history.columns
      #expect(columns.count <= DirtyHistory.mostColumns)
      #expect(columns.reduce(0) { $0 + $1.microseconds } == watch.figures.microseconds)
      #expect(columns.reduce(0) { $0 + $1.pages.reduce(0, +) } == watch.figures.pages)
      #expect(zip(columns, columns.dropFirst()).allSatisfy { $0.start + $0.microseconds == $1.start })
    }
    #expect(watch.figures.history.columns.count > DirtyHistory.mostColumns / 3)
  }

  @Test("a bitmap over other memory is refused, and changes nothing")
  func otherLayout() throws {
    var watch = try DirtyWatch(ranges: [0..<Self.mega])
    var other = DirtyBitmap(layout: try DirtyLayout(ranges: [0..<2 * Self.mega], pageSize: 4096))
    #expect(throws: DirtyBitmapError.differentLayout) { try watch.take(&other, microseconds: 1) }
    let readings = watch.figures.readings
    #expect(readings == 0)
  }
}
