// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// Where the completions of queue pairs go: a ring in memory.
struct RDMACompletionQueue: Hashable, Sendable {
  var number: UInt32
  var ring: RDMAQueuePairAttributes.Ring
  /// Completions written so far, from 0, wrapping around.
  var produced: UInt32 = 0
}

/// What the queue pairs of a NIC share while an event is handled.
struct RDMAResources: Sendable {
  /// How far a NIC works.
  enum Activity: Hashable, Sendable {
    case running
    /// Suspend-Active by draining: the messages that were posted are finished, and nothing new is begun.
    case draining
    /// Suspend-Active: nothing is sent, nothing is taken from the network, nothing is read.
    case quiet
    /// Suspend-Passive: nothing is taken at all.
    case stopped
  }

  /// Which half of a queue pair wants something.
  enum Role: UInt8, Hashable, Sendable { case requester, responder }

  let configuration: RDMANIC.Configuration
  var now: UInt64 = 0
  var activity = Activity.running
  var counters = RDMANIC.Counters()
  var outputs: [RDMANIC.Output] = []
  /// Queue pairs with work that is not finished.
  var busyQueuePairs = 0
  /// Timers of an earlier epoch are void.
  var epoch: UInt32 = 0

  private(set) var regions: [RDMAMemoryRegion] = []
  private var regionIndex = NumberIndex()
  private(set) var completionQueues: [RDMACompletionQueue] = []
  private(set) var completionQueueRecords: [Int] = []
  private var completionQueueIndex = NumberIndex()
  var changes = RDMAChanges()

  init(_ configuration: RDMANIC.Configuration) {
    self.configuration = configuration
    reads = Array(repeating: Read(queuePair: 0, role: .requester), count: configuration.mostOutstandingReads)
    freeReads = Array(0..<UInt32(configuration.mostOutstandingReads)).reversed()
  }

  var networkAddress: UInt32 { configuration.networkAddress }

  /// Whether queue pairs send and read.
  var isActive: Bool { activity == .running || activity == .draining }

  /// Whether a doorbell is only remembered.
  var holdsDoorbellsBack: Bool { configuration.quiescing == .drainingMessages && activity != .running }

  // MARK: Memory regions and completion queues

  func region(_ key: UInt32) -> Int? { regionIndex[key] }

  /// Whether a region of that key is there for that use.
  func allows(_ access: RDMAMemoryRegion.Access, key: UInt32, at address: UInt64, words: Int) -> Bool {
    guard let index = regionIndex[key] else { return false }
    return regions[index].allows(access, at: address, words: words)
  }

  mutating func set(_ region: RDMAMemoryRegion) {
    if let index = regionIndex[region.key] {
      regions[index] = region
    } else {
      regionIndex.set(region.key, to: regions.count)
      regions.append(region)
    }
  }

  func completionQueue(_ number: UInt32) -> Int? { completionQueueIndex[number] }

  mutating func set(_ queue: RDMACompletionQueue, record: Int) {
    if let index = completionQueueIndex[queue.number] {
      completionQueues[index] = queue
    } else {
      completionQueueIndex.set(queue.number, to: completionQueues.count)
      completionQueues.append(queue)
      completionQueueRecords.append(record)
    }
  }

  /// Writes a completion, and the interrupt behind it.
  mutating func complete(_ completion: RDMACompletion, _ number: UInt32) {
    guard let index = completionQueueIndex[number] else { return }
    let queue = completionQueues[index]
    let slot = completion.slot(number: queue.produced)
    let address = queue.ring.address(of: queue.produced, slotWords: RDMACompletion.slotWords)
    outputs.append(.fabric(.write(address: address, words: slot)))
    outputs.append(.fabric(.interrupt(completionQueue: number)))
    completionQueues[index].produced &+= 1
    changes.note(completionQueueRecords[index])
  }

  // MARK: Reads under way

  private struct Read: Sendable {
    var queuePair: UInt32
    var role: Role
    var isUnderWay = false
    /// Counts the uses of this tag, so that a late reply is known as such.
    var generation: UInt32 = 0
  }

