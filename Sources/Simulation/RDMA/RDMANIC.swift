// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// A timer that a NIC asked for. It comes back as it was given; one that is void by then is ignored.
struct RDMATimer: Hashable, Sendable {
  /// The place of a queue pair, or ``announcement``.
  let queuePair: UInt32
  let generation: UInt32
  let epoch: UInt32

  static let announcement = UInt32.max
}

/// An RDMA NIC in the manner of ConnectX: reliable connections, and what it takes to move them to another NIC.
///
/// It is a value that takes an input and gives outputs. The work for an input does not grow with the number of queue
/// pairs; only a resume looks at all of them.
struct RDMANIC: Sendable {
  /// What it is like. None of it is in the image: source and destination are made alike.
  struct Configuration: Hashable, Sendable {
    /// Its address on the network. The host gives it; a device's image does not carry it.
    var networkAddress: UInt32
    /// Packets of a queue pair that may be without an acknowledgement: 1 to 1,024.
    var windowPackets = 16
    /// Work requests or receives that one read takes from a queue.
    var workPerRead = 4
    /// Packets whose data one read takes from memory.
    var packetsPerRead = 8
    /// An acknowledgement is asked for after so many packets of a message, beside the one for its last.
    var packetsPerAcknowledgement = 8
    /// Reads that may be under way on the fabric: 1 to 65,536.
    var mostOutstandingReads = 64
    /// Microseconds that a peer is to wait where no receive is posted.
    var receiverNotReadyMicroseconds: UInt32 = 100
    /// How often it says after a resume where it is now, and microseconds from the first to the second time; the time
    /// to the next doubles.
    var announcements: UInt32 = 5
    var announcementMicroseconds: UInt32 = 500
    /// How Suspend-Active brings it to rest.
    var quiescing = Quiescing.betweenPackets

    init(networkAddress: UInt32) { self.networkAddress = networkAddress }
  }

  /// How Suspend-Active brings it to rest (DA4).
  enum Quiescing: Hashable, Sendable {
    /// At once, between two packets. A message half sent stays half sent.
    case betweenPackets
    /// Once every work request that was posted is finished: what the paper argues against, for comparison.
    case drainingMessages
  }

  enum Input: Sendable {
    case doorbell(RDMADoorbell)
    case packet(RDMAPacket)
    /// The answer to a read; another count of words than was asked for says that it failed.
    case readReply(tag: UInt32, words: [UInt64])
    case timer(RDMATimer)
    /// Enter a P2P state: says ``Output/quiesced`` once nothing is under way. As ConnectX does, it sends no request and
    /// drops what the network brings from then on; doorbells are taken.
    case suspendActive
    /// Enter STOP.
    case suspendPassive
    /// Leave STOP for a P2P state.
    case resumePassive
    /// Leave the P2P state for RUNNING.
    case resumeActive
  }

  enum Output: Hashable, Sendable {
    case fabric(RDMAFabricRequest)
    case send(RDMAPacket)
    /// Give the timer back after so many microseconds.
    case timer(after: UInt64, RDMATimer)
    /// Suspend-Active is complete: all reads are answered, and every write was handed to the fabric.
    case quiesced
    /// Something arrived while it was stopped. The judge wants to know.
    case violation(Violation)
  }

  /// What should not have come to a stopped device.
  enum Violation: Hashable, Sendable {
    case doorbell(RDMADoorbell)
    case readReply(tag: UInt32)
  }

  /// What has happened so far. It is not in the image.
  struct Counters: Hashable, Sendable {
    var sentPackets = 0
    var retransmittedPackets = 0
    var receivedPackets = 0
    /// Dropped because the device was suspended, or too busy.
    var droppedPackets = 0
    /// Dropped by the in-bound limit.
    var limitedPackets = 0
    /// For a queue pair that is not there, or not for its peer.
    var strayPackets = 0
    /// Requests that had been executed before.
    var duplicateRequests = 0
    var timeouts = 0
    /// Atomics executed.
    var atomics = 0
    var badDoorbells = 0
    var failedQueuePairs = 0
  }

  var resources: RDMAResources
  var queuePairs: [RDMAQueuePair] = []
  var queuePairIndex = NumberIndex()
  /// What each record of the image is, but for the first, which is the device's own.
  var objects: [RDMAObject] = []
  /// What the device's own record said last; nil until one was loaded.
  var statedRecords: Int?
  private var inboundLimit: RDMAInboundLimit?

  /// A NIC without objects, running.
  init(_ configuration: Configuration) {
    resources = RDMAResources(configuration)
    resources.changes.note(0)
  }

  var counters: Counters { resources.counters }
  var activity: RDMAResources.Activity { resources.activity }
  var configuration: Configuration { resources.configuration }

