// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// Guest memory on its way to the other host, as the source's VMM sends it: all pages, then in rounds what was written since,
/// and what is left once the devices have stopped.
struct MemoryMover: Sendable {
  /// A part of it on the channel.
  enum Parcel: Sendable {
    /// Pages with their content as it was when the parcel was packed.
    case pages([Int], content: [[UInt64]])
    /// What the VMM keeps itself: the vCPUs' registers, and what devices see where.
    case vmmState([UInt64])
  }

  /// Pages of a parcel.
  private static let parcelPages = 32
  /// Microseconds between the end of a round and the next look for dirty pages.
  static let pause: UInt64 = 1000

  private var pending: [Int] = []
  private var next = 0
  /// Pages of each round so far.
  private(set) var rounds: [Int] = []
  /// Bytes on the channel so far.
  var bytes: UInt64 = 0
  /// Whether it is under way, and whether what is sent now is the last.
  private(set) var isOn = false
  private(set) var isLast = false
  /// The session wants the vCPUs to stop, which waits until little memory is left.
  var isStopWanted = false
  private var withoutProgress = 0
  /// What has arrived of the VMM's own state.
  var arrivedState: [UInt64]?

  /// Pages that wait to be sent.
  var waiting: Int { pending.count - next }

  mutating func begin(pages: Int) {
    isOn = true
    beginRound(Array(0..<pages))
  }

  mutating func beginRound(_ pages: [Int]) {
    pending = pages
    next = 0
    rounds.append(pages.count)
  }

  /// Whether more rounds are of no use: so little is dirty that it goes over in the stop, or it no longer gets less.
  /// - Parameter few: how many pages are little.
  mutating func hasConverged(dirty: Int, few: Int) -> Bool {
    if rounds.count > 1, let last = rounds.last, dirty >= last - last / 8 { withoutProgress += 1 }
    return dirty <= few || withoutProgress >= Self.patience || rounds.count >= Self.mostRounds
  }

  /// So many rounds without progress are enough, and so many in all.
  private static let patience = 2
  private static let mostRounds = 30

  /// What is left of this round and what else is dirty become the last round.
  mutating func beginLast(_ dirty: [Int], guestPages: Int) {
    isLast = true
    var isWanted = [Bool](repeating: false, count: guestPages)
    for page in pending[next...] { isWanted[page] = true }
    for page in dirty { isWanted[page] = true }
    // What was to go in the round that is cut short goes in the last.
    rounds[rounds.count - 1] -= waiting
    beginRound(isWanted.indices.filter { isWanted[$0] })
  }

  /// The pages of the next parcel; none where the round is at its end.
  mutating func takePages() -> [Int] {
    let end = min(next + Self.parcelPages, pending.count)
    defer { next = end }
    return Array(pending[next..<end])
  }

  /// Forgets a page that was to go.
  mutating func drop(_ index: Int) { pending.remove(at: next + index) }

  mutating func end() { isOn = false }
}
