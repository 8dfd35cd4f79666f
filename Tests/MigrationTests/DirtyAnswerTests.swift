// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

/// Words at an address, as those are that the kernel may write to.
@safe
private struct PlacedWords: ~Copyable, DirtyWords, @unchecked Sendable {
  private let memory: UnsafeMutableBufferPointer<UInt64>

  init(count: Int) {
    unsafe memory = UnsafeMutableBufferPointer.allocate(capacity: count)
    unsafe memory.initialize(repeating: 0)
  }

  deinit { unsafe memory.deallocate() }

  var count: Int { unsafe memory.count }
  var lockedAddress: UInt64? { unsafe UInt64(UInt(bitPattern: memory.baseAddress)) }

  borrowing func withWords<Result, Failure: Error>(
    _ body: (Span<UInt64>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try body(unsafe Span(_unsafeElements: UnsafeBufferPointer(memory)))
  }

  mutating func withMutableWords<Result, Failure: Error>(
    _ body: (inout MutableSpan<UInt64>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    var span = unsafe MutableSpan(_unsafeElements: memory)
    return try body(&span)
  }
}

@Suite("Answers that the kernel writes straight into a bitmap")
struct DirtyAnswerTests {
  static let page: UInt64 = 4096

  /// Sets bits as the kernel does: at the address.
  private static func set(_ bits: [UInt64], at address: UInt64) {
    let start = unsafe UnsafeMutablePointer<UInt64>(bitPattern: UInt(address))
    for (index, word) in bits.enumerated() { unsafe start?[index] |= word }
  }

  private static func pages<Words: DirtyWords & ~Copyable>(_ bitmap: borrowing DirtyBitmap<Words>) -> [Range<UInt64>] {
    var runs: [Range<UInt64>] = []
    bitmap.forEachRun {
      runs.append($0)
      return true
    }
    return runs
  }

  @Test("it does so just where every bit has its own place there, and the first begins a word")
  func places() throws {
    let page = Self.page
    // The first two touch, and the last begins in the middle of a large page.
    let ranges = [0..<160 * page, 160 * page..<512 * page, 1 << 32 + page..<1 << 32 + 512 * page]
    let layout = try DirtyLayout(ranges: ranges, pageSize: page)
    var bitmap = try DirtyBitmap(layout: layout, words: PlacedWords(count: layout.wordCount))
    var first: UInt64 = 0
    _ = bitmap.add(DirtyAnswer(base: 0, pageSize: page, addresses: 0..<page, guest: 0)) { address, _ in first = address
    }
    /// The word that bit 0 gets, and how many it takes; nil where the kernel is not called.
    func place(_ guest: UInt64, _ pages: UInt64, base: UInt64 = 0, pageSize: UInt64 = page) -> [UInt64]? {
      let answer = DirtyAnswer(
        base: 1 << 40, pageSize: pageSize, addresses: 1 << 40 + base..<1 << 40 + base + pages * page, guest: guest)
      var found: [UInt64]?
      let isAdded = bitmap.add(answer) { address, words in found = [(address - first) / 8, UInt64(words)] }
      #expect(isAdded == (found != nil))
      return found
    }
    #expect(place(0, 160) == [0, 3])
    #expect(place(64 * page, 1) == [1, 1])
    #expect(place(64 * page, 67) == [1, 2])
    #expect(place(160 * page, 352) == [3, 6])
    #expect(place(1 << 32 + page, 511) == [9, 8])
    #expect(place(1 << 32 + 65 * page, 64) == [10, 1])
    for guest in [1, 63, 65, 161, 192] { #expect(place(UInt64(guest) * page, 1) == nil, "page \(guest)") }
    #expect(place(0, 161) == nil, "two ranges")
    #expect(place(0, 0) == nil, "nothing")
    #expect(place(0, 16, base: page) == nil, "a part of an answer")
    #expect(place(0, 16, pageSize: 2 * page) == nil && place(0, 16, pageSize: page / 2) == nil, "other pages")
    #expect(place(512 * page, 1) == nil && place(448 * page, 65) == nil, "no guest memory")
    #expect(place(0 &- page, 1) == nil && place(0 &- page, 2) == nil, "beyond 64 bits")
    #expect(place(2048, 1) == nil, "pages that begin within the bitmap's")

    var unlocked = DirtyBitmap(layout: layout)
    let answer = DirtyAnswer(base: 0, pageSize: page, addresses: 0..<64 * page, guest: 0)
    #expect(!unlocked.add(answer) { _, _ in Issue.record("the words are not locked") })
  }

  @Test("a range that begins or ends within a large page is taken only in whole pages")
  func largePages() throws {
    let page = Self.page
    let large = 16 * page
    let layout = try DirtyLayout(ranges: [page..<1024 * large + page], pageSize: large)
    var bitmap = try DirtyBitmap(layout: layout, words: PlacedWords(count: layout.wordCount))
    func isAdded(_ guest: Range<UInt64>) -> Bool {
      let answer = DirtyAnswer(
        base: 0, pageSize: large, addresses: 0..<guest.upperBound - guest.lowerBound, guest: guest.lowerBound)
      return bitmap.add(answer) { _, _ in }
    }
    #expect(isAdded(64 * large..<128 * large))
    #expect(!isAdded(64 * large + page..<128 * large + page))
    #expect(!isAdded(64 * large..<128 * large + page))
    #expect(!isAdded(page..<64 * large))
  }

  @Test("what it has there then is what it would have by way of another memory, with all that was dirty before")
  func same() throws {
    var random = SplitMix(state: 11)
    var added = 0
    for _ in 0..<2000 {
      var at: UInt64 = 0
      let ranges = (0..<Int.random(in: 1...4, using: &random)).map { _ in
        at += UInt64.random(in: 0...70, using: &random) * Self.page
        let low = at
        at += UInt64.random(in: 1...400, using: &random) * Self.page
        return low..<at
      }
      let layout = try DirtyLayout(ranges: ranges, pageSize: Self.page)
      var direct = try DirtyBitmap(layout: layout, words: PlacedWords(count: layout.wordCount))
      var usual = DirtyBitmap(layout: layout)
      for _ in 0..<20 {
        let range = ranges.randomElement(using: &random)!
        let page = UInt64.random(in: 0..<(range.upperBound - range.lowerBound) / Self.page, using: &random)
        try direct.mark(range.lowerBound + page * Self.page)
        try usual.mark(range.lowerBound + page * Self.page)
      }
      let range = ranges.randomElement(using: &random)!
      let guest = range.lowerBound + 64 * Self.page * UInt64.random(in: 0...3, using: &random)
      if guest >= range.upperBound { continue }
      let pages = UInt64.random(in: 1...(range.upperBound - guest) / Self.page, using: &random)
      var bits = (0..<Int(pages + 63) / 64).map { _ in random.next() & random.next() }
      // The kernel sets none that it is not asked for.
      if pages % 64 != 0 { bits[bits.count - 1] &= UInt64.max >> (64 - pages % 64) }
      let answer = DirtyAnswer(
        base: 1 << 50, pageSize: Self.page, addresses: 1 << 50..<1 << 50 + pages * Self.page, guest: guest)
      if direct.add(
        answer,
        byKernel: { address, words in
          #expect(words == bits.count)
          Self.set(bits, at: address)
        })
      {
        added += 1
      } else {
        try direct.union(bits.span, answer)
      }
      try usual.union(bits.span, answer)
      #expect(Self.pages(direct) == Self.pages(usual))
    }
    #expect(added > 1000)
  }

  @Test("what was set before an error stays dirty, and so does all that was so before")
  func error() throws {
    let layout = try DirtyLayout(ranges: [0..<256 * Self.page], pageSize: Self.page)
    var bitmap = try DirtyBitmap(layout: layout, words: PlacedWords(count: layout.wordCount))
    try bitmap.mark(70 * Self.page)
    let answer = DirtyAnswer(base: 0, pageSize: Self.page, addresses: 0..<128 * Self.page, guest: 64 * Self.page)
    do throws(TrackerError) {
      _ = try bitmap.add(answer) { address, _ throws(TrackerError) in
        Self.set([1], at: address)
        throw TrackerError(.device, .read, .notTracking)
      }
      Issue.record("the error is gone")
    } catch {
      #expect(error.cause == .notTracking)
    }
    #expect(Self.pages(bitmap) == [64 * Self.page..<65 * Self.page, 70 * Self.page..<71 * Self.page])
  }
}