  private var reads: [Read]
  private var freeReads: [UInt32]

  /// Reads that have no reply yet.
  var readsUnderWay: Int { reads.count - freeReads.count }

  /// Whether a reply of that tag is waited for.
  func awaits(tag: UInt32) -> Bool {
    let slot = Int(tag & 0xffff)
    return slot < reads.count && reads[slot].isUnderWay && reads[slot].generation & 0xffff == tag >> 16
  }

  /// Starts a read. - Returns: false where too many are under way; the queue pair then is in the queue for the next.
  mutating func read(_ queuePair: Int, _ role: Role, address: UInt64, words: Int) -> Bool {
    guard let number = freeReads.popLast() else {
      enlist(queuePair, role)
      return false
    }
    let slot = Int(number)
    reads[slot].queuePair = UInt32(queuePair)
    reads[slot].role = role
    reads[slot].isUnderWay = true
    let tag = number | (reads[slot].generation & 0xffff) << 16
    outputs.append(.fabric(.read(address: address, words: words, tag: tag)))
    return true
  }

  /// A reply has come. - Returns: whose; nil where nobody waits for it.
  mutating func finishRead(tag: UInt32) -> (queuePair: Int, role: Role)? {
    guard awaits(tag: tag) else { return nil }
    let slot = Int(tag & 0xffff)
    reads[slot].isUnderWay = false
    reads[slot].generation &+= 1
    freeReads.append(UInt32(slot))
    return (Int(reads[slot].queuePair), reads[slot].role)
  }

  /// Whoever still answers a read is not listened to.
  mutating func abandonReads() {
    freeReads = []
    for slot in reads.indices.reversed() {
      reads[slot].isUnderWay = false
      reads[slot].generation &+= 1
      freeReads.append(UInt32(slot))
    }
  }

  /// After a reset: tags and timers from before it stay void.
  mutating func inherit(from before: RDMAResources) {
    reads = before.reads
    abandonReads()
    epoch = before.epoch &+ 1
  }

  // MARK: The active list

  /// Queue pairs that have something to send and wait for a read, and those that have something to answer, oldest first.
  private var requesters = RDMALine<Int>()
  private var responders = RDMALine<Int>()
  private var turn = 0

  /// Puts a queue pair into the list.
  mutating func enlist(_ queuePair: Int, _ role: Role) {
    if role == .requester { requesters.append(queuePair) } else { responders.append(queuePair) }
  }

  /// Takes the next from the list, where a read is free. What peers asked for goes first, because they wait for a sign of it
  /// and send it again; every fourth turn is for what the guest wants to send, so that nothing waits for ever.
  mutating func takeWaiting() -> (queuePair: Int, role: Role)? {
    guard !freeReads.isEmpty else { return nil }
    turn = (turn + 1) % 4
    if turn > 0, let responder = responders.popFirst() { return (responder, .responder) }
    if let requester = requesters.popFirst() { return (requester, .requester) }
    return responders.popFirst().map { ($0, .responder) }
  }

  // MARK: The atomic unit

  /// Atomics of all queue pairs are executed one at a time, which is what makes them atomic.
  private var atomicOwner: Int?
  private var atomicWaiting = RDMALine<Int>()

  /// Takes the atomic unit. - Returns: false where another has it; the queue pair then is in the line for it.
  mutating func takeAtomicUnit(_ queuePair: Int) -> Bool {
    if atomicOwner == nil || atomicOwner == queuePair {
      atomicOwner = queuePair
      return true
    }
    atomicWaiting.append(queuePair)
    return false
  }

  /// Hands the atomic unit to the next in line, where that queue pair has it.
  mutating func releaseAtomicUnit(of queuePair: Int) {
    guard atomicOwner == queuePair else { return }
    atomicOwner = atomicWaiting.popFirst()
    if let next = atomicOwner { enlist(next, .responder) }
  }

  /// Forgets who waits for what, and makes all timers void.
  mutating func forgetActivity() {
    requesters = RDMALine()
    responders = RDMALine()
    atomicOwner = nil
    atomicWaiting = RDMALine()
    epoch &+= 1
  }
}
