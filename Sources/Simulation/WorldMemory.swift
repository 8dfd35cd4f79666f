// SPDX-License-Identifier: Apache-2.0
internal import Migration

private let source = SimulatedSide.source.rawValue
private let destination = SimulatedSide.destination.rawValue

/// Guest memory on its way: the source's VMM reads trackers, sends pages and limits what comes in, as its session tells it to,
/// over the channel that the devices' state takes too.
extension SimulatedWorld {
  /// Pages of the guest; nil where no memory moves.
  var guestPages: Int? { machines?.guestPages ?? memoryModel?.configuration.pages }

  private var pageBytes: Int { scenario.world?.guestPageBytes ?? memoryModel?.configuration.pageBytes ?? 0 }

  // MARK: Reading

  /// Lets those who write to memory without content write up to now.
  mutating func runMemory() {
    guard memoryModel != nil else { return }
    let canWrite = hosts[source].devices.map(\.state.mayWriteMemory)
    let vcpusRun = !vcpusAreStopped && !isKilled[source]
    memoryModel?.run(until: now, canWrite: { $0.map { canWrite[$0] } ?? vcpusRun }, limits: inboundLimits)
  }

  mutating func endReading(_ moment: DirtyMoment) {
    guard !isDone(.source), let pages = guestPages else { return }
    runMemory()
    switch moment {
    case .first:
      machines?.setTracking(true, host: source)
      _ = machines?.takeDirtyPages(host: source)
      memoryModel?.beginTracking()
      mover.begin(pages: pages)
    case .next: takeDirty()
    case .last:
      if !mover.hasEarlyReading { takeDirty() }
      mover.isLast = true
      if sabotage == .droppedPage, !mover.waiting.isEmpty { mover.drop(chance.next(below: mover.waiting.count)) }
    }
    let dirty = UInt64(mover.waiting.count)
    deliver(.dirty(DirtyReading(pages: dirty, bytes: dirty * UInt64(8 + pageBytes))), to: .source)
  }

  private mutating func takeDirty() {
    if let dirty = machines?.takeDirtyPages(host: source) { mover.add(dirty) }
    // A copy of the model must not be made: it is large.
    if var model = memoryModel.take() {
      mover.add(from: &model)
      memoryModel = model
    }
  }

  /// A broken world takes this for the last reading.
  mutating func readTooEarly() {
    takeDirty()
    mover.hasEarlyReading = true
  }

  /// A device loses its log, and with it all that is noted of devices until tracking begins anew: who was it that wrote?
  mutating func loseLog() {
    machines?.loseDirtyLog(host: source)
    memoryModel?.loseLog()
  }

  /// The session knows of the reset: all may have been written.
  mutating func restartTracking() {
    machines?.restartDirtyLog(host: source)
    memoryModel?.noteAll()
  }

  // MARK: Sending

  mutating func sendPages() {
    mover.beginRound()
    sendParcel()
  }

  /// One parcel is on the channel at a time, so that devices' state gets its turn.
  private mutating func sendParcel() {
    let isModel = memoryModel != nil
    let pages = mover.takePages(most: isModel ? MemoryMover.modelParcelPages : MemoryMover.parcelPages)
    guard !pages.isEmpty else { return endRound() }
    if isModel {
      runMemory()
      for page in pages { memoryModel?.send(page) }
      directions[source].put(.memory(.bulk(pages: pages.count)))
    } else if let machines {
      directions[source].put(.memory(.pages(pages, content: pages.map { machines.page($0, host: source) })))
    }
    beginSending(.source)
  }

  private mutating func endRound() {
    mover.isSending = false
    if mover.isLast, let state = machines?.vmmState(host: source) {
      directions[source].put(.memory(.vmmState(state)))
      beginSending(.source)
    }
    queue.put(.deliver(.source, .pagesSent(bytes: mover.bytes - mover.bytesBefore)), at: now)
  }

  /// Bytes of a parcel on the channel.
  func bytes(of parcel: MemoryMover.Parcel) -> UInt64 {
    switch parcel {
    case .pages(let pages, _): UInt64(pages.count * (8 + pageBytes))
    case .bulk(let pages): UInt64(pages * (8 + pageBytes))
    case .vmmState(let words): UInt64(8 * words.count)
    }
  }

