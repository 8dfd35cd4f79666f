// SPDX-License-Identifier: Apache-2.0

/// What is in a simulated device: numbers that stand for pages, or the records of a function of a world. One of the two is
/// there.
struct DeviceContent: Hashable, Sendable {
  private var pages: SimulatedState?
  private var records: DeviceRecords?

  /// - Parameter isFunction: whether it belongs to a function of a world.
  init(_ configuration: SimulatedDevice.Configuration, isFunction: Bool) {
    if isFunction {
      records = DeviceRecords(leastBytes: configuration.pageBytes, isInUse: configuration.isInUse)
    } else {
      pages = SimulatedState(configuration)
    }
  }

  /// Whether a guest uses the device.
  var isInUse: Bool { pages?.isInUse ?? records?.isInUse ?? false }

  /// How many parts its image has.
  var count: Int { pages?.pages.count ?? records?.count ?? 0 }

  /// A digest of the whole content.
  var digest: UInt64 { pages?.digest ?? records?.digest ?? 0 }

  /// What the image's start says of it: how many parts there are, where that is fixed, and the bytes of one.
  var kind: (parts: UInt64, partBytes: UInt64) {
    if let pages { return (UInt64(pages.pages.count), UInt64(pages.pageBytes)) }
    return (0, UInt64(records?.leastBytes ?? 0))
  }

  /// Bytes that a part takes in the image.
  func partBytes(_ index: Int) -> Int {
    ImageRecord.headerSize + (pages?.pageBytes ?? records?.following(index) ?? 0)
  }

  /// Bytes of an image with every part once.
  var imageBytes: Int {
    let parts = pages.map { $0.pages.count * (ImageRecord.headerSize + $0.pageBytes) } ?? records?.imageBytes ?? 0
    return parts + 2 * ImageRecord.headerSize
  }

  /// A part as it is in the image: what is said of it, and how many zeros follow that stand for the rest of its bytes.
  func part(_ index: Int) -> (said: [UInt8], zeros: Int) {
    if let pages {
      return (
        ImageRecord.header(.page, following: pages.pageBytes, UInt64(index), pages.pages[index]), pages.pageBytes
      )
    }
    return records?.part(index) ?? ([], 0)
  }

  /// A guest's driver sets the device up anew. What that makes of a function its driver finds out when it asks.
  mutating func program() {
    pages?.program()
    records?.isInUse = true
  }

  /// A reset: nothing is left.
  mutating func clear() {
    pages?.clear()
    records?.clear()
  }

  /// A whole state was loaded: the guest that came with it goes on using the device.
  mutating func adopt() {
    pages?.adopt()
    records?.isInUse = true
  }

  /// The device works for that long. - Returns: the parts that changed; a function's driver is told of none.
  mutating func run(microseconds: UInt64) -> [Int] { pages?.run(microseconds: microseconds) ?? [] }

  /// Takes a page of an image in.
  mutating func load(page: Int, content: UInt64) { pages?.load(page: page, content: content) }

  /// Takes a record in; those before it that did not come are empty.
  mutating func set(record index: Int, _ words: [UInt64]) { records?.set(index, words) }

  /// Only so many records are left.
  mutating func truncate(to count: Int) { records?.truncate(to: count) }

  /// The words of a record.
  func words(ofRecord index: Int) -> [UInt64] { records?.records[index] ?? [] }

  /// Whether a part with such a header can belong to it.
  func canTake(_ kind: ImageRecord.Kind, following: UInt64, _ first: UInt64, _ second: UInt64) -> Bool {
    switch kind {
    case .page: pages.map { following == UInt64($0.pageBytes) && first < UInt64($0.pages.count) } ?? false
    case .record:
      records != nil && first < DeviceRecords.mostRecords && second <= DeviceRecords.mostWords
        && following >= 8 * second && following <= max(8 * DeviceRecords.mostWords, self.kind.partBytes)
    case .start, .trailer: following == 0
    }
  }
}

/// The image of a function as its driver holds it: records of words, as they were when the driver last asked the function.
struct DeviceRecords: Hashable, Sendable {
  /// The most words of a record, and the most records.
  static let mostWords: UInt64 = 1 << 12
  static let mostRecords: UInt64 = 1 << 24

  /// Bytes that a record takes in an image at least: it stands for more than it says.
  let leastBytes: Int
  private(set) var records: [[UInt64]] = []
  /// Whether a guest uses the function.
  var isInUse: Bool

  init(leastBytes: Int, isInUse: Bool) {
    self.leastBytes = leastBytes
    self.isInUse = isInUse
  }

  var count: Int { records.count }

  /// Bytes of all records in an image.
  var imageBytes: Int { records.indices.reduce(0) { $0 + ImageRecord.headerSize + following($1) } }

  /// A digest of all records.
  var digest: UInt64 {
    var digest = RunDigest()
    for record in records {
      digest.add(UInt64(record.count))
      for word in record { digest.add(word) }
    }
    return digest.value
  }

  mutating func set(_ index: Int, _ words: [UInt64]) {
    while records.count <= index { records.append([]) }
    records[index] = words
  }

  mutating func truncate(to count: Int) { records.removeLast(max(0, records.count - count)) }

  mutating func clear() {
    records = []
    isInUse = false
  }

  /// Bytes that follow the header of a record.
  func following(_ index: Int) -> Int { max(leastBytes, 8 * records[index].count) }

  func part(_ index: Int) -> (said: [UInt8], zeros: Int) {
    let words = records[index]
    var said = ImageRecord.header(.record, following: following(index), UInt64(index), UInt64(words.count))
    said.reserveCapacity(said.count + 8 * words.count)
    for word in words {
      for byte in 0..<8 { said.append(UInt8(truncatingIfNeeded: word >> UInt64(8 * byte))) }
    }
    return (said, following(index) - 8 * words.count)
  }
}
