// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What events do, and how effects become events.
extension SimulatedWorld {
  mutating func take(_ event: Event) {
    switch event {
    case .begin(let side):
      guard !isDone(side) else { return }
      hasBegun[side.rawValue] = true
      let effects = side == .source ? save.begin(at: now) : load.begin(at: now)
      perform(effects, side)
      settle(side)
    case .controlDone(let side, let device, let call): endControl(side, device, call)
    case .dataDone(let side, let device, let call): endData(side, device, call)
    case .frameOut(let side, let frame): endFrame(side, frame)
    case .finished(let side): endFinish(side)
    case .arrival(let side, let bytes): arrive(side, bytes)
    case .deliver(let side, let event): deliver(event, to: side)
    case .timer(let side, let deadline):
      guard timers[side.rawValue] == deadline, !isDone(side) else { return }
      timers[side.rawValue] = nil
      deliver(.time, to: side)
      if !isDone(side), let next = self.deadline(of: side), next <= now {
        referee.record("\(side): the deadline has passed, and nothing is done about it", at: now)
        timers[side.rawValue] = nil
      }
    case .interrupt(let side):
      interrupt(side)
      if hasBegun[side.rawValue] { settle(side) }
    case .death(let death):
      // What it answers later nobody waits for.
      hanging[death.side.rawValue][death.device] = false
      deliver(.declareDead(device: death.device), to: death.side)
    case .kill(let side): kill(side)
    case .linkBreaks: breakLink()
    case .vcpusStop(let side): stopVCPUs(side)
    case .functionBegins(let side, let device, let call): beginLate(side, device, call)
    case .parcelOut(let parcel): endParcel(parcel)
    case .memoryArrival(let parcel): takeParcel(parcel)
    case .pagesRead(let moment): endReading(moment)
    case .limited(let device, let rate, let failure): endLimit(device, rate, failure)
    case .guestReset(let device):
      guard save.stopBegan == nil, !vcpusAreStopped, !isDone(.source) else { return }
      // A device that is being stopped or was ended in error has no guest that could do it.
      guard hosts[0].devices[device].state != .error else { return }
      runMemory()
      // With its data session the device loses its log. Who has none goes on being looked at from outside.
      if hosts[0].devices[device].session != nil { loseLog() }
      hosts[0].devices[device].resetByGuest(at: now)
      if machines != nil {
        machines?.resetByGuest(device: device)
        resumeFunctionCall(.source, device)
      }
      abortHangingData(.source, device)
    }
  }

  private func deadline(of side: SimulatedSide) -> MonotonicTime? {
    side == .source ? save.deadline : load.deadline
  }

  // MARK: Sessions

  /// Gives a session an event at once.
  mutating func deliver(_ event: SessionEvent, to side: SimulatedSide) {
    guard hasBegun[side.rawValue], !isDone(side) else { return }
    sessionEvents[side.rawValue] += 1
    let number = sessionEvents[side.rawValue]
    if scenario.kills.contains(Scenario.Interrupt(side, .beforeEvent(number))) { return kill(side) }
    for planned in scenario.interrupts where planned.side == side && planned.moment == .beforeEvent(number) {
      interrupt(side)
    }
    handle(event, side)
    settle(side)
  }

  private mutating func interrupt(_ side: SimulatedSide) {
    guard hasBegun[side.rawValue], !isDone(side) else { return }
    handle(.interrupt(reason: "the scenario"), side)
    // The first ends the session; said again, devices that hang are given up.
    interruptions[side.rawValue] += 1
    if interruptions[side.rawValue] > 1 { hanging[side.rawValue] = hanging[side.rawValue].map { _ in false } }
  }

  private mutating func handle(_ event: SessionEvent, _ side: SimulatedSide) {
    digest.add(now.microseconds)
    digest.add(UInt64(side.rawValue) << 32 | event.code)
    let effects = side == .source ? save.handle(event, at: now) : load.handle(event, at: now)
    perform(effects, side)
  }

