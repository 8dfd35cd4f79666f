// SPDX-License-Identifier: Apache-2.0

/// A page table as the VMM moves it: runs of pages that are mapped one after the other, three words each: the first page,
/// how many, and where the first one leads.
///
/// Dirty bits are not in it. Whoever moves a guest has read them, or the destination's begin clean.
extension IOMMU {
  /// Words of a run.
  private static let runWords = 3

  /// The runs of a domain, in the order of their pages.
  func mappings(of domain: Int) -> [UInt64] {
    let entries = entries(of: domain)
    var words: [UInt64] = []
    var page = 0
    while page < entries.count {
      let first = entries[page]
      let start = page
      page += 1
      guard first != 0 else { continue }
      while page < entries.count, entries[page] == first + UInt64(page - start) << Self.targetShift { page += 1 }
      words += [UInt64(start), UInt64(page - start), first]
    }
    return words
  }

  /// Maps what those runs say, and nothing else. - Returns: false where they can't be those of a guest with so many pages,
  /// in a machine with those nodes; nothing has changed then.
  mutating func load(_ words: ArraySlice<UInt64>, of domain: Int, guestPages: Int, nodes: Int) -> Bool {
    var entries = [UInt64](repeating: 0, count: pages(of: domain))
    guard words.count % Self.runWords == 0 else { return false }
    var next = 0
    for place in stride(from: words.startIndex, to: words.endIndex, by: Self.runWords) {
      guard let start = Int(exactly: words[place]), let count = Int(exactly: words[place + 1]), start >= next,
        count > 0,
        start <= entries.count, count <= entries.count - start, let target = Self.decoded(words[place + 2])
      else { return false }
      switch target {
      case .memory(let page):
        guard page <= guestPages, count <= guestPages - page else { return false }
      case .peer(let node, let page):
        guard node < nodes, page < 1 << 40 else { return false }
      }
      for offset in 0..<count {
        entries[start + offset] = words[place + 2] + UInt64(offset) << Self.targetShift
      }
      next = start + count
    }
    setEntries(entries, of: domain)
    return true
  }
}
