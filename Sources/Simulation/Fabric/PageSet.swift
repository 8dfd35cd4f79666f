// SPDX-License-Identifier: Apache-2.0

/// A set of small numbers (pages, or records of an image) as bits, in two levels: to go through it costs by what is in it, and
/// for what is not there a step for every 4,096 numbers.
struct PageSet: Hashable, Sendable {
  private var bits: [UInt64]
  /// Which words of `bits` are not zero.
  private var summary: [UInt64]
  /// The numbers that it can hold are those below.
  let capacity: Int
  /// How many are in it.
  private(set) var count = 0

  /// An empty set.
  init(capacity: Int) {
    self.capacity = capacity
    bits = Array(repeating: 0, count: (capacity + 63) / 64)
    summary = Array(repeating: 0, count: (bits.count + 63) / 64)
  }

  var isEmpty: Bool { count == 0 }

  func contains(_ number: Int) -> Bool { bits[number >> 6] >> UInt64(number & 63) & 1 == 1 }

  mutating func insert(_ number: Int) {
    precondition(number < capacity)
    let bit: UInt64 = 1 << UInt64(number & 63)
    guard bits[number >> 6] & bit == 0 else { return }
    bits[number >> 6] |= bit
    summary[number >> 12] |= 1 << UInt64(number >> 6 & 63)
    count += 1
  }

  mutating func insert(_ range: Range<Int>) {
    guard !range.isEmpty else { return }
    precondition(range.upperBound <= capacity)
    let (first, last) = (range.lowerBound >> 6, (range.upperBound - 1) >> 6)
    for word in first...last {
      var mask = UInt64.max
      if word == first { mask &= .max << UInt64(range.lowerBound & 63) }
      if word == last { mask &= .max >> UInt64(63 - (range.upperBound - 1) & 63) }
      insert(mask, word: word)
    }
  }

  private mutating func insert(_ mask: UInt64, word: Int) {
    count += (mask & ~bits[word]).nonzeroBitCount
    bits[word] |= mask
    summary[word >> 6] |= 1 << UInt64(word & 63)
  }

  mutating func remove(_ number: Int) {
    let bit: UInt64 = 1 << UInt64(number & 63)
    guard bits[number >> 6] & bit != 0 else { return }
    bits[number >> 6] &= ~bit
    if bits[number >> 6] == 0 { summary[number >> 12] &= ~(1 << UInt64(number >> 6 & 63)) }
    count -= 1
  }

  mutating func remove(_ range: Range<Int>) {
    var next = first(from: range.lowerBound)
    while let number = next, number < range.upperBound {
      remove(number)
      next = first(from: number + 1)
    }
  }

  /// The least number in it that is not below this one.
  func first(from start: Int) -> Int? {
    guard count > 0, start < capacity else { return nil }
    let here = bits[start >> 6] >> UInt64(start & 63)
    if here != 0 { return start + here.trailingZeroBitCount }
    var word = start >> 6 + 1
    var group = word >> 6
    while group < summary.count {
      let left = summary[group] & (.max << UInt64(word & 63))
      if left != 0 {
        word = group << 6 + left.trailingZeroBitCount
        return word << 6 + bits[word].trailingZeroBitCount
      }
      group += 1
      word = group << 6
    }
    return nil
  }

  /// Takes out the least number that is not below this one.
  mutating func takeFirst(from start: Int = 0) -> Int? {
    guard let number = first(from: start) else { return nil }
    remove(number)
    return number
  }

  mutating func formUnion(_ other: PageSet) {
    for group in other.summary.indices {
      var left = other.summary[group]
      while left != 0 {
        let word = group << 6 + left.trailingZeroBitCount
        insert(other.bits[word], word: word)
        left &= left - 1
      }
    }
  }

  mutating func removeAll() {
    for group in summary.indices where summary[group] != 0 {
      for word in group << 6..<Swift.min(group << 6 + 64, bits.count) { bits[word] = 0 }
      summary[group] = 0
    }
    count = 0
  }
}

/// From the least to the greatest.
extension PageSet: Sequence {
  struct Iterator: IteratorProtocol {
    fileprivate let set: PageSet
    fileprivate var position = 0

    mutating func next() -> Int? {
      guard let number = set.first(from: position) else { return nil }
      position = number + 1
      return number
    }
  }

  func makeIterator() -> Iterator { Iterator(set: self) }
  var underestimatedCount: Int { count }
}
