// SPDX-License-Identifier: Apache-2.0

/// A guest's memory, with the log that the VMM keeps of what the guest's own processors wrote (KVM's dirty log).
///
/// What devices write comes through an ``IOMMU``, which has bits of its own. Neither of the two knows the other's pages.
struct GuestMemory: Hashable, Sendable {
  /// What is in it.
  private(set) var content: PagedMemory
  /// Pages that processors wrote since they were last taken.
  private(set) var processorDirty: PageSet
  /// Pages that a processor waits for.
  private var watched: PageSet
  /// Watched pages that were written, oldest first; a page may be there twice.
  private(set) var touched: [Int] = []

  /// Zeros.
  init(pages: Int) {
    content = PagedMemory(pages: pages)
    processorDirty = PageSet(capacity: pages)
    watched = PageSet(capacity: pages)
  }

  /// How many pages there are.
  var pages: Int { content.pages }

  /// A digest of the content.
  var digest: UInt64 { content.digest }

  /// The content of a page. To set it is the VMM's business (loading, taking a sent page) and marks nothing.
  subscript(page number: Int) -> Page {
    get { content[page: number] }
    set {
      content[page: number] = newValue
      note(page: number)
    }
  }

  /// A processor writes. - Returns: whether the address is there.
  mutating func writeByProcessor(_ address: UInt64, _ word: UInt64) -> Bool {
    guard let index = Page.wordIndex(address), index < content.words.count else { return false }
    content[index] = word
    processorDirty.insert(index / Page.words)
    note(page: index / Page.words)
    return true
  }

  /// A device writes, to a word by its place in the run of all. Its ``IOMMU`` has looked the page up, and notes it.
  mutating func writeByDevice(wordAt index: Int, _ word: UInt64) { content[index] = word }

  /// A device has written to this page.
  mutating func note(page: Int) {
    if !watched.isEmpty, watched.contains(page) { touched.append(page) }
  }

  /// Takes the pages out that processors wrote, and adds them to a set.
  mutating func takeProcessorDirty(into set: inout PageSet) {
    while let page = processorDirty.takeFirst() { set.insert(page) }
  }

  /// A processor waits for a word of this page, or no longer does.
  mutating func watch(page: Int, _ isOn: Bool) {
    if isOn { watched.insert(page) } else { watched.remove(page) }
  }

  /// The next watched page that was written.
  mutating func takeTouched() -> [Int] {
    defer { touched.removeAll(keepingCapacity: true) }
    return touched
  }
}
