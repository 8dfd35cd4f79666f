// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// A GPU: memory behind a BAR, and a ring of kernels that work on it one after the other.
///
/// The BAR begins with the memory. The page behind it is registers: word 0 is the doorbell, to which the number of kernels
/// is written that were ever put into the ring; words 1 and 2 read as the numbers of those finished and of what was refused.
/// A write that reaches beyond the memory is dropped as a whole.
/// The ring is pages of the memory, one for each kernel, so that whoever can reach the BAR can fill it.
///
/// A kernel's work is done in virtual time, word by word. It is not stepped: what is done by a moment is worked out when somebody
/// looks, or writes, or stops it, so the memory is right at every moment and a kernel costs one event.
struct GPU: Sendable {
  /// What it is like.
  struct Configuration: Hashable, Sendable {
    /// Pages of its memory, without the registers.
    var memoryPages: Int
    /// The page at which the ring begins.
    var ringPage = 0
    /// How many kernels the ring holds.
    var ringEntries = 8
    /// How long a kernel works on a word; at least 1.
    var microsecondsPerWord: UInt64 = 1
    /// How long a change of state takes.
    var arcMicroseconds: UInt64 = 20
  }

  /// What can happen to it.
  enum Input: Hashable, Sendable {
    /// Something has arrived. (Commands arrive as ``setState(_:number:)``, because one may arrive at the PF.)
    case packet(FabricPacket)
    /// Its driver's command to go to that state, one that its driver's graph allows.
    case setState(MigrationState, number: UInt64)
    /// What it asked to get back.
    case event(Event)
    /// It fails: it is in ERROR at once, and only a reset brings it back.
    case fail
    /// A reset: nothing is left.
    case reset
  }

  /// To be handed back at its time.
  enum Event: Hashable, Sendable {
    /// A kernel may have come to its end.
    case kernel
    /// The state changes.
    case change(number: UInt64)
    /// The state has changed, and the driver is told.
    case changed(number: UInt64)
  }

  /// What follows.
  enum Output: Hashable, Sendable {
    /// It writes to an address of its own view: guest memory or a peer.
    case access(address: UInt64, words: [UInt64])
    /// It answers a read.
    case reply(FabricPacket.Body, to: Int)
    /// It has done what that command asked for: to be sent from its control node, behind what it wrote before.
    case commandReply(number: UInt64)
    /// Hand this back at that time.
    case later(Event, at: MonotonicTime)
    /// This arrived where it must not: it is lost.
    case arrivedWhileStopped(FabricPacket)
  }

  /// A write to a peer that is put off.
  struct Doorbell: Hashable, Sendable {
    var address: UInt64
    var value: UInt64
  }

  /// What the first kernel in the ring is doing. It was read from the ring when its turn came.
  struct Current: Hashable, Sendable {
    var kernel: GPUKernel
    /// Whether its flag was seen.
    var hasStarted = false
    /// Words that are done.
    var done = 0
    /// Microseconds of work on the next word.
    var worked: UInt64 = 0
    /// The digest of the output so far.
    var digest: UInt64 = 0
  }

  /// What it is like.
  let configuration: Configuration
  /// The state that it is in.
  var state = MigrationState.running
  /// What is behind the BAR.
  var memory: PagedMemory
  /// Kernels that were taken off the ring.
  var head: UInt64 = 0
  /// Kernels that were ever put into the ring.
  var tail: UInt64 = 0
  /// Kernels that were finished.
  var finished: UInt64 = 0
  /// Kernels that could not be run, and doorbell values that made no sense.
  var refused: UInt64 = 0
  /// Doorbells that wait for a state in which they may be rung, oldest first.
  var keptDoorbells: [Doorbell] = []

  /// The kernel whose turn it is.
  var current: Current?
  private var arc: (from: MigrationState, target: MigrationState, number: UInt64)?
  /// The records of the image that changed since they were last taken.
  var dirty: PageSet
  /// The records that an image has and that were not loaded since it entered RESUMING.
  var missing: PageSet
  /// Up to when the work is in the memory.
  var time = MonotonicTime(microseconds: 0)
  /// Whether an event will come at the end of the kernel that runs. One too many does no harm.
  var isScheduled = false

  /// A GPU in RUNNING with nothing in it. The ring must be within its memory.
  init(_ configuration: Configuration) {
    precondition(configuration.ringPage + configuration.ringEntries <= configuration.memoryPages)
    precondition(configuration.ringEntries > 0 && configuration.microsecondsPerWord > 0)
    self.configuration = configuration
    memory = PagedMemory(pages: configuration.memoryPages)
    dirty = PageSet(capacity: GPU.firstMemoryRecord + configuration.memoryPages)
    missing = dirty
    dirty.insert(0..<recordCount)
  }

