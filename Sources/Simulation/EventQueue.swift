// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What is to happen, by time; what is to happen at one time, in the order in which it was put in.
struct EventQueue<Event: Sendable>: Sendable {
  private struct Entry: Sendable {
    let time: MonotonicTime
    let number: UInt64
    let event: Event

    func isBefore(_ other: Entry) -> Bool { time == other.time ? number < other.number : time < other.time }
  }

  /// A binary heap.
  private var entries: [Entry] = []
  private var nextNumber: UInt64 = 0

  var isEmpty: Bool { entries.isEmpty }

  /// The time of what happens next.
  var nextTime: MonotonicTime? { entries.first?.time }

  mutating func put(_ event: Event, at time: MonotonicTime) {
    entries.append(Entry(time: time, number: nextNumber, event: event))
    nextNumber += 1
    var child = entries.count - 1
    while child > 0, entries[child].isBefore(entries[(child - 1) / 2]) {
      entries.swapAt(child, (child - 1) / 2)
      child = (child - 1) / 2
    }
  }

  mutating func take() -> (time: MonotonicTime, event: Event)? {
    guard let first = entries.first else { return nil }
    let last = entries.removeLast()
    if !entries.isEmpty {
      entries[0] = last
      var parent = 0
      while true {
        let children = [2 * parent + 1, 2 * parent + 2].filter { $0 < entries.count }
        guard let least = children.min(by: { entries[$0].isBefore(entries[$1]) }),
          entries[least].isBefore(entries[parent])
        else { break }
        entries.swapAt(parent, least)
        parent = least
      }
    }
    return (first.time, first.event)
  }
}