  /// The process dies between two instructions of its session. The kernel closes what it held.
  private mutating func kill(_ side: SimulatedSide) {
    guard !isDone(side) else { return }
    let index = side.rawValue
    isKilled[index] = true
    for device in hosts[index].devices.indices { hosts[index].devices[device].resetByHost(at: now) }
    bury(side)
    closeLink(side, failed: true)
  }

  /// After a step: the end of the session, or its next deadline.
  private mutating func settle(_ side: SimulatedSide) {
    if let outcome = outcome(of: side) {
      guard !isClosed[side.rawValue] else { return }
      isClosed[side.rawValue] = true
      referee.close(hosts[side.rawValue], outcome, at: now)
      if side == .source { checkLimits(outcome) }
      closeLink(side, failed: outcome.fault != nil)
      decideWhoRuns(side, outcome)
    } else if let deadline = deadline(of: side), timers[side.rawValue] != deadline {
      timers[side.rawValue] = deadline
      queue.put(.timer(side, deadline), at: max(deadline, now))
    }
  }

  private mutating func perform(_ effects: [SessionEffect], _ side: SimulatedSide) {
    let index = side.rawValue
    for effect in effects {
      switch effect {
      case .control(let device, let request):
        if !hosts[index].control[device].isIdle {
          referee.record("\(side): a second control request for device \(device)", at: now)
        }
        hosts[index].control[device].waiting.append(request)
        beginControl(side, device)
      case .read(let device, let buffer):
        lend(buffer, to: "reading", side)
        hosts[index].data[device].waiting.append(.read(buffer: buffer))
        beginData(side, device)
      case .write(let device, let buffer, let bytes):
        lend(buffer, to: "writing", side)
        hosts[index].data[device].waiting.append(.write(buffer: buffer, bytes: bytes))
        beginData(side, device)
      case .send(let frame):
        if case .buffer(let buffer) = frame.payload { lend(buffer, to: "sending", side) }
        noteWord(frame.header.knownType)
        directions[index].put(.frame(frame))
        beginSending(side)
      case .finishChannel:
        directions[index].put(.finish)
        beginSending(side)
      case .receive(let buffer):
        if let buffer { lend(buffer, to: "receiving", side) }
        directions[1 - index].offers.append(buffer)
        receive(side)
      case .stopVCPUs:
        askToStopVCPUs(side)
      case .readPages(let moment):
        queue.put(.pagesRead(moment), at: now.adding(microseconds: MemoryMover.readingTime))
      case .sendPages:
        sendPages()
      case .restartTracking:
        if sabotage != .untoldReset { restartTracking() }
      case .limit(let device, let rate):
        beginLimit(device, rate)
      case .note(let note):
        notes.append(TimedNote(time: now, side: side, note: note))
        if case .phase("going back") = note, side == .source, stopClock.isRunning {
          stopClock.enterOnce("going back", at: now)
        }
        guard case .hung(let device, _, _) = note else { continue }
        hanging[index][device] = true
        for planned in scenario.interrupts where planned.side == side && planned.moment == .onHang {
          queue.put(.interrupt(side), at: now)
        }
      }
    }
  }

  private mutating func lend(_ buffer: Int, to user: String, _ side: SimulatedSide) {
    if let before = hosts[side.rawValue].bufferUsers[buffer] {
      referee.record("\(side): buffer \(buffer) is for \(user) and still for \(before)", at: now)
    }
    hosts[side.rawValue].bufferUsers[buffer] = user
  }

  // MARK: Devices

  private mutating func beginControl(_ side: SimulatedSide, _ device: Int) {
    let index = side.rawValue
    let handle = hosts[index].handles[device]
    guard hosts[index].control[device].call == nil, let request = hosts[index].control[device].waiting.first else {
      return
    }
    let script = hosts[index].devices[device].begin(ScriptedFailure.Operation.counted(request))
    guard let call = hosts[index].control[device].begin(handle: handle, at: now, script: { _ in script }) else {
      return
    }
    if beginFunctionCall(side, device, call) { return }
    let duration = hosts[index].devices[device].microseconds(request)
    schedule(.controlDone(side, device: device, call: call.number), after: duration, script)
  }

