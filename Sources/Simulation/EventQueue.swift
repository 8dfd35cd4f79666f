// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What is to happen, by time; what is to happen at one time, in the order in which it was put in.
struct EventQueue<Event: Sendable>: Sendable {
  /// What is moved about in the heap is small; the event stays where it was put.
  private struct Entry: Sendable {
    let time: MonotonicTime
    let number: UInt64
    let place: Int

    func isBefore(_ other: Entry) -> Bool { time == other.time ? number < other.number : time < other.time }
  }

  /// A heap in which each entry has four below it: half as deep as a binary one, and these lie side by side.
  private var entries: [Entry] = []
  private var events: [Event?] = []
  private var free: [Int] = []
  private var nextNumber: UInt64 = 0

  var isEmpty: Bool { entries.isEmpty }

  /// The time of what happens next.
  var nextTime: MonotonicTime? { entries.first?.time }

  mutating func put(_ event: Event, at time: MonotonicTime) {
    let place: Int
    if let last = free.popLast() {
      place = last
      events[place] = event
    } else {
      place = events.count
      events.append(event)
    }
    let entry = Entry(time: time, number: nextNumber, place: place)
    nextNumber += 1
    entries.append(entry)
    var child = entries.count - 1
    while child > 0 {
      let parent = (child - 1) / 4
      guard entry.isBefore(entries[parent]) else { break }
      entries[child] = entries[parent]
      child = parent
    }
    entries[child] = entry
  }

  mutating func take() -> (time: MonotonicTime, event: Event)? {
    guard let first = entries.first, let last = entries.popLast() else { return nil }
    if !entries.isEmpty {
      var parent = 0
      while true {
        let eldest = 4 * parent + 1
        guard eldest < entries.count else { break }
        var child = eldest
        for other in eldest + 1..<max(eldest + 1, min(eldest + 4, entries.count)) {
          if entries[other].isBefore(entries[child]) { child = other }
        }
        guard entries[child].isBefore(last) else { break }
        entries[parent] = entries[child]
        parent = child
      }
      entries[parent] = last
    }
    free.append(first.place)
    guard let event = events[first.place].take() else { return nil }
    return (first.time, event)
  }
}
