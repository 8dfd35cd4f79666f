// SPDX-License-Identifier: Apache-2.0
// Words as a row of bits: bit i is bit i % 64 of word i / 64. Every function here trusts its caller that the bits exist;
// one that doesn't traps. The loops check what they index before they begin, so that the compiler can make vectors of them.

/// The bits of one word from one up to another: 0 <= low < high <= 64.
@inlinable @inline(__always)
func mask(_ low: Int, _ high: Int) -> UInt64 {
  (UInt64.max &<< UInt64(truncatingIfNeeded: low)) & (UInt64.max &>> UInt64(truncatingIfNeeded: 64 &- high))
}

/// Where a row of bits lies in words: a first and a last word, of each a part, and all of the words between.
@usableFromInline
struct BitPlace {
  @usableFromInline let first: Int
  @usableFromInline let last: Int
  @usableFromInline let firstMask: UInt64
  @usableFromInline let lastMask: UInt64

  /// - Parameter bits: at least one. Where all are in one word, both masks are the same.
  @inlinable @inline(__always)
  init(_ bits: Range<Int>) {
    first = bits.lowerBound &>> 6
    last = (bits.upperBound &- 1) &>> 6
    let low = bits.lowerBound & 63
    let high = ((bits.upperBound &- 1) & 63) &+ 1
    firstMask = first == last ? mask(low, high) : mask(low, 64)
    lastMask = first == last ? firstMask : mask(0, high)
  }

  /// The words between the first and the last, of which every bit is meant.
  @inlinable
  var middle: Range<Int> { first == last ? first..<first : first + 1..<last }
}

extension MutableSpan<UInt64> {
  /// Makes these bits 1.
  mutating func set(_ bits: Range<Int>) {
    if bits.isEmpty { return }
    let place = BitPlace(bits)
    self[place.first] |= place.firstMask
    if place.first == place.last { return }
    fill(place.middle, with: .max)
    self[place.last] |= place.lastMask
  }

  /// Makes these bits 0.
  @usableFromInline
  mutating func clear(_ bits: Range<Int>) {
    if bits.isEmpty { return }
    let place = BitPlace(bits)
    self[place.first] &= ~place.firstMask
    if place.first == place.last { return }
    fill(place.middle, with: 0)
    self[place.last] &= ~place.lastMask
  }

  private mutating func fill(_ words: Range<Int>, with value: UInt64) {
    precondition(words.lowerBound >= 0 && words.upperBound <= count)
    for index in words { self[index] = value }
  }

  /// Adds all words of another row that is as long as this one.
  mutating func union(_ other: Span<UInt64>) {
    precondition(other.count == count)
    for index in other.indices { self[index] |= other[index] }
  }

  /// Adds as many bits of another row, from `start` on: the bit at `start` there is the first of `bits` here.
  mutating func union(_ bits: Range<Int>, _ other: Span<UInt64>, from start: Int) {
    if bits.isEmpty { return }
    let place = BitPlace(bits)
    // How far the other row is ahead, in words and then in bits. May be negative by less than a word at the very first.
    let ahead = start - (bits.lowerBound & 63)
    let words = ahead >> 6
    let shift = UInt64(ahead & 63)
    let end = start + bits.count
    self[place.first] |= place.firstMask & other.word(at: words, shift: shift, end: end)
    if place.first == place.last { return }
    let middle = place.middle
    let count = middle.count
    precondition(middle.lowerBound >= 0 && middle.upperBound <= self.count)
    let low = other.extracting(words + 1..<words + 1 + count)
    if shift == 0 {
      for index in 0..<count { self[middle.lowerBound &+ index] |= low[index] }
    } else {
      let high = other.extracting(words + 2..<words + 2 + count)
      for index in 0..<count {
        self[middle.lowerBound &+ index] |= low[index] &>> shift | high[index] &<< (64 &- shift)
      }
    }
    self[place.last] |= place.lastMask & other.word(at: words + 1 + count, shift: shift, end: end)
  }

  /// Adds these bits to another row at the same place, and makes them 0 here.
  mutating func move(_ bits: Range<Int>, to other: inout MutableSpan<UInt64>) {
    if bits.isEmpty { return }
    let place = BitPlace(bits)
    other[place.first] |= self[place.first] & place.firstMask
    self[place.first] &= ~place.firstMask
    if place.first == place.last { return }
    let middle = place.middle
    precondition(middle.lowerBound >= 0 && middle.upperBound <= min(count, other.count))
    for index in middle {
      other[index] |= self[index]
      self[index] = 0
    }
    other[place.last] |= self[place.last] & place.lastMask
    self[place.last] &= ~place.lastMask
  }
}

extension Span<UInt64> {
  /// 64 bits from bit `shift` of a word on. Words that lie outside the bits that are meant are not read.
  fileprivate func word(at index: Int, shift: UInt64, end: Int) -> UInt64 {
    var word: UInt64 = index < 0 ? 0 : self[index] &>> shift
    if shift != 0, (index + 1) << 6 < end { word |= self[index + 1] &<< (64 &- shift) }
    return word
  }

  /// How many of these bits are 1.
  func ones(_ bits: Range<Int>) -> Int {
    if bits.isEmpty { return 0 }
    let place = BitPlace(bits)
    var ones = (self[place.first] & place.firstMask).nonzeroBitCount
    if place.first == place.last { return ones }
    let middle = extracting(place.middle)
    // Can't overflow: the bits are numbered by Int.
    for index in middle.indices { ones &+= middle[index].nonzeroBitCount }
    ones &+= (self[place.last] & place.lastMask).nonzeroBitCount
    return ones
  }

  /// Calls for every row of ones among these bits that is as long as can be, in ascending order, until it is told to end.
  ///
  /// - Parameter body: gets where the run begins and where it ends, and says whether to go on. Always inlined, so that nothing is called for a run but what the caller does with it.
  /// - Returns: whether it came to the end.
  @inlinable @inline(__always)
  func forEachRun(_ bits: Range<Int>, _ body: (_ low: Int, _ high: Int) -> Bool) -> Bool {
    if bits.isEmpty { return true }
    let place = BitPlace(bits)
    let last = place.last
    precondition(place.first >= 0 && place.first <= last && last < count)
    var index = place.first
    // What is still to be looked at of the word at the index.
    var word = self[index] & place.firstMask
    while true {
      if word == 0 {
        if index >= last { return true }
        index = skip(0, from: index &+ 1, to: last)
        word = self[index]
        if index == last { word &= place.lastMask }
        continue
      }
      let low = index &<< 6 &+ word.trailingZeroBitCount
      // The same with ones below the run; what is then 0 comes after it.
      let filled = word | (word &- 1)
      if filled != .max {
        if !body(low, index &<< 6 &+ (~filled).trailingZeroBitCount) { return false }
        word &= filled &+ 1
        continue
      }
      // The run goes on in the next word.
      if index >= last { return body(low, bits.upperBound) }
      index = skip(.max, from: index &+ 1, to: last)
      word = self[index]
      if index == last { word &= place.lastMask }
      if word == .max { return body(low, bits.upperBound) }
      if !body(low, index &<< 6 &+ (~word).trailingZeroBitCount) { return false }
      word &= word &+ 1
    }
  }

  /// The first word that has another value, or `last`: 0 <= index <= last < count.
  @inlinable @inline(__always)
  func skip(_ value: UInt64, from start: Int, to last: Int) -> Int {
    var index = start
    while index < last, self[index] == value { index &+= 1 }
    return index
  }
}