  /// A parcel is out.
  mutating func endParcel(_ parcel: MemoryMover.Parcel) {
    directions[source].isSending = false
    if directions[source].isBroken {
      let error = MovingMemoryError("sending guest memory", errno: ErrorNumber(rawValue: 32))
      queue.put(.deliver(.source, .memoryFailed(error)), at: now)
    } else {
      mover.bytes += bytes(of: parcel)
      queue.put(.memoryArrival(parcel), at: now.adding(microseconds: scenario.link.delayMicroseconds))
      if mover.isSending { sendParcel() }
    }
    beginSending(.source)
  }

  mutating func takeParcel(_ parcel: MemoryMover.Parcel) {
    guard !isKilled[destination] else { return }
    switch parcel {
    case .pages(let pages, let content):
      for (page, words) in zip(pages, content) { machines?.setPage(page, words, host: destination) }
    case .bulk: break
    case .vmmState(let words): mover.arrivedState = words
    }
  }

  // MARK: What comes in

  /// Microseconds that setting or lifting a limit takes.
  static let limitTime: UInt64 = 50

  /// The limiter of a device of the source is told what to do, and does one thing after the other.
  mutating func beginLimit(_ device: Int, _ rate: UInt64?) {
    guard let free = limitersFree[device] else { return }
    var end = max(now, free).adding(microseconds: Self.limitTime)
    var failure: ErrorNumber?
    switch hosts[source].devices[device].begin([rate == nil ? .lift : .limit]) {
    case nil: break
    case .fails(let errno, _): failure = errno
    case .hangs(let time?): end = end.adding(microseconds: time)
    case .hangs(nil):
      limitersFree[device] = nil
      return
    }
    limitersFree[device] = end
    queue.put(.limited(device: device, rate, failure), at: end)
  }

  mutating func endLimit(_ device: Int, _ rate: UInt64?, _ failure: ErrorNumber?) {
    guard !isDone(.source) else { return }
    guard let failure else {
      set(device, rate)
      return deliver(.limited(device: device, nil), to: .source)
    }
    let error = RateLimiterError(
      device: hosts[source].devices[device].configuration.name, kind: .police,
      operation: rate == nil ? "removing the filter" : "setting the rate", subject: "its representor",
      cause: .kernel(failure, words: ""))
    deliver(.limited(device: device, error), to: .source)
  }

  /// The source's session is over. Before, its limits have to be gone, or it has to say that they are not; then the next
  /// start finds its records.
  mutating func checkLimits(_ outcome: SessionOutcome) {
    for device in inboundLimits.indices where inboundLimits[device] != nil {
      let isSaid = outcome.cleanupFaults.contains {
        if case .stillLimited(device, _) = $0 { true } else { false }
      }
      if !isSaid {
        referee.record("source: its session is over, and what comes in to device \(device) is limited", at: now)
      }
    }
    liftLeftLimits()
  }

  private mutating func set(_ device: Int, _ rate: UInt64?) {
    runMemory()
    inboundLimits[device] = rate
    guard let world = scenario.world else { return }
    // A packet is a part of a page.
    let packetBytes = UInt64(max(1, world.guestPageBytes * world.packetWords / Page.words))
    machines?.setInboundLimit(rate.map { max(1, $0 / packetBytes / 1000) }, host: source, device: device)
  }

  /// The process that set limits is gone: the next one finds its records, and lifts them.
  mutating func liftLeftLimits() {
    for device in inboundLimits.indices where inboundLimits[device] != nil { set(device, nil) }
  }

  // MARK: What must hold in the end

  var memoryFindings: [String] {
    var findings: [String] = []
    for (device, rate) in inboundLimits.enumerated() where rate != nil {
      findings.append("what comes in to device \(device) of the source is still limited")
    }
    if let machines, machines.machines.contains(where: { $0.nics.contains(where: \.nic.isLimited) }) {
      findings.append("a NIC is still limited")
    }
    let hasMoved = save.outcome.map { $0.fault == nil } == true && load.outcome.map { $0.fault == nil } == true
    if let memoryModel, hasMoved, !memoryModel.unsent.isEmpty {
      findings.append("\(memoryModel.unsent.count) pages of guest memory were written and not sent")
    }
    return findings
  }
}
