// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// An RDMA NIC as a function of the fabric: what reaches its BAR, and the states through which its driver takes it.
///
/// | arc | NIC |
/// |---|---|
/// | into a P2P state | Suspend-Active; done when it is quiet |
/// | on into a stopped state | Suspend-Passive, from the command on |
/// | out of a stopped state | Resume-Passive, at the end of the arc |
/// | into RUNNING, PRE_COPY | Resume-Active, at the end of the arc |
/// | into RESUMING | it forgets all objects |
///
/// An arc over both phases does one after the other. The rest (saving or not) changes nothing of what it does.
struct NICFunction: Sendable {
  enum Input: Sendable {
    /// Something has arrived over the fabric. (Commands arrive as ``setState(_:number:)``, because one may arrive at the PF.)
    case packet(FabricPacket)
    /// Something has arrived from the network.
    case network(RDMAPacket)
    /// Its driver's command to go to that state, one that its driver's graph allows.
    case setState(MigrationState, number: UInt64)
    /// What it asked to get back.
    case event(Event)
    /// It fails: it is in ERROR at once, and only a reset brings it back.
    case fail
    /// A reset: nothing is left, and it is in RUNNING.
    case reset
  }

  /// To be handed back at its time.
  enum Event: Hashable, Sendable {
    case timer(RDMATimer)
    /// The time that an arc takes is over.
    case arc(number: UInt64)
  }

  /// What follows.
  enum Output: Hashable, Sendable {
    /// It writes or reads at an address of its own view, or interrupts.
    case access(RDMAFabricRequest)
    /// It sends to the network.
    case send(RDMAPacket)
    /// It answers a read of its BAR.
    case reply(FabricPacket.Body, to: Int)
    /// It has done what that command asked for: to be sent from its control node, behind what it wrote before.
    case commandReply(number: UInt64)
    /// Hand this back at that time.
    case later(Event, at: MonotonicTime)
    /// This arrived where it must not: it is lost.
    case arrivedWhileStopped(FabricPacket)
  }

  private struct Arc: Sendable {
    let target: MigrationState
    let number: UInt64
    var awaitsQuiet: Bool
    var awaitsTime = true
  }

  /// How long a change of state takes, at least.
  let arcMicroseconds: UInt64
  /// The NIC itself; its image is read and loaded here.
  var nic: RDMANIC
  /// The state that it is in; in the middle of an arc, the one that it leaves.
  private(set) var state = MigrationState.running
  private var arc: Arc?
  /// Reads that nobody waits for any more, and whose replies are still to come.
  private var lateReplies = 0
  private var results: [RDMANIC.Output] = []

  init(_ nic: RDMANIC, arcMicroseconds: UInt64 = 20) {
    self.nic = nic
    self.arcMicroseconds = arcMicroseconds
  }

  mutating func handle(_ input: Input, at now: MonotonicTime, into outputs: inout [Output]) {
    switch input {
    case .packet(let packet): take(packet, at: now, &outputs)
    case .network(let packet): drive(.packet(packet), at: now, &outputs)
    case .setState(let target, let number): begin(target, number, at: now, &outputs)
    case .event(.timer(let timer)): drive(.timer(timer), at: now, &outputs)
    case .event(.arc(let number)):
      guard arc?.number == number else { return }
      arc?.awaitsTime = false
      finishArc(at: now, &outputs)
    case .fail:
      arc = nil
      state = .error
      abandonReads()
      drive(.suspendPassive, at: now, &outputs)
    case .reset:
      arc = nil
      state = .running
      abandonReads()
      nic.reset()
    }
  }

  /// What is still read is answered later, perhaps when the device is stopped; that is nobody's fault.
  private mutating func abandonReads() { lateReplies += nic.resources.readsUnderWay }

  private mutating func take(_ packet: FabricPacket, at now: MonotonicTime, _ outputs: inout [Output]) {
    if case .readReply(let tag, _) = packet.body, lateReplies > 0,
      !nic.resources.awaits(tag: UInt32(truncatingIfNeeded: tag))
    {
      lateReplies -= 1
      return
    }
    guard state != .error else { return }
    guard nic.activity != .stopped else {
      outputs.append(.arrivedWhileStopped(packet))
      return
    }
    switch packet.body {
    case .write(let address, let words):
      if let word = words.first, let doorbell = RDMADoorbell(offset: address, word: word) {
        drive(.doorbell(doorbell), at: now, &outputs)
      }
    case .readReply(let tag, let words):
      drive(.readReply(tag: UInt32(truncatingIfNeeded: tag), words: words), at: now, &outputs)
    case .read(_, _, let tag): outputs.append(.reply(.readReply(tag: tag, words: []), to: packet.from))
    default: break
    }
  }

  private mutating func drive(_ input: RDMANIC.Input, at now: MonotonicTime, _ outputs: inout [Output]) {
    var isQuiet = false
    var taken: [RDMANIC.Output] = []
    swap(&taken, &results)
    taken.removeAll(keepingCapacity: true)
    nic.handle(input, at: now, into: &taken)
    for output in taken {
      switch output {
      case .fabric(let request): outputs.append(.access(request))
      case .send(let packet): outputs.append(.send(packet))
      case .timer(let after, let timer): outputs.append(.later(.timer(timer), at: now.adding(microseconds: after)))
      case .quiesced: isQuiet = true
      // Nothing is handed to a stopped NIC.
      case .violation: break
      }
    }
    swap(&taken, &results)
    if isQuiet, arc?.awaitsQuiet == true {
      arc?.awaitsQuiet = false
      if arc?.target.mayWriteMemory == false { drive(.suspendPassive, at: now, &outputs) }
      finishArc(at: now, &outputs)
    }
  }

  // MARK: States

  private mutating func begin(
    _ target: MigrationState, _ number: UInt64, at now: MonotonicTime, _ outputs: inout [Output]
  ) {
    guard state != .error else { return }
    let suspends = state.mayStartPeerTransfers && !target.mayStartPeerTransfers
    arc = Arc(target: target, number: number, awaitsQuiet: suspends)
    if suspends {
      drive(.suspendActive, at: now, &outputs)
    } else if state.mayWriteMemory, !target.mayWriteMemory {
      drive(.suspendPassive, at: now, &outputs)
    } else if target == .resuming {
      nic.reset()
      drive(.suspendPassive, at: now, &outputs)
    }
    outputs.append(.later(.arc(number: number), at: now.adding(microseconds: arcMicroseconds)))
  }

  private mutating func finishArc(at now: MonotonicTime, _ outputs: inout [Output]) {
    guard let arc, !arc.awaitsQuiet, !arc.awaitsTime else { return }
    self.arc = nil
    let before = state
    state = arc.target
    if !before.mayWriteMemory, state.mayWriteMemory { drive(.resumePassive, at: now, &outputs) }
    if !before.mayStartPeerTransfers, state.mayStartPeerTransfers {
      abandonReads()
      drive(.resumeActive, at: now, &outputs)
    }
    outputs.append(.commandReply(number: arc.number))
  }
}