  /// The address of the doorbell behind its BAR.
  var doorbellAddress: UInt64 { Page.address(configuration.memoryPages) }

  /// The address of the ring's page for the n-th kernel that is put into it, from 0.
  func ringAddress(_ number: UInt64) -> UInt64 {
    Page.address(configuration.ringPage + Int(number % UInt64(configuration.ringEntries)))
  }

  /// Whether it takes transfers: not from the beginning of an arc into a state that takes none, nor before the end of one out.
  var takesTransfers: Bool {
    guard let arc else { return state.mayWriteMemory }
    return arc.from.mayWriteMemory && arc.target.mayWriteMemory
  }

  mutating func handle(_ input: Input, at now: MonotonicTime, _ random: inout SeededGenerator) -> [Output] {
    catchUp(to: now)
    var outputs: [Output] = []
    switch input {
    case .packet(let packet): take(packet, &outputs)
    case .setState(let target, let number): begin(target, number, at: now, &random, &outputs)
    case .event(.kernel): break
    case .event(.change(let number)): change(number)
    case .event(.changed(let number)): end(number, &outputs)
    case .fail:
      arc = nil
      state = .error
      isScheduled = false
    case .reset:
      arc = nil
      clear()
      state = .running
    }
    proceed(at: now, &outputs)
    return outputs
  }

  // MARK: States

  /// An arc takes its time, and the device may do what either state allows: the change falls somewhere in it.
  private mutating func begin(
    _ target: MigrationState, _ number: UInt64, at now: MonotonicTime, _ random: inout SeededGenerator,
    _ outputs: inout [Output]
  ) {
    guard state != .error else { return }
    arc = (state, target, number)
    let end = configuration.arcMicroseconds
    let moment = UInt64(random.next(below: Int(end) + 1))
    outputs.append(.later(.change(number: number), at: now.adding(microseconds: moment)))
    outputs.append(.later(.changed(number: number), at: now.adding(microseconds: end)))
  }

  private mutating func change(_ number: UInt64) {
    guard let arc, arc.number == number else { return }
    state = arc.target
    isScheduled = isScheduled && state.mayWriteMemory
    if state == .resuming {
      clear()
      missing.insert(0..<recordCount)
    }
  }

  private mutating func end(_ number: UInt64, _ outputs: inout [Output]) {
    guard let arc, arc.number == number else { return }
    self.arc = nil
    outputs.append(.commandReply(number: number))
  }

  /// Nothing is left but the state.
  private mutating func clear() {
    memory = PagedMemory(pages: configuration.memoryPages)
    (head, tail, finished, refused) = (0, 0, 0, 0)
    keptDoorbells = []
    current = nil
    isScheduled = false
    dirty.insert(0..<recordCount)
  }

  // MARK: What arrives

  private mutating func take(_ packet: FabricPacket, _ outputs: inout [Output]) {
    guard state != .error else { return }
    guard takesTransfers else {
      outputs.append(.arrivedWhileStopped(packet))
      return
    }
    switch packet.body {
    case .write(let address, let words): write(address, words)
    case .read(let address, let count, let tag):
      outputs.append(.reply(.readReply(tag: tag, words: read(address, count)), to: packet.from))
    default: break
    }
  }

  private mutating func write(_ address: UInt64, _ words: [UInt64]) {
    if let range = memory.range(address, words.count) {
      for (index, word) in zip(range, words) { store(index, word) }
    } else if address == doorbellAddress, let value = words.first {
      // More than the ring holds can't be in it.
      if value >= tail, value - head <= UInt64(configuration.ringEntries) { tail = value } else { refused &+= 1 }
      dirty.insert(GPU.registersRecord)
    }
  }

  private func read(_ address: UInt64, _ count: Int) -> [UInt64] {
    if let words = memory.read(address, count) { return words }
    guard Page.number(address) == configuration.memoryPages, count == 1 else { return [] }
    switch address % Page.bytes {
    case 0: return [tail]
    case 8: return [finished]
    case 16: return [refused]
    default: return []
    }
  }

  mutating func store(_ index: Int, _ word: UInt64) {
    memory[index] = word
    dirty.insert(GPU.firstMemoryRecord + index / Page.words)
  }
}
