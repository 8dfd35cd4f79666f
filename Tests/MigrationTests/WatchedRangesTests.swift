// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@Suite("What a device's log watches")
struct WatchedRangesTests {
  private static let page: UInt64 = 4096

  /// Runs by I/O page: first and after the last.
  private func runs(_ pages: [Range<UInt64>]) throws -> [MappedRun] {
    try pages.map { try MappedRun($0.lowerBound * Self.page..<$0.upperBound * Self.page, guest: 0) }
  }

  private func ranges(_ pages: [Range<UInt64>], pageSize: UInt64 = page, atMost count: Int = 256) throws
    -> [Range<UInt64>]
  {
    try WatchedRanges(covering: runs(pages), pageSize: pageSize, atMost: count).ranges.map {
      $0.lowerBound / Self.page..<$0.upperBound / Self.page
    }
  }

  @Test("runs that touch are one range, also when they do so only in whole pages of the device")
  func touching() throws {
    #expect(try ranges([]) == [])
    #expect(try ranges([1..<2, 2..<5, 6..<7]) == [1..<5, 6..<7])
    #expect(try ranges([1..<2, 2..<5, 6..<7], pageSize: 8192) == [0..<8])
    #expect(try ranges([1..<2, 8..<9], pageSize: 16384) == [0..<4, 8..<12])
    #expect(try ranges([1..<2, 7..<9], pageSize: 16384) == [0..<12])
  }

  @Test("the smallest gaps are closed until there are few enough, and of two alike the lower one")
  func merging() throws {
    let pages: [Range<UInt64>] = [0..<1, 10..<11, 13..<14, 1000..<1001, 1002..<1003, 1012..<1013]
    #expect(try ranges(pages, atMost: 6) == pages)
    #expect(try ranges(pages, atMost: 5) == [0..<1, 10..<11, 13..<14, 1000..<1003, 1012..<1013])
    #expect(try ranges(pages, atMost: 4) == [0..<1, 10..<14, 1000..<1003, 1012..<1013])
    #expect(try ranges(pages, atMost: 3) == [0..<14, 1000..<1003, 1012..<1013])
    #expect(try ranges(pages, atMost: 2) == [0..<14, 1000..<1013])
    #expect(try ranges(pages, atMost: 1) == [0..<1013])
    #expect(try ranges(pages, atMost: 0) == [0..<1013])
  }

  @Test("every run is watched whatever the page size and the limit, and nothing lies outside of the first and the last")
  func covering() throws {
    var random = SystemRandomNumberGenerator()
    for _ in 0..<200 {
      var pages: [Range<UInt64>] = []
      var next: UInt64 = 0
      for _ in 0..<Int.random(in: 1...40, using: &random) {
        let low = next + UInt64.random(in: 0...30, using: &random)
        next = low + UInt64.random(in: 1...30, using: &random)
        pages.append(low..<next)
      }
      let pageSize = Self.page << UInt64.random(in: 0...6, using: &random)
      let count = Int.random(in: 1...40, using: &random)
      let runs = try runs(pages)
      let watched = try WatchedRanges(covering: runs, pageSize: pageSize, atMost: count)
      #expect(watched.ranges.count <= count && watched.isAligned(to: pageSize))
      #expect(zip(watched.ranges, watched.ranges.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound })
      for run in runs { #expect(watched.covers(try #require(run.pages(of: pageSize)))) }
      #expect(watched.ranges.first?.lowerBound == runs.first?.pages(of: pageSize)?.lowerBound)
      #expect(watched.ranges.last?.upperBound == runs.last?.pages(of: pageSize)?.upperBound)
    }
  }

  @Test("what lies beyond the device's limits is refused, with the rest of its pages")
  func limits() throws {
    let runs = try runs([16..<20, 60..<64])
    func refused(_ limits: Range<UInt64>, pageSize: UInt64 = Self.page) -> TrackerError.Cause? {
      do throws(TrackerError) {
        _ = try WatchedRanges(
          covering: runs, pageSize: pageSize, within: limits.lowerBound * Self.page..<limits.upperBound * Self.page)
        return nil
      } catch {
        return error.cause
      }
    }
    #expect(refused(16..<64) == nil)
    #expect(refused(17..<64) == .beyondLimits(runs[0].addresses))
    #expect(refused(16..<63) == .beyondLimits(runs[1].addresses))
    #expect(refused(16..<64, pageSize: 65536) == nil)
    #expect(refused(16..<64, pageSize: 131072) == .beyondLimits(runs[0].addresses))
    let last = try MappedRun(0 &- 4 * Self.page..<0 &- Self.page, guest: 0)
    #expect(throws: TrackerError(.device, .start, .beyondLimits(last.addresses))) {
      try WatchedRanges(covering: [last], pageSize: 65536)
    }
  }
}
