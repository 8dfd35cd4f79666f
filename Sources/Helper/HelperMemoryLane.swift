// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import Synchronization
internal import Transport

/// Guest memory of one VM: what is mapped, who tracks it, and how it moves. Changes are made one after the other on a lane.
final class HelperMemoryLane: Sendable {
  private struct State {
    /// The files that came with ranges.
    var files: [GuestMemoryFiles.Part] = []
    /// The devices that are tracked.
    var tracked: [UInt32] = []
    var lent: LentBitmap?
  }

  /// A device to be tracked.
  struct Tracked: Sendable {
    let id: UInt32
    let space: UInt32
    let choice: TrackerChoice
  }

  private let mailbox: HelperMailbox
  private let lane: Lane
  private let tracking: GuestTracking
  private let state = Mutex(State())

  init(limits: HelperLimits, mailbox: HelperMailbox) throws(SystemError) {
    self.mailbox = mailbox
    tracking = GuestTracking(maximumMappings: limits.mappings, maximumBitmapBytes: limits.bitmap)
    lane = try Lane(name: "memory changes")
  }

  /// - Parameter devices: asked for when the trackers are started.
  func perform(
    _ number: UInt32, _ task: HelperSession.Task, _ carried: Carried,
    devices: @escaping @Sendable () throws(HelperFailure) -> [Tracked]
  ) {
    // The bitmap comes back while a reading may wait for that.
    if case .takeBack(let bytes, let isLast) = task { return takeBack(number, bytes, isLast: isLast) }
    lane.put { [self] in
      do throws(HelperFailure) {
        switch task {
        case .addMemory(let memory): try add(memory, carried)
        case .addMapping(let mapping):
          try asking { () throws(GuestTrackingError) in try tracking.addMapping(mapping.run(), in: mapping.space) }
        case .removeMapping(let mapping):
          try asking { () throws(GuestTrackingError) in try tracking.removeMapping(mapping.run(), in: mapping.space) }
        case .startTracking(let pageSize): return try start(number, pageSize, devices())
        case .readTracking:
          let reading = tracking.read()
          return mailbox.put(.finished(number, bitmap(dirty: reading.pages)))
        case .addDirtyPages: try addDirtyPages(carried)
        case .stopTracking: try stop()
        default: break
        }
        mailbox.put(.finished(number, .done))
      } catch {
        mailbox.put(.finished(number, .failure(error)))
      }
    }
  }

  private func asking<Result>(
    _ body: () throws(GuestTrackingError) -> Result
  ) throws(HelperFailure) -> Result {
    do throws(GuestTrackingError) {
      return try body()
    } catch {
      throw HelperFailure(error)
    }
  }

  private func add(_ memory: HelperMemory, _ carried: Carried) throws(HelperFailure) {
    var file: MemoryFile?
    if let offset = memory.fileOffset {
      guard let descriptor = carried.takeFirst() else {
        throw HelperFailure(.badPacket, "the file of guest memory is missing")
      }
      do throws(MemoryFileError) {
        file = try MemoryFile(
          owning: descriptor, offset: offset, size: memory.guest.upperBound - memory.guest.lowerBound,
          access: .readAndWrite)
      } catch {
        throw HelperFailure(.refused, errno: ErrorNumber(rawValue: error.errno), "\(error)")
      }
    }
    try asking { () throws(GuestTrackingError) in try tracking.addMemory(memory.guest) }
    if let mapping = memory.mapping {
      do throws(HelperFailure) {
        try asking { () throws(GuestTrackingError) in try tracking.addMapping(mapping.run(), in: mapping.space) }
      } catch {
        tracking.removeMemory(memory.guest)
        throw error
      }
    }
    if let file { state.withLock { $0.files.append(GuestMemoryFiles.Part(guest: memory.guest, file: file)) } }
  }

  // MARK: Tracking

  private func bitmap(dirty: UInt64) -> HelperReply {
    let layout = tracking.layout
    return .bitmap(pageSize: layout?.pageSize ?? 0, words: UInt64(layout?.wordCount ?? 0), dirty: dirty)
  }

  private func start(_ number: UInt32, _ pageSize: UInt64, _ devices: [Tracked]) throws(HelperFailure) {
    let told = tracking.failures.count
    do throws(HelperFailure) {
      for device in devices {
        try asking { () throws(GuestTrackingError) in
          try tracking.addDevice(device.id, space: device.space, device.choice)
        }
        state.withLock { $0.tracked.append(device.id) }
      }
      let file = try asking { () throws(GuestTrackingError) in
        Carried(ReceivedDescriptors(first: try tracking.start(pageSize: pageSize)))
      }
      guard let descriptor = file.takeFirst() else { preconditionFailure("a bitmap has a file") }
      for failure in tracking.failures.dropFirst(told) { mailbox.tell(failure) }
      mailbox.put(.finished(number, bitmap(dirty: tracking.count()?.pages ?? 0)), with: descriptor)
    } catch {
      try? stop()
      throw error
    }
  }

  private func stop() throws(HelperFailure) {
    // What a tracker that is turned off has to say costs nothing.
    _ = tracking.stop()
    let tracked = state.withLock { state in
      defer { state.tracked = [] }
      return state.tracked
    }
    for id in tracked { try asking { () throws(GuestTrackingError) in try tracking.removeDevice(id) } }
  }

