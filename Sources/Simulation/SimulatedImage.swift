// SPDX-License-Identifier: Apache-2.0
// The opaque image of a simulated device: records one after the other, split between reads as it falls. A page may come
// again; the last one counts. A start record opens the image and a trailer with a digest ends it.

/// The record header's layout: kind, bytes that follow, two numbers. All little-endian, 24 bytes.
enum ImageRecord {
  static let headerSize = 24

  enum Kind: UInt32 {
    /// The numbers are the count of pages, or 0, and the bytes of each.
    case start = 0x5346_4656
    /// The numbers are the page's index and content; the page's bytes follow.
    case page = 2
    /// The numbers are the count of parts and the digest of all.
    case trailer = 3
    /// The numbers are the record's index and its count of words; the words follow, and zeros up to the record's bytes.
    case record = 4
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
  /// Parts to send, oldest first, from `next` on.
  private var queue: [Int] = []
  private var next = 0
  /// What each part that is queued takes; 0 for the others. A record may get longer while it waits.
  private var queuedSize: [Int]
  /// Changed parts that the device will offer once it is asked for its info.
  private var kept: [Int] = []
  private var isKept: [Bool]
  /// Whether a part is queued as initial data.
  private var isInitial: [Bool]
  /// Bytes of the queued parts, and of those among them that are initial data.
  private var queuedBytes = 0
  private var initialQueuedBytes = 0
  private var startIsOut = false
  private var trailer: TrailerState = .notDue
  /// What is left of the record being read: bytes that say something, then so many zeros.
  private var header: [UInt8] = []
  private var headerPosition = 0
  private var zerosLeft = 0
  private var recordIsInitial = false

  private enum TrailerState: Hashable { case notDue, due, out }

  /// - Parameter initialParts: so many parts are offered as initial data, the rest as changed since.
  init(_ content: DeviceContent, initialParts: Int) {
    queue = Array(0..<content.count)
    queuedSize = queue.map(content.partBytes)
    isKept = Array(repeating: false, count: queue.count)
    isInitial = queue.map { $0 < initialParts }
    queuedBytes = queuedSize.reduce(0, +)
    initialQueuedBytes = queuedSize.prefix(initialParts).reduce(0, +)
  }

  /// Takes note of parts that changed or are new. - Parameter offered: whether they can be read at once.
  mutating func note(changed parts: [Int], offered: Bool, _ content: DeviceContent) {
    while queuedSize.count < content.count {
      queuedSize.append(0)
      isKept.append(false)
      isInitial.append(false)
    }
    for part in parts {
      if queuedSize[part] > 0 {
        resize(part, content)
      } else if offered {
        enqueue(part, content)
      } else if !isKept[part] {
        isKept[part] = true
        kept.append(part)
      }
    }
  }

  private mutating func resize(_ part: Int, _ content: DeviceContent) {
    let more = content.partBytes(part) - queuedSize[part]
    queuedSize[part] += more
    queuedBytes += more
    if isInitial[part] { initialQueuedBytes += more }
  }

  /// Changed parts that were kept back can be read from now on.
  mutating func offerKept(_ content: DeviceContent) {
    for part in kept {
      isKept[part] = false
      enqueue(part, content)
    }
    kept = []
  }

  /// Nothing changes any more: what is left, and the end.
  mutating func finish(_ content: DeviceContent) {
    offerKept(content)
    if trailer == .notDue { trailer = .due }
  }

  private mutating func enqueue(_ part: Int, _ content: DeviceContent) {
    guard queuedSize[part] == 0 else { return }
    queue.append(part)
    queuedSize[part] = content.partBytes(part)
    queuedBytes += queuedSize[part]
  }

  private var partial: Int { header.count - headerPosition + zerosLeft }

  var initialBytes: Int {
    (startIsOut ? 0 : ImageRecord.headerSize) + initialQueuedBytes + (recordIsInitial ? partial : 0)
  }

  /// Bytes that can be read now.
  var availableBytes: Int {
    let ends = (startIsOut ? 0 : ImageRecord.headerSize) + (trailer == .due ? ImageRecord.headerSize : 0)
    return partial + ends + queuedBytes
  }

