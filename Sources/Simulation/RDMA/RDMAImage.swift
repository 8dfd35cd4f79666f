// SPDX-License-Identifier: Apache-2.0

// The image (DA5). A record for the device and one for each object, in the order in which they were made; each can be
// taken again when it changed, so that most of them can be sent ahead of the stop (DA8).
//
// In it:
// - of a memory region its key, range and access; of a completion queue its number, ring and count of completions;
// - of a queue pair its number, state, peer, rings, MTU and retry settings (DA1, DA2); how far its queues are posted
//   and finished; the PSN of the oldest unfinished work request, of the oldest packet without an acknowledgement and of
//   the last ever sent; the PSN expected from the peer; how far the message that is coming in has come; and the replies
//   to its last atomics.
//
// Left out, because the destination finds it again or does better without:
// - work requests and receives that were read ahead: they lie in guest memory until they are completed;
// - packets and reads under way, and what waits for them: the sender of each sends again;
// - timers, retry counts, the congestion window and whether a gap was reported: a connection begins anew with these;
// - the list of active queue pairs: a resume looks through all;
// - the network address, which is the host's to give, counters, and the in-bound limit.
extension RDMANIC {
  private enum Kind: UInt32 {
    case device = 0x4e49_4331
    case completionQueue = 2
    case region = 3
    case queuePair = 4
  }

  /// The kind of a queue pair's record: the low half of its first word.
  static let queuePairKind = Kind.queuePair.rawValue

  /// How many records the image has now.
  var recordCount: Int { objects.count + 1 }

  /// The records that changed since this was last asked, or ever, in the order of their first change.
  mutating func takeChangedRecords() -> [Int] { resources.changes.take() }

  /// How many records have changed since they were last asked for.
  var changedRecords: Int { resources.changes.count }

  /// A record of the image as it is now. The first word is its kind, and its length in words.
  func record(_ index: Int) -> [UInt64] {
    guard index > 0 else { return Self.framed(.device, [UInt64(recordCount)]) }
    switch objects[index - 1] {
    case .completionQueue(let place):
      let queue = resources.completionQueues[place]
      return Self.framed(
        .completionQueue,
        [UInt64(queue.number) | UInt64(queue.ring.depth) << 32, queue.ring.address, UInt64(queue.produced)])
    case .region(let place):
      let region = resources.regions[place]
      return Self.framed(
        .region, [UInt64(region.key) | UInt64(region.access.rawValue) << 32, region.address, region.bytes])
    case .queuePair(let place): return Self.framed(.queuePair, queuePairs[place].recordWords)
    }
  }

  private static func framed(_ kind: Kind, _ words: [UInt64]) -> [UInt64] {
    [UInt64(kind.rawValue) | UInt64(words.count + 1) << 32] + words
  }

  /// Takes a record in. Records come in their order the first time; one that is there already is replaced.
  ///
  /// After an error the device holds what it held before.
  mutating func load(_ index: Int, _ words: [UInt64]) throws(DeviceImageError) {
    guard activity == .stopped else { throw .notResuming }
    guard index >= 0 else { throw .noSuchRecord }
    guard index <= objects.count + 1 else { throw .outOfOrder }
    guard let header = words.first, header >> 32 == UInt64(words.count) else { throw .wrongLength }
    guard let kind = Kind(rawValue: UInt32(truncatingIfNeeded: header)) else { throw .wrongKind }
    let content = words.dropFirst()
    let known = index > 0 && index <= objects.count ? objects[index - 1] : nil
    switch kind {
    case .device:
      guard index == 0 else { throw .wrongKind }
      guard content.count == 1 else { throw .wrongLength }
      guard content[1] >= 1, content[1] < 1 << 32 else { throw .wrongValue }
      statedRecords = Int(content[1])
    case .completionQueue where index > 0: try loadCompletionQueue(content, known)
    case .region where index > 0: try loadRegion(content, known)
    case .queuePair where index > 0: try loadQueuePair(content, known)
    case .completionQueue, .region, .queuePair: throw .wrongKind
    }
    resources.changes.note(index)
  }

  /// Whether every record that the image says it has was loaded.
  func checkLoaded() throws(DeviceImageError) {
    guard statedRecords == recordCount else { throw .incomplete }
  }

  private mutating func loadCompletionQueue(
    _ words: ArraySlice<UInt64>, _ known: RDMAObject?
  ) throws(DeviceImageError) {
    guard words.count == 3 else { throw .wrongLength }
    let ring = RDMAQueuePairAttributes.Ring(address: words[2], depth: UInt32(words[1] >> 32))
    guard ring.isValid, words[3] <= UInt32.max else { throw .wrongValue }
    let queue = RDMACompletionQueue(
      number: UInt32(truncatingIfNeeded: words[1]), ring: ring, produced: UInt32(words[3]))
    try check(known, resources.completionQueue(queue.number).map { .completionQueue($0) }) { object in
      if case .completionQueue = object { true } else { false }
    }
    if known == nil { add(queue) } else { resources.set(queue, record: 0) }
  }

  private mutating func loadRegion(_ words: ArraySlice<UInt64>, _ known: RDMAObject?) throws(DeviceImageError) {
    guard words.count == 3 else { throw .wrongLength }
    let access = words[1] >> 32
    guard access <= UInt64(RDMAMemoryRegion.Access.everything.rawValue) else { throw .wrongValue }
    let region = RDMAMemoryRegion(
      key: UInt32(truncatingIfNeeded: words[1]), address: words[2], bytes: words[3],
      access: RDMAMemoryRegion.Access(rawValue: UInt8(access)))
    try check(known, resources.region(region.key).map { .region($0) }) { object in
      if case .region = object { true } else { false }
    }
    if known == nil { add(region) } else { resources.set(region) }
  }

  private mutating func loadQueuePair(_ words: ArraySlice<UInt64>, _ known: RDMAObject?) throws(DeviceImageError) {
    var place = queuePairs.count
    if case .queuePair(let index) = known { place = index }
    let record = place < queuePairs.count ? queuePairs[place].record : objects.count + 1
    let queuePair = try RDMAQueuePair(recordWords: words, index: place, record: record)
    let attributes = queuePair.attributes
    guard resources.completionQueue(attributes.sendCompletions) != nil,
      resources.completionQueue(attributes.receiveCompletions) != nil
    else { throw .wrongNumber }
    try check(known, queuePairIndex[attributes.number].map { .queuePair($0) }) { object in
      if case .queuePair = object { true } else { false }
    }
    guard known != nil else { return add(queuePair) }
    if queuePairs[place].isBusy { resources.busyQueuePairs -= 1 }
    if queuePair.isBusy { resources.busyQueuePairs += 1 }
    queuePairs[place] = queuePair
  }

  /// A record is that of a new object with a number that is free, or that of the object which is there.
  private func check(
    _ known: RDMAObject?, _ numbered: RDMAObject?, isOfKind: (RDMAObject) -> Bool
  ) throws(DeviceImageError) {
    if let known, !isOfKind(known) { throw .wrongKind }
    guard known == numbered else { throw .wrongNumber }
  }
}
