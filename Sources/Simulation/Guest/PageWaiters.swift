// SPDX-License-Identifier: Apache-2.0

/// Which CPUs wait for which pages, so that a write is not told to all of them.
struct PageWaiters: Hashable, Sendable {
  /// A CPU that waits for a page.
  private struct Waiter: Hashable, Sendable {
    let page: Int
    let cpu: Int

    func isBefore(_ other: Waiter) -> Bool { page == other.page ? cpu < other.cpu : page < other.page }
  }

  /// By page, then by CPU.
  private var waiters: [Waiter] = []

  /// A CPU waits for a page.
  mutating func insert(_ cpu: Int, page: Int) {
    let waiter = Waiter(page: page, cpu: cpu)
    waiters.insert(waiter, at: place(of: waiter))
  }

  /// It no longer does. - Returns: whether none is left that waits for the page.
  mutating func remove(_ cpu: Int, page: Int) -> Bool {
    let place = place(of: Waiter(page: page, cpu: cpu))
    if place < waiters.count, waiters[place] == Waiter(page: page, cpu: cpu) { waiters.remove(at: place) }
    return next(page: page, from: 0) == nil
  }

  /// The first CPU, counted from that one on, that waits for a page.
  func next(page: Int, from cpu: Int) -> Int? {
    let place = place(of: Waiter(page: page, cpu: cpu))
    return place < waiters.count && waiters[place].page == page ? waiters[place].cpu : nil
  }

  /// Where a waiter is, or would be.
  private func place(of waiter: Waiter) -> Int {
    var (low, high) = (0, waiters.count)
    while low < high {
      let middle = (low + high) / 2
      if waiters[middle].isBefore(waiter) { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