  /// Whether peers can reach something behind it: it takes part in the network, and has connections.
  var isServing: Bool { resources.isActive && !queuePairs.isEmpty }

  /// Queue pairs with work that is not finished.
  var busyQueuePairs: Int { resources.busyQueuePairs }

  /// Whether what it takes from the network is limited.
  var isLimited: Bool { inboundLimit != nil }

  /// Limits what it takes from the network (DA9), or lifts the limit.
  mutating func setInboundLimit(_ limit: RDMAInboundLimit?) { inboundLimit = limit }

  /// The guest's reset: no object is left, and nothing that was under way counts any more.
  mutating func reset() {
    var next = RDMANIC(configuration)
    next.resources.counters = counters
    next.resources.inherit(from: resources)
    next.inboundLimit = inboundLimit
    self = next
  }

  // MARK: Events

  /// Takes an input. - Returns: what comes of it, in its order.
  mutating func handle(_ input: Input, at now: MonotonicTime) -> [Output] {
    var outputs: [Output] = []
    handle(input, at: now, into: &outputs)
    return outputs
  }

  /// Takes an input, and appends what comes of it.
  mutating func handle(_ input: Input, at now: MonotonicTime, into outputs: inout [Output]) {
    resources.now = now.microseconds
    swap(&resources.outputs, &outputs)
    defer { swap(&resources.outputs, &outputs) }
    switch input {
    case .packet(let packet): take(packet)
    case .doorbell(let doorbell): take(doorbell)
    case .readReply(let tag, let words): takeRead(tag: tag, words)
    case .timer(let timer): take(timer)
    case .suspendActive: suspendActive()
    case .suspendPassive: suspendPassive()
    case .resumePassive: resumePassive()
    case .resumeActive: resumeActive()
    }
    if resources.activity == .draining, resources.busyQueuePairs == 0 { fallQuiet() }
    serveWaiting()
  }

  private mutating func take(_ packet: RDMAPacket) {
    guard packet.destination == resources.networkAddress else { return }
    guard resources.isActive else {
      resources.counters.droppedPackets += 1
      return
    }
    if inboundLimit != nil, inboundLimit?.admits(at: resources.now) == false {
      resources.counters.limitedPackets += 1
      return
    }
    guard let index = queuePairIndex[packet.queuePair] else {
      resources.counters.strayPackets += 1
      return
    }
    resources.counters.receivedPackets += 1
    resources.changes.note(queuePairs[index].record)
    queuePairs[index].take(packet, &resources)
  }

  private mutating func take(_ doorbell: RDMADoorbell) {
    guard resources.activity != .stopped else {
      resources.outputs.append(.violation(.doorbell(doorbell)))
      return
    }
    guard let index = queuePairIndex[doorbell.queuePair] else {
      resources.counters.badDoorbells += 1
      return
    }
    resources.changes.note(queuePairs[index].record)
    queuePairs[index].take(doorbell, &resources)
  }

  private mutating func take(_ timer: RDMATimer) {
    guard timer.epoch == resources.epoch, resources.isActive else { return }
    if timer.queuePair == RDMATimer.announcement { return announce(timer.generation) }
    let index = Int(timer.queuePair)
    guard index < queuePairs.count else { return }
    resources.changes.note(queuePairs[index].record)
    queuePairs[index].takeTimer(generation: timer.generation, &resources)
  }

  private mutating func takeRead(tag: UInt32, _ words: [UInt64]) {
    guard resources.activity != .stopped else {
      resources.outputs.append(.violation(.readReply(tag: tag)))
      return
    }
    guard let (index, role) = resources.finishRead(tag: tag) else { return }
    guard resources.isActive else {
      // What was to be done with it is done anew after the resume.
      if resources.readsUnderWay == 0 { resources.outputs.append(.quiesced) }
      return
    }
    resources.changes.note(queuePairs[index].record)
    if role == .requester {
      queuePairs[index].takeRequesterData(words, &resources)
    } else {
      queuePairs[index].takeResponderData(words, &resources)
    }
  }

  /// Lets those go on that waited for a read, as far as reads are free.
  private mutating func serveWaiting() {
    while resources.isActive, let (index, role) = resources.takeWaiting() {
      resources.changes.note(queuePairs[index].record)
      if role == .requester {
        guard queuePairs[index].transient.awaitsRead else { continue }
        queuePairs[index].transient.awaitsRead = false
        queuePairs[index].transmit(&resources)
      } else if queuePairs[index].transient.awaitsResponderRead {
        queuePairs[index].continueTask(&resources)
      } else if queuePairs[index].transient.task == nil {
        resources.releaseAtomicUnit(of: index)
      }
    }
  }
}
