// SPDX-License-Identifier: Apache-2.0

/// What stands between devices and memory: page tables that turn a device's addresses (IOVA) into guest pages or a peer's
/// BAR, and note what was written through them.
///
/// A dirty bit is in the table's entry, as in hardware: it goes when the entry goes, so whoever unmaps has to read first. A
/// write sets the bit at the moment at which it changes memory, neither earlier nor later.
struct IOMMU: Hashable, Sendable {
  /// Where a page of a device's addresses leads.
  enum Target: Hashable, Sendable {
    /// To a page of guest memory.
    case memory(page: Int)
    /// To a page behind the BAR of the function at that node.
    case peer(node: Int, page: Int)
  }

  /// One page table. The devices of a guest usually share one.
  private struct Domain: Hashable, Sendable {
    /// By IOVA page: 0 is not mapped; else a target, see ``IOMMU/encoded(_:)``.
    var entries: [UInt64]
    var dirty: PageSet
    var isTracking = false
  }

  private var domains: [Domain]
  /// The domain of each node's function; -1 is none, and then all is blocked.
  private var domainOfNode: [Int]
  /// Accesses by each node's function to what is not mapped, or not memory.
  private(set) var faults: [Int]

  /// - Parameters:
  ///   - domains: how many page tables.
  ///   - pages: the size of each, in IOVA pages.
  ///   - nodes: how many nodes the fabric has.
  init(domains: Int, pages: Int, nodes: Int) {
    let empty = Domain(entries: Array(repeating: 0, count: pages), dirty: PageSet(capacity: pages))
    self.domains = Array(repeating: empty, count: domains)
    domainOfNode = Array(repeating: -1, count: nodes)
    faults = Array(repeating: 0, count: nodes)
  }

  /// A function uses a page table from now on; nil blocks it.
  mutating func attach(node: Int, to domain: Int?) { domainOfNode[node] = domain ?? -1 }

  /// Which page table a function uses.
  func domain(of node: Int) -> Int? { domainOfNode[node] < 0 ? nil : domainOfNode[node] }

  // MARK: Mapping

  /// Maps pages to those that follow one after the other from a target on; what was mapped there is gone, bits and all.
  mutating func map(_ pages: Range<Int>, to target: Target, in domain: Int) {
    domains[domain].dirty.remove(pages)
    for (offset, page) in pages.enumerated() {
      domains[domain].entries[page] =
        switch target {
        case .memory(let first): Self.encoded(.memory(page: first + offset))
        case .peer(let node, let first): Self.encoded(.peer(node: node, page: first + offset))
        }
    }
  }

  /// Unmaps pages. Their dirty bits are lost.
  mutating func unmap(_ pages: Range<Int>, in domain: Int) {
    domains[domain].dirty.remove(pages)
    for page in pages { domains[domain].entries[page] = 0 }
  }

  /// Where a page of a domain leads; nil where to nothing.
  func target(_ page: Int, in domain: Int) -> Target? {
    guard page < domains[domain].entries.count else { return nil }
    return Self.decoded(domains[domain].entries[page])
  }

  /// How many pages a domain has, mapped or not.
  func pages(of domain: Int) -> Int { domains[domain].entries.count }

  /// The entries of a domain, by page: 0 is not mapped; else a target.
  func entries(of domain: Int) -> [UInt64] { domains[domain].entries }

  /// Replaces all entries of a domain; their dirty bits are lost.
  mutating func setEntries(_ entries: [UInt64], of domain: Int) {
    domains[domain].entries = entries
    domains[domain].dirty.removeAll()
  }

  /// The bit of an entry at which the number of the page begins.
  static let targetShift: UInt64 = 20

  private static func encoded(_ target: Target) -> UInt64 {
    switch target {
    case .memory(let page): UInt64(page) << targetShift | 1
    case .peer(let node, let page): UInt64(page) << targetShift | UInt64(node) << 2 | 2
    }
  }

  /// Where an entry leads; nil where to nothing.
  static func decoded(_ entry: UInt64) -> Target? {
    switch entry & 3 {
    case 1: .memory(page: Int(entry >> targetShift))
    case 2: .peer(node: Int(entry >> 2 & 0x3ffff), page: Int(entry >> targetShift))
    default: nil
    }
  }

  // MARK: Access

  /// A write by a function has arrived. Words for pages that are not mapped to memory are dropped, and each such page is a
  /// fault.
  mutating func write(_ address: UInt64, _ words: [UInt64], from node: Int, to memory: inout GuestMemory) {
    var done = 0
    while done < words.count {
      let place = Self.place(address, done)
      let count = min(words.count - done, Page.words - (place?.word ?? 0))
      if let place, let page = memoryPage(place.page, node) {
        for offset in 0..<count {
          memory.writeByDevice(wordAt: page * Page.words + place.word + offset, words[done + offset])
        }
        memory.note(page: page)
        let domain = domainOfNode[node]
        if domains[domain].isTracking { domains[domain].dirty.insert(place.page) }
      } else {
        faults[node] += 1
      }
      done += count
    }
  }

  /// A read by a function has arrived. - Returns: the words; nil where a page is not mapped to memory, which is a fault.
  mutating func read(_ address: UInt64, _ count: Int, from node: Int, in memory: GuestMemory) -> [UInt64]? {
    var words: [UInt64] = []
    while words.count < count {
      guard let place = Self.place(address, words.count), let page = memoryPage(place.page, node) else {
        faults[node] += 1
        return nil
      }
      let start = page * Page.words + place.word
      let end = min(start + count - words.count, (page + 1) * Page.words)
      words += memory.content.words[start..<end]
    }
    return words
  }

  /// Where the n-th word from an address on lies, as a page and a word in it.
  private static func place(_ address: UInt64, _ offset: Int) -> (page: Int, word: Int)? {
    guard let first = Page.wordIndex(address) else { return nil }
    return ((first + offset) / Page.words, (first + offset) % Page.words)
  }

  private func memoryPage(_ page: Int, _ node: Int) -> Int? {
    guard let domain = domain(of: node), case .memory(let guestPage) = target(page, in: domain) else { return nil }
    return guestPage
  }

  // MARK: Dirty bits

  /// Turns tracking on or off; either begins with clean entries.
  mutating func setTracking(_ isOn: Bool, in domain: Int) {
    domains[domain].isTracking = isOn
    domains[domain].dirty.removeAll()
  }

  /// Reads the dirty bits of a range of IOVA pages, and adds the guest pages behind them to a set.
  /// - Parameter clearing: false is for the reading just before an unmap, which clears them anyway (NO_CLEAR).
  mutating func readDirty(_ pages: Range<Int>, in domain: Int, clearing: Bool, into set: inout PageSet) {
    var next = domains[domain].dirty.first(from: pages.lowerBound)
    while let page = next, page < pages.upperBound {
      if case .memory(let guestPage) = target(page, in: domain) { set.insert(guestPage) }
      if clearing { domains[domain].dirty.remove(page) }
      next = domains[domain].dirty.first(from: page + 1)
    }
  }
}
