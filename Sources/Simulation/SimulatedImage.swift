// SPDX-License-Identifier: Apache-2.0
// The opaque image of a simulated device: records one after the other, split between reads as it falls. A page may come
// again; the last one counts. A start record opens the image and a trailer with a digest ends it.

/// The record header's layout: kind, bytes that follow, two numbers. All little-endian, 24 bytes.
enum ImageRecord {
  static let headerSize = 24

  enum Kind: UInt32 {
    /// The numbers are the count of pages and the bytes of each.
    case start = 0x5346_4656
    /// The numbers are the page's index and content; the page's bytes follow.
    case page = 2
    /// The numbers are the count of pages and the digest of all.
    case trailer = 3
  }

  static func header(_ kind: Kind, following: Int, _ first: UInt64, _ second: UInt64) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(headerSize)
    for (value, count) in [(UInt64(kind.rawValue), 4), (UInt64(following), 4), (first, 8), (second, 8)] {
      for index in 0..<count { bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index))) }
    }
    return bytes
  }
}

/// The image as the source gives it.
struct ImageSource: Hashable, Sendable {
  private let pageBytes: Int
  /// Pages to send, oldest first, from `next` on.
  private var queue: [Int] = []
  private var next = 0
  private var isQueued: [Bool]
  /// Changed pages that the device will offer once it is asked for its info.
  private var kept: [Int] = []
  private var isKept: [Bool]
  /// So many of the queued pages are initial data.
  private var initialPages: Int
  private var startIsOut = false
  private var trailer: TrailerState = .notDue
  /// What is left of the record being read: bytes of its header, then as many bytes of content.
  private var header: [UInt8] = []
  private var headerPosition = 0
  private var contentLeft = 0
  private var recordIsInitial = false

  private enum TrailerState: Hashable { case notDue, due, out }

  /// - Parameter initialPages: so many pages are offered as initial data, the rest as changed since.
  init(state: SimulatedState, initialPages: Int) {
    pageBytes = state.pageBytes
    queue = Array(state.pages.indices)
    isQueued = Array(repeating: true, count: queue.count)
    isKept = Array(repeating: false, count: queue.count)
    self.initialPages = min(initialPages, queue.count)
  }

  /// Takes note of changed pages. - Parameter offered: whether they can be read at once.
  mutating func note(changed pages: [Int], offered: Bool) {
    for page in pages {
      if offered {
        enqueue(page)
      } else if !isQueued[page], !isKept[page] {
        isKept[page] = true
        kept.append(page)
      }
    }
  }

  /// Changed pages that were kept back can be read from now on.
  mutating func offerKept() {
    for page in kept {
      isKept[page] = false
      enqueue(page)
    }
    kept = []
  }

  /// Nothing changes any more: what is left, and the end.
  mutating func finish() {
    offerKept()
    if trailer == .notDue { trailer = .due }
  }

  private mutating func enqueue(_ page: Int) {
    guard !isQueued[page] else { return }
    isQueued[page] = true
    queue.append(page)
  }

  private var recordSize: Int { ImageRecord.headerSize + pageBytes }
  private var partial: Int { header.count - headerPosition + contentLeft }

  var initialBytes: Int {
    (startIsOut ? 0 : ImageRecord.headerSize) + initialPages * recordSize + (recordIsInitial ? partial : 0)
  }

  /// Bytes that can be read now.
  var availableBytes: Int {
    let ends = (startIsOut ? 0 : ImageRecord.headerSize) + (trailer == .due ? ImageRecord.headerSize : 0)
    return partial + ends + (queue.count - next) * recordSize
  }

  /// - Returns: at most that many bytes; fewer only where there are no more.
  mutating func read(most: Int, state: SimulatedState) -> [UInt8] {
    let count = min(most, availableBytes)
    // A page's content is its number; the bytes behind it are zeros, so that they cost next to nothing.
    var bytes = [UInt8](repeating: 0, count: count)
    var position = 0
    while position < count {
      if partial == 0 { beginRecord(state: state) }
      while headerPosition < header.count, position < count {
        bytes[position] = header[headerPosition]
        headerPosition += 1
        position += 1
      }
      let content = min(contentLeft, count - position)
      contentLeft -= content
      position += content
    }
    return bytes
  }

  private mutating func beginRecord(state: SimulatedState) {
    headerPosition = 0
    recordIsInitial = false
    if !startIsOut {
      startIsOut = true
      recordIsInitial = true
      header = ImageRecord.header(.start, following: 0, UInt64(state.pages.count), UInt64(pageBytes))
    } else if next < queue.count {
      let page = queue[next]
      next += 1
      if next == queue.count {
        queue = []
        next = 0
      }
      isQueued[page] = false
      recordIsInitial = initialPages > 0
      initialPages -= recordIsInitial ? 1 : 0
      header = ImageRecord.header(.page, following: pageBytes, UInt64(page), state.pages[page])
      contentLeft = pageBytes
    } else {
      trailer = .out
      header = ImageRecord.header(.trailer, following: 0, UInt64(state.pages.count), state.digest)
    }
  }
}

/// The image as the destination takes it in.
struct ImageSink: Hashable, Sendable {
  enum Problem: Error { case unknownRecord, malformed }

  private var header: [UInt8] = []
  private var contentLeft = 0
  private var hasStarted = false
  /// The digest that the trailer states, once it came.
  private(set) var statedDigest: UInt64?

  /// Whether the image has come to its end.
  var isWhole: Bool { statedDigest != nil && header.isEmpty && contentLeft == 0 }

  mutating func write(_ bytes: Span<UInt8>, into state: inout SimulatedState) throws(Problem) {
    var position = 0
    while position < bytes.count {
      let content = min(contentLeft, bytes.count - position)
      contentLeft -= content
      position += content
      while contentLeft == 0, header.count < ImageRecord.headerSize, position < bytes.count {
        header.append(bytes[position])
        position += 1
      }
      if header.count == ImageRecord.headerSize {
        try take(into: &state)
        header.removeAll(keepingCapacity: true)
      }
    }
  }

  private func number(_ range: Range<Int>) -> UInt64 {
    var value: UInt64 = 0
    for index in range.reversed() { value = value << 8 | UInt64(header[index]) }
    return value
  }

  private mutating func take(into state: inout SimulatedState) throws(Problem) {
    guard let kind = ImageRecord.Kind(rawValue: UInt32(number(0..<4))) else { throw .unknownRecord }
    let following = number(4..<8)
    let (first, second) = (number(8..<16), number(16..<24))
    guard statedDigest == nil, hasStarted == (kind != .start) else { throw .malformed }
    switch kind {
    case .start:
      guard following == 0, first == UInt64(state.pages.count), second == UInt64(state.pageBytes) else {
        throw .malformed
      }
      hasStarted = true
    case .page:
      guard following == UInt64(state.pageBytes), first < UInt64(state.pages.count) else { throw .malformed }
      state.load(page: Int(first), content: second)
      contentLeft = Int(following)
    case .trailer:
      guard following == 0 else { throw .malformed }
      statedDigest = second
    }
  }
}