  /// A device goes: it is tracked no longer.
  /// - Parameter next: done then.
  func forget(_ id: UInt32, then next: @escaping @Sendable () -> Void) {
    lane.put { [self] in
      let isTracked = state.withLock { state in
        let isTracked = state.tracked.contains(id)
        state.tracked.removeAll { $0 == id }
        return isTracked
      }
      if isTracked { try? tracking.removeDevice(id) }
      next()
    }
  }

  /// What the VMM knows to be dirty, the vCPUs' writes above all, in a bitmap like the helper's.
  private func addDirtyPages(_ carried: Carried) throws(HelperFailure) {
    let count = tracking.layout?.wordCount ?? 0
    let most = 1 << 13
    var done = 0
    let file = try carried.file()
    while done < count {
      let words = min(most, count - done)
      let bytes = try file.bytes(at: UInt64(done * 8), count: words * 8)
      tracking.add(bytes.span, atWord: done)
      done += words
    }
  }

  /// The VMM has sent what is clear in the bitmap.
  private func takeBack(_ number: UInt32, _ bytes: UInt64, isLast: Bool) {
    let lent = state.withLock { $0.lent }
    if isLast, let left = tracking.count(), left.pages > 0 {
      let failure = HelperFailure(
        .refused, "\(left.pages) pages are still set in the bitmap: send them, and clear them")
      return mailbox.put(.finished(number, .failure(failure)))
    }
    lent?.handBack(bytesSent: bytes)
    mailbox.put(.finished(number, .done))
  }

  // MARK: Moves

  /// Guest memory that moves with a session; nil where it does not.
  /// - Parameter devices: in the session's order.
  func moving(
    _ pages: HelperSave.Pages, _ devices: [UInt32], _ carried: Carried
  ) throws(HelperFailure) -> ObservedMemory? {
    switch pages {
    case .none: return nil
    case .byVMM:
      let lent = LentBitmap(tracking, devices: devices) { _ in }
      state.withLock { $0.lent = lent }
      return ObservedMemory(lent, tracking, mailbox)
    case .byHelper:
      let files = try files()
      let channel = try carried.memoryChannel()
      do throws(MovingMemoryError) {
        return ObservedMemory(
          try GuestMemorySender(tracking, devices: devices, files: files, channel: channel, checksum: .xxh3), tracking,
          mailbox)
      } catch {
        throw HelperFailure(.refused, errno: error.errno, "\(error)")
      }
    }
  }

  private func files() throws(HelperFailure) -> GuestMemoryFiles {
    let parts = state.withLock { $0.files.sorted { $0.guest.lowerBound < $1.guest.lowerBound } }
    guard parts.map(\.guest) == tracking.ranges else {
      throw HelperFailure(.refused, "a range of guest memory has no file, so that the helper can't move it")
    }
    do throws(DirtyBitmapError) {
      return try GuestMemoryFiles(parts)
    } catch {
      throw HelperFailure(.badArgument, "\(error)")
    }
  }

  /// Takes in guest memory over a connection of its own.
  /// - Parameter failed: told where that breaks off.
  func receive(
    _ carried: Carried, failed: @escaping @Sendable (String) -> Void
  ) throws(HelperFailure) -> ArrivingMemory {
    let files = try files()
    let channel = try carried.memoryChannel()
    do throws(SystemError) {
      return try ArrivingMemory(files, channel, mailbox, failed: failed)
    } catch {
      throw HelperFailure(error)
    }
  }

  /// Lets go of all memory and trackers.
  func letGo() {
    lane.put { [self] in
      try? stop()
      state.withLock { $0 = State() }
    }
  }
}

/// Guest memory on its way in, and how that ended.
final class ArrivingMemory: Sendable {
  private let receiver: GuestMemoryReceiver

  fileprivate init(
    _ files: GuestMemoryFiles, _ channel: any Channel, _ mailbox: HelperMailbox,
    failed: @escaping @Sendable (String) -> Void
  ) throws(SystemError) {
    let ended = Ended()
    self.ended = ended
    receiver = try GuestMemoryReceiver(into: files, channel: channel, checksum: .xxh3) { error in
      ended.error.withLock { $0 = error }
      if let error, error != .cancelled { failed("\(error)") }
    }
  }

  private final class Ended: Sendable { let error = Mutex<GuestMemoryError?>(nil) }
  private let ended: Ended

  /// Waits for its end, after everything else has come.
  /// - Returns: what went wrong, where something did.
  func wait() -> GuestMemoryError? {
    receiver.join()
    return ended.error.withLock { $0 }
  }

  var bytesReceived: UInt64 { receiver.bytesReceived }
  func cancel() { receiver.cancel() }
}

extension HelperMapping {
  /// As trackers take it.
  func run() throws(GuestTrackingError) -> MappedRun {
    do throws(MappedMemoryError) {
      return try MappedRun(addresses, guest: guest)
    } catch {
      throw .mapping(space: space, error)
    }
  }
}

extension HelperFailure {
  /// What tracks guest memory refuses.
  init(_ error: GuestTrackingError) {
    switch error {
    case .isTracked, .isNotTracked: self.init(.wrongPhase, "\(error)")
    case .deviceExists: self.init(.exists, "\(error)")
    case .noSuchDevice: self.init(.noSuch, "\(error)")
    case .memory(.order), .mapping(_, .overlap): self.init(.exists, "\(error)")
    case .mapping(_, .notMapped): self.init(.noSuch, "\(error)")
    case .memory, .mapping: self.init(.badArgument, "\(error)")
    case .tooManyMappings, .bitmapTooLarge: self.init(.limit, "\(error)")
    case .system(let cause): self.init(cause)
    }
  }
}