  /// - Returns: at most that many bytes; fewer only where there are no more.
  mutating func read(most: Int, _ content: DeviceContent) -> [UInt8] {
    let count = min(most, availableBytes)
    // Most of a part's bytes are zeros, so that they cost next to nothing.
    var bytes = [UInt8](repeating: 0, count: count)
    var position = 0
    while position < count {
      if partial == 0 { beginRecord(content) }
      while headerPosition < header.count, position < count {
        bytes[position] = header[headerPosition]
        headerPosition += 1
        position += 1
      }
      let zeros = min(zerosLeft, count - position)
      zerosLeft -= zeros
      position += zeros
    }
    return bytes
  }

  private mutating func beginRecord(_ content: DeviceContent) {
    headerPosition = 0
    recordIsInitial = false
    if !startIsOut {
      startIsOut = true
      recordIsInitial = true
      header = ImageRecord.header(.start, following: 0, content.kind.parts, content.kind.partBytes)
    } else if next < queue.count {
      let part = queue[next]
      next += 1
      if next == queue.count {
        queue = []
        next = 0
      }
      queuedBytes -= queuedSize[part]
      recordIsInitial = isInitial[part]
      if recordIsInitial { initialQueuedBytes -= queuedSize[part] }
      isInitial[part] = false
      queuedSize[part] = 0
      (header, zerosLeft) = content.part(part)
    } else {
      trailer = .out
      header = ImageRecord.header(.trailer, following: 0, UInt64(content.count), content.digest)
    }
  }
}

/// The image as the destination takes it in.
struct ImageSink: Sendable {
  enum Problem: Error { case unknownRecord, malformed }

  private var header: [UInt8] = []
  /// Bytes of the record's header and of what it says.
  private var wanted = ImageRecord.headerSize
  private var zerosLeft = 0
  private var hasStarted = false
  /// What the trailer states, once it came: how many parts there are, and their digest.
  private(set) var stated: (parts: UInt64, digest: UInt64)?

  /// Whether the image has come to its end.
  var isWhole: Bool { stated != nil && header.isEmpty && zerosLeft == 0 }

  mutating func write(_ bytes: Span<UInt8>, into content: inout DeviceContent) throws(Problem) {
    var position = 0
    while position < bytes.count {
      let zeros = min(zerosLeft, bytes.count - position)
      zerosLeft -= zeros
      position += zeros
      while zerosLeft == 0, header.count < wanted, position < bytes.count {
        header.append(bytes[position])
        position += 1
      }
      guard header.count == wanted else { continue }
      if wanted == ImageRecord.headerSize { try begin(content) }
      guard header.count == wanted else { continue }
      try end(into: &content)
      header.removeAll(keepingCapacity: true)
      wanted = ImageRecord.headerSize
    }
  }

  private func number(_ range: Range<Int>) -> UInt64 {
    var value: UInt64 = 0
    for index in range.reversed() { value = value << 8 | UInt64(header[index]) }
    return value
  }

  private var following: UInt64 { number(4..<8) }
  private var first: UInt64 { number(8..<16) }
  private var second: UInt64 { number(16..<24) }

  /// A header has come: what belongs to it?
  private mutating func begin(_ content: DeviceContent) throws(Problem) {
    guard let kind = ImageRecord.Kind(rawValue: UInt32(number(0..<4))) else { throw .unknownRecord }
    guard stated == nil, hasStarted == (kind != .start), content.canTake(kind, following: following, first, second)
    else { throw .malformed }
    if kind == .record { wanted += 8 * Int(second) }
  }

  private mutating func end(into content: inout DeviceContent) throws(Problem) {
    switch ImageRecord.Kind(rawValue: UInt32(number(0..<4))) {
    case .start:
      guard (first, second) == content.kind else { throw .malformed }
      hasStarted = true
    case .page:
      content.load(page: Int(first), content: second)
      zerosLeft = Int(following)
    case .record:
      let size = ImageRecord.headerSize
      content.set(record: Int(first), (0..<Int(second)).map { number(size + 8 * $0..<size + 8 * $0 + 8) })
      zerosLeft = Int(following) - 8 * Int(second)
    case .trailer: stated = (first, second)
    case nil: throw .unknownRecord
    }
  }
}
