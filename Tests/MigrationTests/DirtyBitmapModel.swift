// SPDX-License-Identifier: Apache-2.0
import Migration

/// Random numbers that a seed repeats.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var value = state
    value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
    value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
    return value ^ (value >> 31)
  }

  /// True once in so many times.
  mutating func once(in times: Int) -> Bool { Int.random(in: 0..<times, using: &self) == 0 }
}

/// What a ``DirtyBitmap`` should say: a plain list of pages and whether each is dirty, gone through page by page.
struct DirtyModel {
  struct Page: Hashable {
    /// The guest addresses that it has in its range.
    var bytes: Range<UInt64>
    /// The index of its range.
    var range: Int
    var isDirty = false
  }

  let ranges: [Range<UInt64>]
  let pageSize: UInt64
  var pages: [Page] = []

  init(_ ranges: [Range<UInt64>], pageSize: UInt64) {
    self.ranges = ranges
    self.pageSize = pageSize
    for (index, range) in ranges.enumerated() {
      var low = range.lowerBound
      while low < range.upperBound {
        let toNext = pageSize - low % pageSize
        let high = range.upperBound - low > toNext ? low + toNext : range.upperBound
        pages.append(Page(bytes: low..<high, range: index))
        low = high
      }
    }
  }

  var count: Int { pages.count { $0.isDirty } }

  /// Whether every one of these addresses is in a guest range.
  func covers(_ range: Range<UInt64>) -> Bool {
    var at = range.lowerBound
    for guest in ranges where guest.contains(at) { at = min(guest.upperBound, range.upperBound) }
    return at == range.upperBound
  }

  mutating func mark(_ range: Range<UInt64>) {
    for index in indices(touching: range) { pages[index].isDirty = true }
  }

  mutating func clear(_ range: Range<UInt64>) {
    for index in indices(touching: range)
    where range.lowerBound <= pages[index].bytes.lowerBound && pages[index].bytes.upperBound <= range.upperBound {
      pages[index].isDirty = false
    }
  }

  func indices(touching range: Range<UInt64>) -> [Int] {
    // The first page that ends after the beginning, as the pages are in order.
    var low = 0
    var high = pages.count
    while low < high {
      let middle = (low + high) / 2
      if pages[middle].bytes.upperBound > range.lowerBound { high = middle } else { low = middle + 1 }
    }
    var found: [Int] = []
    while low < pages.count, pages[low].bytes.overlaps(range) {
      found.append(low)
      low += 1
    }
    return found
  }

  func runs(_ indices: some Sequence<Int>) -> [Range<UInt64>] {
    var runs: [Range<UInt64>] = []
    var previous: Int?
    for index in indices where pages[index].isDirty {
      if let last = previous, last == index - 1, pages[last].range == pages[index].range {
        runs[runs.count - 1] = runs[runs.count - 1].lowerBound..<pages[index].bytes.upperBound
      } else {
        runs.append(pages[index].bytes)
      }
      previous = index
    }
    return runs
  }

  mutating func union(_ other: DirtyModel) {
    for page in other.pages where page.isDirty { mark(page.bytes) }
  }

  /// Bit by bit: every byte range that a set bit stands for, as far as it is among the addresses.
  mutating func union(_ words: [UInt64], _ answer: DirtyAnswer) {
    for bit in 0..<words.count * 64 where words[bit / 64] >> UInt64(bit % 64) & 1 == 1 {
      let (offset, tooFar) = UInt64(bit).multipliedReportingOverflow(by: answer.pageSize)
      let (low, beyond) = answer.base.addingReportingOverflow(offset)
      if tooFar || beyond { continue }
      let (sum, endsBeyond) = low.addingReportingOverflow(answer.pageSize)
      let bytes = (low..<(endsBeyond ? .max : sum)).clamped(to: answer.addresses)
      if bytes.isEmpty { continue }
      let begin = answer.guest + (bytes.lowerBound - answer.addresses.lowerBound)
      mark(begin..<begin + UInt64(bytes.count))
    }
  }
}
