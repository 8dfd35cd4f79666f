// SPDX-License-Identifier: Apache-2.0

// The two phases of suspend and resume (DA12), between packets or by draining messages (DA4).
extension RDMANIC {
  mutating func suspendActive() {
    guard resources.activity == .running else { return }
    if configuration.quiescing == .drainingMessages {
      resources.activity = .draining
    } else {
      fallQuiet()
    }
  }

  /// No packet, no new read. What the fabric still owes is waited for, and not used.
  mutating func fallQuiet() {
    resources.activity = .quiet
    resources.forgetActivity()
    if resources.readsUnderWay == 0 { resources.outputs.append(.quiesced) }
  }

  mutating func suspendPassive() {
    resources.activity = .stopped
    resources.forgetActivity()
    resources.abandonReads()
  }

  mutating func resumePassive() {
    if resources.activity == .stopped { resources.activity = .quiet }
  }

  /// Looks through all queue pairs for those that have work, and lets each send again from its oldest packet without an
  /// acknowledgement. Timers, retry counts and congestion begin anew.
  mutating func resumeActive() {
    guard resources.activity == .quiet || resources.activity == .draining else { return }
    resources.activity = .running
    resources.forgetActivity()
    // On the way back from a suspend that was not complete, some reads are under way that nobody wants any more.
    resources.abandonReads()
    resources.busyQueuePairs = 0
    for index in queuePairs.indices { restart(index) }
    // A NIC that has no connections has nobody to tell: another host's may have this address.
    if !queuePairs.isEmpty { announce(0) }
  }

  /// Tells switches where this address is now: several times, in case one gets lost.
  mutating func announce(_ round: UInt32) {
    resources.outputs.append(
      .send(
        RDMAPacket(
          source: configuration.networkAddress, destination: RDMAPacket.broadcast, queuePair: 0,
          psn: PacketSequenceNumber(0), operation: .announcement)))
    guard round + 1 < configuration.announcements else { return }
    let timer = RDMATimer(queuePair: RDMATimer.announcement, generation: round + 1, epoch: resources.epoch)
    let wait = UInt64(configuration.announcementMicroseconds) << UInt64(min(round, 31))
    resources.outputs.append(.timer(after: wait, timer))
  }

  private mutating func restart(_ index: Int) {
    let next = queuePairs[index].unacknowledged
    queuePairs[index].transient = RDMAQueuePair.Transient(next: next)
    if let posted = queuePairs[index].heldBack {
      queuePairs[index].posted = posted
      queuePairs[index].heldBack = nil
    }
    guard queuePairs[index].isBusy else { return }
    resources.busyQueuePairs += 1
    queuePairs[index].transient.awaitsRead = true
    resources.enlist(index, .requester)
  }
}
