// SPDX-License-Identifier: Apache-2.0

/// A page of simulated memory: 4,096 bytes of addresses, of which the first eight words carry content.
///
/// That is what keeps a guest of many GiB small. Whatever moves words to or from memory goes by ``wordIndex(_:)``, so that
/// how a byte address and a run of words become pages is written down here and nowhere else.
struct Page: Hashable, Sendable {
  /// Bytes of addresses.
  static let bytes: UInt64 = 4096
  /// Words that carry content.
  static let words = 8

  /// The content.
  var content: SIMD8<UInt64>

  /// A page of zeros.
  static let empty = Page(content: .zero)

  /// A digest of the content.
  var digest: UInt64 {
    var digest = RunDigest()
    for index in 0..<Page.words { digest.add(content[index]) }
    return digest.value
  }

  /// The number of the page that a byte address is in.
  static func number(_ address: UInt64) -> Int { Int(address / bytes) }

  /// The byte address at which a page begins.
  static func address(_ number: Int) -> UInt64 { UInt64(number) * bytes }

  /// The place of a byte address in the run of all content words; nil where the address carries none.
  static func wordIndex(_ address: UInt64) -> Int? {
    let offset = address % bytes
    guard offset % 8 == 0, offset < UInt64(8 * words) else { return nil }
    return number(address) * words + Int(offset / 8)
  }

  /// The byte address of a word in the run of all content words.
  static func address(ofWord index: Int) -> UInt64 { address(index / words) + UInt64(index % words) * 8 }
}

/// Memory with content: a guest's, or what lies behind a device's BAR.
///
/// A run of words that starts at a byte address goes on over the content words of the following pages.
struct PagedMemory: Hashable, Sendable {
  private(set) var words: [UInt64]

  /// Zeros.
  init(pages: Int) { words = Array(repeating: 0, count: pages * Page.words) }

  /// How many pages there are.
  var pages: Int { words.count / Page.words }

  /// Where a run of that many words lies; nil where a part of it is not there.
  func range(_ address: UInt64, _ count: Int) -> Range<Int>? {
    guard let start = Page.wordIndex(address), start < words.count, count >= 0, count <= words.count - start else {
      return nil
    }
    return start..<start + count
  }

  /// One word; nil where there is none.
  func word(_ address: UInt64) -> UInt64? {
    guard let index = Page.wordIndex(address), index < words.count else { return nil }
    return words[index]
  }

  /// A run of words; nil where a part of it is not there.
  func read(_ address: UInt64, _ count: Int) -> [UInt64]? {
    range(address, count).map { Array(words[$0]) }
  }

  /// One word by its place in the run of all; the place must be there.
  subscript(index: Int) -> UInt64 {
    get { words[index] }
    set { words[index] = newValue }
  }

  /// The content of a page, which must be there.
  subscript(page number: Int) -> Page {
    get {
      let start = number * Page.words
      var content = SIMD8<UInt64>.zero
      for index in 0..<Page.words { content[index] = words[start + index] }
      return Page(content: content)
    }
    set {
      let start = number * Page.words
      for index in 0..<Page.words { words[start + index] = newValue.content[index] }
    }
  }

  /// A digest of everything. It takes time by the number of pages: for the end of a run.
  var digest: UInt64 {
    var digest = RunDigest()
    for word in words { digest.add(word) }
    return digest.value
  }
}
