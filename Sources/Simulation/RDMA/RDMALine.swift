// SPDX-License-Identifier: Apache-2.0

/// A line: what is put in first comes out first, each in a time that does not grow with the line.
struct RDMALine<Element: Sendable>: Sendable {
  private var elements: [Element] = []
  private var next = 0

  /// What comes out next.
  var first: Element? { next < elements.count ? elements[next] : nil }

  mutating func append(_ element: Element) { elements.append(element) }

  mutating func popFirst() -> Element? {
    guard next < elements.count else { return nil }
    let element = elements[next]
    next += 1
    if next == elements.count {
      elements.removeAll(keepingCapacity: true)
      next = 0
    } else if next >= 1024, 2 * next > elements.count {
      elements.removeFirst(next)
      next = 0
    }
    return element
  }
}
