// SPDX-License-Identifier: Apache-2.0
public import Migration

/// One VM's session as a VMM drives it: requests in, actions out. No descriptors, no threads, no clock.
///
/// It knows what may be asked when (docs/helper-protocol.md has the table), which requests still wait for their reply, and
/// what a failure means for each of them. What an action finds comes back as an input.
public struct HelperSession: Sendable {
  /// What is carried out for one request, and answered with ``Input/finished(_:_:)``.
  public enum Task: Hashable, Sendable {
    /// Take over the request's descriptors, and see what the device is.
    case adopt(HelperDevice)
    /// See what the device is now.
    case describe(UInt32)
    /// Change its state.
    case arc(UInt32, MigrationState)
    /// Reset these, one after the other, and see what the last of them is.
    case reset([UInt32])
    /// Close all that is held of a device.
    case release(UInt32)
    /// Take the request's file for the device's blob.
    case keepBlob(UInt32, offset: UInt64, size: UInt32)
    /// Take what the request's file says of the device into its tag.
    case takeTag(UInt32, offset: UInt64, size: UInt32)
    /// Give the blob that came for the device.
    case giveBlob(UInt32)
    /// Take in memory, with the request's descriptor where there is one.
    case addMemory(HelperMemory)
    /// Map.
    case addMapping(HelperMapping)
    /// Read for the last time what was mapped, and unmap it.
    case removeMapping(HelperMapping)
    /// Start the trackers.
    case startTracking(pageSize: UInt64)
    /// Read the trackers, and count.
    case readTracking
    /// Add the pages that are set in the request's file.
    case addDirtyPages
    /// Stop the trackers.
    case stopTracking
    /// Take the bitmap back: what is clear in it was sent.
    case takeBack(bytesSent: UInt64, isLast: Bool)
    /// Make a session that saves these devices, with the request's descriptors, and let it run: done when it does.
    case save(HelperSave, [UInt32], [HelperLink])
    /// Make one that loads them, in the same way.
    case load(HelperLoad, [UInt32], [HelperLink])
    /// Make one that has them run, in the same way.
    case resume([UInt32], [HelperLink])
  }

  /// What the driver does.
  public enum Action: Hashable, Sendable {
    /// Answer the request.
    case reply(UInt32, HelperReply)
    /// Tell the VMM.
    case event(HelperEvent)
    /// Carry this out for the request of that number. Tasks about one device are done in the order in which they come, and so
    /// are those about memory.
    case perform(UInt32, Task)
    /// Give the running session an order. ``SessionOrder/finish(vmmStates:)`` gets its states from the blobs that were kept.
    case order(Order)
    /// End the running session: everything goes back.
    case interrupt(String)
    /// Have the running session give a device up.
    case declareDead(UInt32)
    /// Forget the blobs that were given so far.
    case forgetBlobs
    /// Close all that is held of every device.
    case letGo
    /// The session is over: close the connection and end, with this exit status and last line.
    case end(Int32, String?)
  }

  /// An order for the running session.
  public enum Order: Hashable, Sendable {
    /// The next round.
    case round
    /// The stop. No vCPU runs.
    case stop
    /// The end of the stream.
    case finish
  }

  /// What happened.
  public enum Input: Hashable, Sendable {
    /// The VMM asks.
    case request(UInt32, HelperRequest)
    /// A task is done.
    case finished(UInt32, HelperReply)
    /// The running session notes something.
    case note(SessionNote)
    /// Devices' progress, in the order of the running session.
    case progress([DeviceProgress])
    /// The trackers were read for the running session, and so many pages are dirty.
    case pagesRead(DirtyMoment, dirty: UInt64)
    /// The helper has sent so many bytes of guest memory in all, or taken them in.
    case memoryMoved(UInt64)
    /// A tracker has failed and was replaced.
    case trackerReplaced(DeviceName, String)
    /// The running session is over.
    case sessionEnded(SessionOutcome)
    /// The VMM has hung up.
    case hungUp
    /// The program is to end.
    case terminated(String)
  }

  /// What is known of a device.
  struct Device: Hashable, Sendable {
    var name: DeviceName
    var space: UInt32
    var info: HelperDeviceInfo?
    var isHung = false
    /// The most bytes that it has been given of the VMM's own.
    var blobBytes = 0
    /// The VMM has handed over its tag, or is about to.
    var hasTag = false
    var progress: DeviceProgress?
  }

  /// A request whose reply comes later, and what has to be taken back where it fails.
  enum Waiting: Hashable, Sendable {
    case task
    case adopt(UInt32)
    /// A device is asked, or has its state changed.
    case device(UInt32)
    /// A device's tag is taken in.
    case tag(UInt32)
    case memory(mappings: Int)
    case mapping
    case unmapping
    /// Pages become dirty.
    case marking
    case tracking
    /// A session begins to run.
    case begin
    /// The running session is to come to this.
    case step, quiesce, complete
    /// All devices are to run.
    case resume
    /// Everything is to go back.
    case abort
    /// The same for what was loaded, by resets.
    case empty
    /// Everything is to go back, and the device to be closed then.
    case remove(UInt32)
  }

