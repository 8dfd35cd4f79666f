// SPDX-License-Identifier: Apache-2.0

/// What a simulated device holds: pages, each with a number that stands for its content.
///
/// A page's bytes are never kept, so that a device of many GiB costs eight bytes for each page.
struct SimulatedState: Hashable, Sendable {
  let pageBytes: Int
  /// The content of each page; 0 is empty.
  private(set) var pages: [UInt64]
  /// Whether a guest uses the device, and so changes what is in it.
  private(set) var isInUse: Bool
  private let changedBytesPerMicrosecond: UInt64
  private let hotPages: Int
  private var generator: SeededGenerator
  /// Bytes changed that do not fill a page yet.
  private var remainder: UInt64 = 0

  init(_ configuration: SimulatedDevice.Configuration) {
    pageBytes = configuration.pageBytes
    let count = max(1, (configuration.stateBytes + pageBytes - 1) / pageBytes)
    pages = Array(repeating: 0, count: count)
    isInUse = false
    changedBytesPerMicrosecond = configuration.changedBytesPerMicrosecond
    hotPages = min(count, max(1, (configuration.hotBytes ?? configuration.stateBytes) / pageBytes))
    generator = SeededGenerator(seed: configuration.seed)
    if configuration.isInUse { program() }
  }

  /// A guest's driver sets the device up: everything in it is new.
  mutating func program() {
    let generation = generator.next()
    for page in pages.indices { pages[page] = SeededGenerator.mixed(generation &+ UInt64(page)) | 1 }
    isInUse = true
  }

  /// A reset: nothing is left.
  mutating func clear() {
    for page in pages.indices { pages[page] = 0 }
    isInUse = false
  }

  mutating func load(page: Int, content: UInt64) { pages[page] = content }

  /// A whole state was loaded: the guest that came with it goes on using the device.
  mutating func adopt() { isInUse = true }

  /// The device works for that long.
  /// - Returns: the pages that changed, in the order of their changes; a page may be there twice.
  mutating func run(microseconds: UInt64) -> [Int] {
    guard isInUse, changedBytesPerMicrosecond > 0 else { return [] }
    let (product, overflow) = microseconds.multipliedReportingOverflow(by: changedBytesPerMicrosecond)
    let bytes = overflow ? UInt64.max / 2 : min(product, .max / 2) + remainder
    remainder = bytes % UInt64(pageBytes)
    // After so many changes every page has most likely changed, and more would change nothing that can be seen.
    let changes = Int(min(bytes / UInt64(pageBytes), UInt64(hotPages) * 4))
    var changed: [Int] = []
    changed.reserveCapacity(changes)
    for _ in 0..<changes {
      let page = generator.next(below: hotPages)
      pages[page] = generator.next() | 1
      changed.append(page)
    }
    return changed
  }

  /// A digest of the whole content.
  var digest: UInt64 {
    var digest = RunDigest()
    for page in pages { digest.add(page) }
    return digest.value
  }
}
