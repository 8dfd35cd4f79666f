// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

/// A bitmap and its model, and another pair to unite with and to take into.
private struct Pair: ~Copyable {
  var bitmap: DirtyBitmap<PrivateWords>
  var model: DirtyModel

  init(_ ranges: [Range<UInt64>], pageSize: UInt64) throws {
    bitmap = DirtyBitmap(layout: try DirtyLayout(ranges: ranges, pageSize: pageSize))
    model = DirtyModel(ranges, pageSize: pageSize)
  }

  func runs() -> [Range<UInt64>] {
    var runs: [Range<UInt64>] = []
    bitmap.forEachRun {
      runs.append($0)
      return true
    }
    return runs
  }

  func check(_ what: Comment) {
    #expect(runs() == model.runs(model.pages.indices), what)
    #expect(bitmap.count == model.count, what)
  }
}

/// Random operations on both.
private struct DirtyWalk: ~Copyable {
  var random: SplitMix
  var one: Pair
  var other: Pair
  /// The same ranges with another page size.
  var foreign: Pair
  let ranges: [Range<UInt64>]
  let pageSize: UInt64

  static let pageSizes: [UInt64] = [4 << 10, 8 << 10, 64 << 10, 2 << 20, 1 << 30]

  init(seed: UInt64) throws {
    var random = SplitMix(state: seed)
    let pageSize = Self.pageSizes[random.once(in: 8) ? 3 : Int.random(in: 0..<3, using: &random)]
    let unit = DirtyLayout.unit
    func pages(_ most: UInt64) -> UInt64 { UInt64.random(in: 1...most, using: &random) * unit }
    var ranges = [0..<pages(160)]
    if random.once(in: 2) {
      let begin = ranges[0].upperBound
      ranges.append(begin..<begin + pages(70))
    }
    for base: UInt64 in [1 << 20, 4 << 30, 1 << 40] where !random.once(in: 4) {
      let begin = base + pages(100)
      ranges.append(begin..<begin + pages(300))
      if random.once(in: 2) {
        let next = ranges.last!.upperBound + pages(3)
        ranges.append(next..<next + pages(80))
      }
    }
    let last = 0 &- unit
    ranges.append(last - pages(200)..<last)
    let one = try Pair(ranges, pageSize: pageSize)
    let other = try Pair(ranges, pageSize: pageSize)
    let foreign = try Pair(ranges, pageSize: Self.pageSizes.randomElement(using: &random)!)
    self.one = one
    self.other = other
    self.foreign = foreign
    self.ranges = ranges
    self.pageSize = pageSize
    self.random = random
  }

  /// Addresses mostly in one range, at times over its borders.
  mutating func someAddresses() -> Range<UInt64> {
    let guest = ranges.randomElement(using: &random)!
    var low = UInt64.random(in: guest, using: &random)
    var high =
      random.once(in: 3)
      ? UInt64.random(in: low...guest.upperBound, using: &random)
      : low + min(guest.upperBound - low, UInt64.random(in: 0...9 * DirtyLayout.unit, using: &random))
    if random.once(in: 8) { low = guest.lowerBound }
    if random.once(in: 8) { high = guest.upperBound }
    if random.once(in: 40) { high += min(.max - high, UInt64.random(in: 1...80 * DirtyLayout.unit, using: &random)) }
    if random.once(in: 40) { low -= min(low, UInt64.random(in: 1...80 * DirtyLayout.unit, using: &random)) }
    return low..<high
  }

  mutating func answer(for guest: Range<UInt64>) -> ([UInt64], DirtyAnswer) {
    let page: UInt64 = random.once(in: 2) ? pageSize : 1 << UInt64.random(in: 11...20, using: &random)
    let start = UInt64.random(in: 0...1 << 41, using: &random) & (random.once(in: 2) ? ~(page - 1) : ~0)
    // Half of the time so that pages fall on pages.
    let before =
      (UInt64.random(in: 0...200, using: &random) &* page)
      &+ (random.once(in: 2) ? guest.lowerBound % page : UInt64.random(in: 0..<page, using: &random))
    let atEnd = random.once(in: 10)
    let length = guest.upperBound - guest.lowerBound
    let base = atEnd ? UInt64.max - length - before : start
    let low = base + before
    let bits = Int((before + length) / page) + 1
    let words = (0..<bits / 64 + 1).map { _ in
      let sparse = random.next() & random.next() & random.next()
      return [0, UInt64.max, random.next(), sparse][Int.random(in: 0..<4, using: &random)]
    }
    return (words, DirtyAnswer(base: base, pageSize: page, addresses: low..<low + length, guest: guest.lowerBound))
  }

