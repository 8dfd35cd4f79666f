// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Synchronization

/// Guest memory that moves, and a word to the VMM's session of each thing that happens to it.
final class ObservedMemory: MovingMemory {
  private let memory: any MovingMemory
  private let tracking: GuestTracking
  private let mailbox: HelperMailbox
  private let sent = Atomic<UInt64>(0)
  private let failuresTold = Atomic(0)
  private let isLast = Atomic(false)

  init(_ memory: any MovingMemory, _ tracking: GuestTracking, _ mailbox: HelperMailbox) {
    self.memory = memory
    self.tracking = tracking
    self.mailbox = mailbox
    failuresTold.store(tracking.failures.count, ordering: .relaxed)
  }

  func read(_ moment: DirtyMoment) -> DirtyReading {
    let reading = memory.read(moment)
    isLast.store(moment == .last, ordering: .relaxed)
    tellFailures()
    mailbox.put(.pagesRead(moment, dirty: reading.pages))
    return reading
  }

  func restartTracking(device: Int) {
    memory.restartTracking(device: device)
    tellFailures()
  }

  func send() throws(MovingMemoryError) -> UInt64 {
    let bytes = try memory.send()
    mailbox.put(.memoryMoved(sent.wrappingAdd(bytes, ordering: .relaxed).newValue))
    // The other side waits for this end too, and once the session is over nothing can be sent any more.
    if isLast.load(ordering: .relaxed), let sender = memory as? GuestMemorySender { try sender.finish() }
    return bytes
  }

  func cancel() { memory.cancel() }

  private func tellFailures() {
    let failures = tracking.failures
    for failure in failures.dropFirst(failuresTold.load(ordering: .relaxed)) { mailbox.tell(failure) }
    failuresTold.store(failures.count, ordering: .relaxed)
  }
}

extension HelperMailbox {
  /// A tracker has failed.
  func tell(_ failure: TrackedMemory.Failure) {
    for replacement in failure.replacements {
      put(.trackerReplaced(replacement.device, "\(failure.error); tracked by \(replacement.kind) from now on"))
    }
  }
}
