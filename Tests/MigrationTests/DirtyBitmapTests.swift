// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@Suite("Dirty pages")
struct DirtyBitmapTests {
  static let page: UInt64 = 4096

  private func runs(_ bitmap: borrowing DirtyBitmap<PrivateWords>) -> [Range<UInt64>] {
    var runs: [Range<UInt64>] = []
    bitmap.forEachRun {
      runs.append($0)
      return true
    }
    return runs
  }

  @Test("the layout is the one that is written down: whole words for each range, pages aligned")
  func layout() throws {
    let ranges: [Range<UInt64>] = [0..<0xa0000, 0x10_0000..<0x8000_0000, 1 << 32..<1 << 40]
    let small = try DirtyLayout(ranges: ranges, pageSize: 4096)
    #expect(small.parts.map(\.firstWord) == [0, 3, 3 + 8188])
    #expect(small.parts.map(\.pages) == [160, 524_032, 267_386_880])
    #expect(small.wordCount == 3 + 8188 + 4_177_920)
    // Both ranges below 4 GiB have a bit of their own for the first huge page.
    let huge = try DirtyLayout(ranges: ranges, pageSize: 1 << 30)
    #expect(huge.parts.map(\.pages) == [1, 2, 1020])
    #expect(huge.parts.map(\.firstWord) == [0, 1, 2])
    #expect(huge.wordCount == 18)
  }

  @Test("a layout that can't be is refused")
  func refusedLayouts() {
    let page = Self.page
    func refusal(_ ranges: [Range<UInt64>], _ pageSize: UInt64) -> DirtyBitmapError? {
      do throws(DirtyBitmapError) {
        _ = try DirtyLayout(ranges: ranges, pageSize: pageSize)
        return nil
      } catch {
        return error
      }
    }
    for size: UInt64 in [0, 1, 2048, 4097, 12288, 1 << 31, 1 << 63, .max] {
      #expect(refusal([0..<page], size) == .pageSize(size))
    }
    #expect(refusal([], page) == .rangeCount(0))
    let many = (0...UInt64(DirtyLayout.maximumRanges)).map { $0 * page..<($0 + 1) * page }
    #expect(refusal(many, page) == .rangeCount(4097))
    #expect(refusal(Array(many.dropLast()), page) == nil)
    #expect(refusal([page..<page], page) == .range(page..<page))
    #expect(refusal([1..<page], page) == .range(1..<page))
    #expect(refusal([0..<UInt64.max], page) == .range(0..<UInt64.max))
    #expect(refusal([page..<2 * page, 0..<page], page) == .order(0..<page))
    #expect(refusal([0..<2 * page, page..<3 * page], page) == .order(page..<3 * page))
    #expect(refusal([0..<1 << 48], page) == nil)
    #expect(refusal([0..<1 << 48, 1 << 48..<1 << 48 + page], page) == .tooManyPages)
    #expect(refusal([0..<0 &- page], page) == .tooManyPages)
    #expect(refusal([0..<0 &- page], 1 << 30) == nil)
  }

  @Test("pages of a guest that reaches up to the last page of 64 bits are told by their addresses")
  func lastPage() throws {
    let end = 0 &- Self.page
    for pageSize: UInt64 in [4096, 2 << 20, 1 << 30] {
      var bitmap = DirtyBitmap(layout: try DirtyLayout(ranges: [end - (3 << 30)..<end], pageSize: pageSize))
      try bitmap.mark(end - 1)
      #expect(runs(bitmap) == [max((end - 1) & ~(pageSize - 1), end - (3 << 30))..<end])
      #expect(throws: DirtyBitmapError.outside(end..<end + 1)) { try bitmap.mark(end) }
      #expect(throws: DirtyBitmapError.self) { try bitmap.mark(UInt64.max) }
      bitmap.markAll()
      #expect(runs(bitmap) == [end - (3 << 30)..<end])
    }
  }