  private mutating func beginData(_ side: SimulatedSide, _ device: Int) {
    let index = side.rawValue
    let handle = hosts[index].handles[device]
    guard hosts[index].data[device].call == nil, let job = hosts[index].data[device].waiting.first else { return }
    let operation: ScriptedFailure.Operation
    let duration: UInt64
    switch job {
    case .read:
      operation = .read
      duration = hosts[index].devices[device].microseconds(reading: StreamFormat.maximumDataSize)
    case .write(_, let bytes):
      operation = .write
      duration = hosts[index].devices[device].microseconds(writing: bytes)
    }
    let script = hosts[index].devices[device].begin([operation])
    guard let call = hosts[index].data[device].begin(handle: handle, at: now, script: { _ in script }) else { return }
    schedule(.dataDone(side, device: device, call: call.number), after: duration, script)
  }

  private mutating func schedule(_ event: Event, after microseconds: UInt64, _ script: ScriptedFailure.Effect?) {
    var duration = microseconds
    if case .hangs(let extra) = script {
      guard let extra else { return }
      duration += extra
    }
    queue.put(event, at: now.adding(microseconds: duration))
  }

  mutating func endControl(_ side: SimulatedSide, _ device: Int, _ number: Int) {
    let index = side.rawValue
    guard let call = hosts[index].control[device].end(number) else { return }
    let before = hosts[index].devices[device].state
    if asksFunction(before, call.job) { askFunction(side, device) }
    runMemory()
    let result = hosts[index].devices[device].answer(call.job, session: call.handle, script: call.script, at: now)
    hosts[index].keepHandle(device, after: call.job, result)
    followFunction(side, device, from: before, after: call.job, result)
    hanging[index][device] = false
    if hosts[index].devices[device].state != before {
      referee.observe(hosts[index], device, from: before, hanging: hanging[index], at: now)
      if scenario.commits && scenario.link.isTwoWay {
        referee.compare(hosts[0], hosts[1], isAgreed: true, at: now)
      } else if save.outcome == nil || save.outcome?.fault == nil, scenario.save.keepStopped {
        referee.compare(hosts[0], hosts[1], isAgreed: false, at: now)
      }
    }
    digest.add(UInt64(device) << 32 | UInt64(hosts[index].devices[device].state.rawValue))
    digest.add(hosts[index].devices[device].savedDigest ?? 0)
    abortHangingData(side, device)
    let times = RequestTimes(began: call.began, ended: now)
    noteProgress(side)
    deliver(.control(device: device, call.job, result, times), to: side)
    beginControl(side, device)
  }

  private mutating func endData(_ side: SimulatedSide, _ device: Int, _ number: Int) {
    let index = side.rawValue
    guard let call = hosts[index].data[device].end(number) else { return }
    let buffer = call.job.buffer
    hosts[index].bufferUsers[buffer] = nil
    let event: SessionEvent
    switch call.job {
    case .read:
      let most = StreamFormat.maximumDataSize
      let driver = hosts[index].devices[device]
      if !driver.configuration.offersOnInfoOnly, driver.state == .preCopy || driver.state == .preCopyP2P {
        askFunction(side, device)
      }
      switch hosts[index].devices[device].read(session: call.handle, most: most, script: call.script, at: now) {
      case .success(let bytes):
        let count = bytes.count
        hosts[index].buffers[buffer] = bytes
        event = .read(device: device, buffer: buffer, .success(count == 0 ? .end : .bytes(count)))
      case .failure(let error):
        event = .read(device: device, buffer: buffer, .failure(error))
      }
    case .write(_, let count):
      let bytes = hosts[index].buffers[buffer]
      let error = hosts[index].devices[device].write(
        bytes.span.extracting(first: count), session: call.handle, script: call.script, at: now)
      event = .written(device: device, buffer: buffer, error)
    }
    deliver(event, to: side)
    beginData(side, device)
  }

  /// A session that ends takes a call with it that is blocked on it.
  private mutating func abortHangingData(_ side: SimulatedSide, _ device: Int) {
    let index = side.rawValue
    guard let call = hosts[index].data[device].call, case .hangs = call.script,
      call.handle != hosts[index].devices[device].session
    else { return }
    queue.put(.dataDone(side, device: device, call: call.number), at: now)
  }
}
