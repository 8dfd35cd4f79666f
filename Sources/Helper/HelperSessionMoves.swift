// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// Saving, loading, running again, and the way back.
extension HelperSession {
  mutating func move(_ request: HelperRequest, _ number: UInt32) throws(HelperFailure) -> [Action] {
    switch request {
    case .beginSave(let save): return try begin(save, number)
    case .beginLoad(let load): return try begin(load, number)
    case .step(let bytes):
      try require(.preCopy)
      try requirePages(.byVMM)
      try requireNothing(waitingFor: .step, "a step is under way")
      waiting[number] = .step
      return takeBack(bytes) + [.order(.round)]
    case .quiesce(let bytes):
      try require(.preCopy)
      guard vcpusAreStopped else {
        throw HelperFailure(
          .wrongPhase,
          "the vCPUs run, and could touch a device while it stops: stop them and say so first (VFIO_FERRY_VCPUS_STOPPED)"
        )
      }
      try requireNothing(waitingFor: .step, "a step is under way: its pages come with its reply")
      // What these make dirty has to be there before the last reading, after which nothing is looked for.
      for what in [Waiting.marking, .mapping, .unmapping] {
        try requireNothing(
          waitingFor: what, "dirty pages or mappings are still being taken in: wait for the replies of these requests")
      }
      waiting[number] = .quiesce
      return enter(.quiescing) + takeBack(bytes) + [.order(.stop)]
    case .complete(let bytes):
      try require(.stopped, hint: "it comes after VFIO_FERRY_QUIESCE has its reply")
      try requireNothing(waitingFor: .complete, "it is being completed")
      waiting[number] = .complete
      if pages != .byVMM { return [.order(.finish)] }
      return [.perform(number, .takeBack(bytesSent: bytes, isLast: true))]
    case .commit:
      try require(.complete, hint: "it comes after VFIO_FERRY_COMPLETE has its reply")
      devices = [:]
      order = []
      return [.letGo] + enter(.committed) + [.reply(number, .done)]
    default: return []
    }
  }

  private mutating func begin(_ save: HelperSave, _ number: UInt32) throws(HelperFailure) -> [Action] {
    try require(.setup)
    try requireDevices(.save, "be saved")
    if save.pages != .none { try requireTracking() }
    if save.pages == .byHelper, memoryRanges == 0 { throw HelperFailure(.refused, "there is no guest memory to send") }
    begin(.save)
    pages = save.pages
    waiting[number] = .begin
    return enter(.preCopy) + [.perform(number, .save(save, order, declaredLinks))]
  }

  private mutating func begin(_ load: HelperLoad, _ number: UInt32) throws(HelperFailure) -> [Action] {
    try require(.setup)
    try requireDevices(.load, "be loaded")
    if load.pages, memoryRanges == 0 { throw HelperFailure(.refused, "there is no guest memory to take anything in") }
    begin(.load)
    waiting[number] = .begin
    return enter(.loading) + [.perform(number, .load(load, order, declaredLinks))]
  }

  private mutating func begin(_ run: Run) {
    self.run = run
    pages = .none
    decision = nil
    hasLastReading = false
    memoryBytes = 0
    isAborting = false
    for id in order { devices[id]?.progress = nil }
  }

  private func requireDevices(_ can: HelperDeviceInfo.Possibilities, _ words: String) throws(HelperFailure) {
    guard !order.isEmpty else { throw HelperFailure(.refused, "no device was added") }
    try requireAnswers()
    for id in order {
      guard let device = devices[id], let info = device.info else { continue }
      guard info.can.contains(can) else {
        let state = info.state?.name ?? "a state that it does not tell"
        throw HelperFailure(.refused, device: id, "\(device.name) is in \(state) and can't \(words) from there")
      }
    }
  }

  /// What a device is asked for itself has to be over, so that nobody else changes the state that a session finds.
  private func requireAnswers() throws(HelperFailure) {
    try requireAdded()
    for id in order where waiting.values.contains(.device(id)) || waiting.values.contains(.tag(id)) {
      throw HelperFailure(
        .wrongPhase, device: id, "a request for device \(id) alone is under way: wait for its reply")
    }
  }

  private func requirePages(_ wanted: HelperSave.Pages) throws(HelperFailure) {
    guard pages == wanted else { throw HelperFailure(.wrongPhase, "the VMM does not send the pages of this move") }
  }

  private func requireNothing(waitingFor what: Waiting, _ text: String) throws(HelperFailure) {
    if waiting.values.contains(what) { throw HelperFailure(.wrongPhase, text) }
  }