  mutating func step() throws {
    let range = someAddresses()
    let isInside = one.model.covers(range)
    do throws(DirtyBitmapError) {
      try change(range)
      #expect(isInside, "\(range) is not in \(ranges)")
    } catch {
      #expect(error == .outside(range) && !isInside, "\(error) for \(range) in \(ranges)")
    }
  }

  private mutating func change(_ range: Range<UInt64>) throws(DirtyBitmapError) {
    switch Int.random(in: 0..<32, using: &random) {
    case 0..<7:
      try one.bitmap.mark(range)
      one.model.mark(range)
    case 7..<10:
      if range.isEmpty { return }
      _ = try one.bitmap.count(in: range)
      try one.bitmap.mark(range.lowerBound)
      one.model.mark(range.lowerBound..<range.lowerBound + 1)
    case 10..<16:
      try one.bitmap.clear(range)
      one.model.clear(range)
    case 16..<18:
      try other.bitmap.mark(range)
      other.model.mark(range)
    case 18..<21:
      let count = try one.bitmap.count(in: range)
      #expect(count == one.model.indices(touching: range).count { one.model.pages[$0].isDirty })
    case 21..<23:
      var runs: [Range<UInt64>] = []
      try one.bitmap.forEachRun(in: range) {
        runs.append($0)
        return true
      }
      #expect(runs == one.model.runs(one.model.indices(touching: range)))
    case 23: try takeRuns(range)
    case 24..<26:
      try one.bitmap.take(range, into: &other.bitmap)
      for index in one.model.indices(touching: range) where one.model.pages[index].isDirty {
        one.model.pages[index].isDirty = false
        other.model.pages[index].isDirty = true
      }
    case 26..<30:
      if range.isEmpty { return }
      let (words, answer) = answer(for: range)
      try one.bitmap.union(words.span, answer)
      one.model.union(words, answer)
    default:
      // Seldom, because each goes through all pages.
      try foreign.bitmap.mark(range)
      foreign.model.mark(range)
      if random.once(in: 8) { try changeAll() }
    }
  }

  private mutating func takeRuns(_ range: Range<UInt64>) throws(DirtyBitmapError) {
    let expected = one.model.runs(one.model.indices(touching: range))
    let limit = random.once(in: 2) ? Int.max : Int.random(in: 0...3, using: &random)
    var runs: [Range<UInt64>] = []
    try one.bitmap.takeRuns(in: range) {
      if runs.count == limit { return false }
      runs.append($0)
      return true
    }
    #expect(runs == Array(expected.prefix(limit)))
    for run in runs { one.model.clear(run) }
  }

  private mutating func changeAll() throws(DirtyBitmapError) {
    switch Int.random(in: 0..<12, using: &random) {
    case 0:
      one.bitmap.clearAll()
      one.model = DirtyModel(ranges, pageSize: pageSize)
    case 1:
      one.bitmap.markAll()
      for range in ranges { one.model.mark(range) }
    case 2..<5:
      try one.bitmap.union(other.bitmap)
      one.model.union(other.model)
    case 5..<8:
      try one.bitmap.union(foreign.bitmap)
      one.model.union(foreign.model)
    case 8:
      try one.bitmap.takeAll(into: &other.bitmap)
      other.model.union(one.model)
      one.model = DirtyModel(ranges, pageSize: pageSize)
    case 9..<11:
      foreign.bitmap.clearAll()
      foreign.model = DirtyModel(ranges, pageSize: foreign.model.pageSize)
    default:
      let layout = try one.bitmap.layout.with(pageSize: foreign.model.pageSize)
      foreign.bitmap = try one.bitmap.converted(
        pageSize: layout.pageSize, words: PrivateWords(count: layout.wordCount))
      foreign.model = DirtyModel(ranges, pageSize: layout.pageSize)
      foreign.model.union(one.model)
    }
  }
}

@Suite("Dirty pages against a plain list of pages")
struct DirtyBitmapModelTests {
  static let operations = 1_000_000
  static let walks = 200

  @Test("random operations leave the bitmap as they leave the list", arguments: 0..<4)
  func random(quarter: Int) throws {
    for seed in quarter * Self.walks / 4..<(quarter + 1) * Self.walks / 4 {
      var walk = try DirtyWalk(seed: UInt64(seed))
      for step in 1...Self.operations / Self.walks {
        try walk.step()
        if step % 50 == 0 { walk.one.check("seed \(seed), step \(step)") }
      }
      walk.one.check("seed \(seed)")
      walk.other.check("seed \(seed), the other")
      walk.foreign.check("seed \(seed), the foreign one")
    }
  }
}