  @Test("an answer near the end of 64 bits, or one that is too short, is refused and changes nothing")
  func refusedAnswers() throws {
    let page = Self.page
    var bitmap = DirtyBitmap(layout: try DirtyLayout(ranges: [0..<1 << 20], pageSize: page))
    let ones: [UInt64] = [.max, .max]
    func refusal(_ answer: DirtyAnswer) -> DirtyBitmapError? {
      do throws(DirtyBitmapError) {
        try bitmap.union(ones.span, answer)
        return nil
      } catch {
        return error
      }
    }
    let whole = page..<page + 128 * page
    let tooLong = page..<page + 128 * page + 1
    let end = UInt64.max - 10..<UInt64.max
    #expect(refusal(DirtyAnswer(base: page, pageSize: 3 * page, addresses: whole, guest: 0)) == .pageSize(3 * page))
    #expect(refusal(DirtyAnswer(base: page, pageSize: 0, addresses: whole, guest: 0)) == .pageSize(0))
    #expect(refusal(DirtyAnswer(base: page, pageSize: page, addresses: tooLong, guest: 0)) == .notInAnswer(tooLong))
    #expect(refusal(DirtyAnswer(base: 2 * page, pageSize: page, addresses: whole, guest: 0)) == .notInAnswer(whole))
    #expect(refusal(DirtyAnswer(base: 0, pageSize: page, addresses: end, guest: 0)) == .notInAnswer(end))
    #expect(
      refusal(DirtyAnswer(base: page, pageSize: page, addresses: whole, guest: .max - page))
        == .overflow(whole, guest: .max - page))
    #expect(
      refusal(DirtyAnswer(base: page, pageSize: page, addresses: whole, guest: 200 * page))
        == .outside(200 * page..<328 * page))
    #expect(bitmap.count == 0)
    // One bit for half of the addresses that there are.
    #expect(refusal(DirtyAnswer(base: 0, pageSize: 1 << 63, addresses: end, guest: 8 * page - 3)) == nil)
    #expect(runs(bitmap) == [7 * page..<9 * page])
    bitmap.clearAll()
    #expect(refusal(DirtyAnswer(base: page, pageSize: page, addresses: whole, guest: page)) == nil)
    #expect(runs(bitmap) == [whole])
  }

  @Test("bitmaps of different layouts are not mixed up")
  func differentLayouts() throws {
    let page = Self.page
    var one = DirtyBitmap(layout: try DirtyLayout(ranges: [0..<64 * page], pageSize: page))
    var shifted = DirtyBitmap(layout: try DirtyLayout(ranges: [page..<65 * page], pageSize: page))
    var coarse = DirtyBitmap(layout: try DirtyLayout(ranges: [0..<64 * page], pageSize: 2 * page))
    one.markAll()
    #expect(throws: DirtyBitmapError.differentLayout) { try shifted.union(one) }
    #expect(throws: DirtyBitmapError.differentLayout) { try one.takeAll(into: &coarse) }
    #expect(throws: DirtyBitmapError.differentLayout) { try one.take(0..<page, into: &shifted) }
    #expect(shifted.count == 0 && coarse.count == 0 && one.count == 64)
  }

  @Test("what another process left in the bits that belong to no page is never seen")
  func strayBits() throws {
    let page = Self.page
    let layout = try DirtyLayout(ranges: [0..<3 * page, 8 * page..<73 * page], pageSize: page)
    var words = PrivateWords(count: layout.wordCount)
    words.withMutableWords { words in
      for index in words.indices { words[index] = .max }
    }
    let bitmap = try DirtyBitmap(layout: layout, words: words)
    #expect(bitmap.count == 68)
    #expect(runs(bitmap) == [0..<3 * page, 8 * page..<73 * page])
    var sum = DirtyBitmap(layout: layout)
    try sum.union(bitmap)
    #expect(sum.count == 68)
    let coarse = try bitmap.converted(pageSize: 2 * page, words: PrivateWords(count: 2))
    #expect(coarse.count == 2 + 33)
  }

  @Test("a page that is cleared in part stays dirty, a page at the edge of its range is cleared with what it has")
  func clearing() throws {
    let page = Self.page
    var bitmap = DirtyBitmap(layout: try DirtyLayout(ranges: [page..<63 * page], pageSize: 16 * page))
    bitmap.markAll()
    try bitmap.clear(page..<16 * page)
    #expect(runs(bitmap) == [16 * page..<63 * page])
    try bitmap.clear(17 * page..<47 * page)
    #expect(bitmap.count == 3)
    try bitmap.clear(48 * page..<63 * page)
    #expect(runs(bitmap) == [16 * page..<48 * page])
  }

  @Test("who wants no more runs is not asked again, not for the next guest range either")
  func ending() throws {
    let page = Self.page
    var bitmap = DirtyBitmap(layout: try DirtyLayout(ranges: [0..<64 * page, 64 * page..<128 * page], pageSize: page))
    bitmap.markAll()
    var asked: [Range<UInt64>] = []
    func refuse(_ run: Range<UInt64>) -> Bool {
      asked.append(run)
      return false
    }
    bitmap.forEachRun(refuse)
    try bitmap.forEachRun(in: page..<128 * page, refuse)
    try bitmap.takeRuns(in: page..<128 * page, refuse)
    #expect(asked == [0..<64 * page, page..<64 * page, page..<64 * page])
    #expect(bitmap.count == 128)
  }
}