  /// The VMM gives the bitmap back, where it has it.
  private func takeBack(_ bytes: UInt64) -> [Action] {
    pages == .byVMM ? [.perform(0, .takeBack(bytesSent: bytes, isLast: false))] : []
  }

  // MARK: Back

  mutating func interrupt(_ reason: String) -> [Action] {
    isAborting = true
    return enter(.goingBack) + [.interrupt(reason)]
  }

  mutating func abort(_ number: UInt32) throws(HelperFailure) -> [Action] {
    switch phase {
    case .setup: return [.reply(number, .done)]
    case .committed:
      throw HelperFailure(.wrongPhase, "the devices were let go of: only the other side can say who runs")
    case .preCopy, .quiescing, .stopped, .loading:
      waiting[number] = .abort
      return interrupt("the VMM aborts")
    case .resuming where phaseBefore == .loaded:
      throw HelperFailure(.wrongPhase, "the devices are being started as the VMM said: wait for the reply to RESUME")
    case .goingBack, .resuming:
      waiting[number] = .abort
      return []
    case .complete:
      waiting[number] = .abort
      return runAgain(number)
    case .loaded:
      // What was loaded belongs to the other side again.
      return enter(.goingBack) + perform(number, .reset(order), waiting: .empty)
    }
  }

  mutating func resume(_ number: UInt32) throws(HelperFailure) -> [Action] {
    switch phase {
    case .setup, .loaded, .complete:
      guard !order.isEmpty else { throw HelperFailure(.refused, "no device was added") }
      for id in order where devices[id]?.info?.can.contains(.needsReset) == true && phase == .setup {
        throw HelperFailure(.refused, device: id, "only a reset brings device \(id) back (VFIO_FERRY_DEVICE_RESET)")
      }
      try requireAnswers()
      waiting[number] = .resume
      return runAgain(number)
    case .preCopy, .stopped:
      waiting[number] = .abort
      return interrupt("the VMM goes on here")
    case .committed:
      throw HelperFailure(.wrongPhase, "the devices were let go of: only the other side can say who runs")
    case .quiescing, .loading, .resuming, .goingBack:
      throw HelperFailure(.wrongPhase, "the session is in \(phase.name): wait for its end, or abort it")
    }
  }

  mutating func runAgain(_ number: UInt32) -> [Action] {
    phaseBefore = phase
    begin(.resume)
    return enter(.resuming) + [.perform(number, .resume(order, declaredLinks))]
  }

  // MARK: Ends

  /// A task is done.
  mutating func finish(_ number: UInt32, _ reply: HelperReply) -> [Action] {
    // The bitmap came back for a request that waits for something else.
    guard number != 0 else { return [] }
    guard let what = waiting[number] else { return [] }
    if case .device(let info) = reply, what != .task, devices[info.device] != nil { devices[info.device]?.info = info }
    if case .failure(let failure) = reply { return fail(number, what, failure) }
    switch what {
    case .complete: return [.order(.finish)]
    // The running session answers these.
    case .step, .quiesce, .resume, .abort: return []
    case .remove(let id):
      if run != nil { return [] }
      // What was loaded is gone: now the device.
      forget(id)
      return enter(.setup) + perform(number, .release(id)) + endUnbegun(.done)
    case .task, .adopt, .device, .tag, .memory, .mapping, .tracking, .marking, .begin, .unmapping, .empty:
      waiting[number] = nil
      if what == .unmapping { mappings -= 1 }
      return what == .empty ? enter(.setup) + [.reply(number, .done)] + endUnbegun(.done) : [.reply(number, reply)]
    }
  }

  private mutating func fail(_ number: UInt32, _ what: Waiting, _ failure: HelperFailure) -> [Action] {
    waiting[number] = nil
    let reply = Action.reply(number, .failure(failure))
    switch what {
    case .adopt(let id): forget(id)
    case .tag(let id): devices[id]?.hasTag = false
    case .memory(let count):
      memoryRanges -= 1
      mappings -= count
    case .mapping: mappings -= 1
    case .tracking: isTracking = false
    case .begin:
      // It could not begin, and has touched nothing.
      run = nil
      return enter(.setup) + [reply] + endUnbegun(.failure(failure))
    case .resume, .abort, .remove:
      run = nil
      return enter(phaseBefore) + [reply] + endUnbegun(.failure(failure))
    case .empty:
      return enter(.setup) + [reply] + self.reply(.abort, .failure(failure)) + leftovers()
    case .task, .device, .unmapping, .marking, .step, .quiesce, .complete: break
    }
    return [reply]
  }
}