  /// A pair of devices of which the VMM knows whether the first can write to the second.
  struct Link: Hashable, Sendable {
    var from: UInt32
    var to: UInt32
  }

  /// What the running session is.
  enum Run: Hashable, Sendable { case save, load, resume }

  let limits: HelperLimits
  let features: HelperFeatures
  let version: String
  var minor: UInt32?
  /// Where it is.
  public internal(set) var phase = HelperPhase.setup
  /// Where to go back to where running again can't begin.
  var phaseBefore = HelperPhase.setup
  var run: Run?
  /// The devices in the order in which they were added, which is that of the stream.
  var order: [UInt32] = []
  var devices: [UInt32: Device] = [:]
  var waiting: [UInt32: Waiting] = [:]
  var links: [Link: Bool] = [:]
  var memoryRanges = 0
  var mappings = 0
  var isTracking = false
  var pages = HelperSave.Pages.none
  var vcpusAreStopped = false
  var decision: PreCopyDecision?
  var dirty: UInt64 = 0
  var hasLastReading = false
  var memoryBytes: UInt64 = 0
  /// Why everything goes back, where the VMM wanted that.
  var isAborting = false
  var isOver = false

  /// A session that nobody has greeted yet.
  public init(limits: HelperLimits = HelperLimits(), features: HelperFeatures = .pages, version: String) {
    self.limits = limits
    self.features = features
    self.version = version
  }

  /// Takes what happened.
  public mutating func handle(_ input: Input) -> [Action] {
    if isOver { return [] }
    switch input {
    case .request(let number, let request): return take(request, number)
    case .finished(let number, let reply): return finish(number, reply)
    case .note(let note): return take(note)
    case .progress(let all): return take(all)
    case .pagesRead(let moment, let dirty): return takePages(moment, dirty)
    case .memoryMoved(let bytes):
      memoryBytes = bytes
      return []
    case .trackerReplaced(let name, let text):
      let device = order.first { devices[$0]?.name == name } ?? 0
      return [.event(.tracker(device: device, phase, text))]
    case .sessionEnded(let outcome): return end(outcome)
    case .hungUp: return stop("the VMM is gone", "; all is closed, and the kernel resets PCI devices")
    case .terminated(let reason): return stop(reason, "")
    }
  }

  /// Where each device was last known to be, in words.
  var whereDevicesAre: String {
    let words = order.map { id in
      let device = devices[id]
      return "\(device.map { "\($0.name)" } ?? "") \(device?.info?.state?.name ?? "unknown")"
    }
    return words.isEmpty ? "no devices" : words.joined(separator: ", ")
  }

  /// It ends wherever it is: nothing moves towards running. In the middle of something it leaves a record.
  private mutating func stop(_ reason: String, _ consequence: String) -> [Action] {
    isOver = true
    let isFarewell = run == nil && (phase == .setup || phase == .committed)
    if isFarewell { return [.end(0, nil)] }
    return [.end(1, "\(reason) in \(phase.name): \(whereDevicesAre)\(consequence)")]
  }

  /// The session goes to another phase.
  mutating func enter(_ next: HelperPhase) -> [Action] {
    if phase == next { return [] }
    phase = next
    return [.event(.phase(next))]
  }

  /// A device by its number.
  func device(_ id: UInt32) throws(HelperFailure) -> Device {
    guard let device = devices[id] else { throw HelperFailure(.noSuch, device: id, "device \(id) was not added") }
    return device
  }

  /// What the VMM knows of peer-to-peer, in the order of the devices' numbers.
  var declaredLinks: [HelperLink] {
    let all = links.filter { devices[$0.key.from] != nil && devices[$0.key.to] != nil }
    return all.map { HelperLink(from: $0.key.from, to: $0.key.to, isThere: $0.value) }
      .sorted { ($0.from, $0.to) < ($1.from, $1.to) }
  }

  /// What both sides call a device of the running session.
  func number(_ index: Int) -> UInt32 { order.indices.contains(index) ? order[index] : 0 }
}

extension HelperPhase {
  /// The name that messages use.
  public var name: String {
    switch self {
    case .setup: "setup"
    case .preCopy: "pre-copy"
    case .quiescing: "quiescing"
    case .stopped: "stopped"
    case .complete: "complete"
    case .committed: "committed"
    case .loading: "loading"
    case .loaded: "loaded"
    case .resuming: "resuming"
    case .goingBack: "going back"
    }
  }
}
