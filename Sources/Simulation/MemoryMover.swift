// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// Guest memory on its way to the other host, as the source's VMM sends it: what its session tells it to, when it tells it to.
struct MemoryMover: Sendable {
  /// A part of it on the channel.
  enum Parcel: Sendable {
    /// Pages with their content as it was when the parcel was packed.
    case pages([Int], content: [[UInt64]])
    /// So many pages without content.
    case bulk(pages: Int)
    /// What the VMM keeps itself: the vCPUs' registers, and what devices see where.
    case vmmState([UInt64])
  }

  /// Pages of a parcel, and of one without content.
  static let parcelPages = 32
  static let modelParcelPages = 256
  /// Microseconds that a reading of the trackers takes.
  static let readingTime: UInt64 = 20

  /// Pages that wait to be sent.
  private(set) var waiting = PageSet(capacity: 0)
  private var position = 0
  /// Pages of each round so far.
  private(set) var rounds: [Int] = []
  /// Bytes on the channel so far, and those before this round.
  var bytes: UInt64 = 0
  private(set) var bytesBefore: UInt64 = 0
  /// What was read is being sent.
  var isSending = false
  /// What was read is the last.
  var isLast = false
  /// The reading that a broken world takes for the last.
  var hasEarlyReading = false
  /// What has arrived of the VMM's own state.
  var arrivedState: [UInt64]?

  mutating func begin(pages: Int) {
    waiting = PageSet(capacity: pages)
    waiting.insert(0..<pages)
  }

  mutating func add(_ pages: [Int]) { for page in pages { waiting.insert(page) } }

  mutating func add(from memory: inout SimulatedMemory) { memory.takeNoted(into: &waiting) }

  /// What waits is sent from now on.
  mutating func beginRound() {
    isSending = true
    position = 0
    bytesBefore = bytes
    rounds.append(waiting.count)
  }

  /// The pages of the next parcel, at most so many; none where the round is at its end.
  mutating func takePages(most: Int) -> [Int] {
    var pages: [Int] = []
    while pages.count < most, let page = waiting.takeFirst(from: position) {
      pages.append(page)
      position = page + 1
    }
    return pages
  }

  /// Forgets one of the pages that wait.
  mutating func drop(_ index: Int) {
    for (number, page) in waiting.enumerated() where number == index { return waiting.remove(page) }
  }
}
