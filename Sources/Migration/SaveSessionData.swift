// SPDX-License-Identifier: Apache-2.0

/// The devices' state on its way into the stream, and what the destination answers.
extension SaveSession {
  var readsPerDevice: Int { max(1, configuration.buffers / devices.count) }

  /// Hands free buffers to the devices that can use one, in turn.
  mutating func pump(at now: MonotonicTime) -> [SessionEffect] {
    var effects: [SessionEffect] = []
    var idle = 0
    while idle < pumps.count, !freeBuffers.isEmpty {
      let device = nextReader
      nextReader = (nextReader + 1) % pumps.count
      guard pumps[device].isOpen, !pumps[device].isAtEnd, pumps[device].suspicion == nil,
        pumps[device].reads < readsPerDevice
      else {
        idle += 1
        continue
      }
      idle = 0
      pumps[device].askRead(at: now)
      effects.append(.read(device: device, buffer: freeBuffers.removeLast()))
    }
    return effects
  }

  mutating func read(
    _ device: Int, _ buffer: Int, _ result: Result<DataRead, DeviceError>, at now: MonotonicTime
  ) -> [SessionEffect] {
    let came = if case .success(.bytes(let count)) = result { count } else { 0 }
    pumps[device].endRead(bytes: came, at: now)
    switch result {
    case .success(.bytes(let count)) where fault == nil:
      pumps[device].count(count, isPreCopy: phase == .preCopying)
      loop?.count(deviceBytes: count)
      return [send(writer.deviceData(device: device, buffer: buffer, bytes: count))] + markInitial(of: device)
    case .success(.end):
      pumps[device].isAtEnd = true
    case .success:
      break
    case .failure(let error):
      if fault == nil { suspectReset(of: device, error) }
    }
    freeBuffers.append(buffer)
    return markInitial(of: device)
  }

  mutating func markInitial(of device: Int) -> [SessionEffect] {
    guard fault == nil, phase == .preCopying, pumps[device].marksInitial() else { return [] }
    let mark = send(writer.mark(.initialComplete, device: device))
    pumps[device].markFrame = framesHanded
    return [mark]
  }

  /// Once the group is to stop nobody is asked again, so that they come to rest at the same time.
  var isAskingForInfos: Bool { phase == .preCopying && fault == nil && !isStopWanted }

  /// Whether enough was read ahead of the stop. Where guest memory moves too, the loop decides that for both.
  var isStopDecided: Bool {
    if let loop { return loop.isStopDecided }
    let awaitsAnswer = configuration.awaitsAnswers
    return pumps.allSatisfy {
      configuration.stopsOnOrder ? $0.hasSettled(awaitsAnswer: awaitsAnswer) : $0.isReady(awaitsAnswer: awaitsAnswer)
    }
  }

  /// Whether the group is to stop as soon as it can.
  var isStopWanted: Bool { configuration.stopsOnOrder ? isStopOrdered : isStopDecided }

  mutating func noteReady() -> [SessionEffect] {
    guard configuration.stopsOnOrder, isStopDecided != isReadyNoted else { return [] }
    isReadyNoted = isStopDecided
    return isReadyNoted ? [.note(.ready)] : []
  }

  func canBeAskedForInfo(_ device: Int) -> Bool {
    !group.mover.isBusy(device) && pumps[device].isOpen && pumps[device].suspicion == nil
  }

  mutating func preCopy(at now: MonotonicTime) -> [SessionEffect] {
    var effects = noteReady()
    for device in pumps.indices
    where pumps[device].suspicion != nil && pumps[device].reads == 0 && !group.mover.isBusy(device) {
      effects.append(group.mover.ask(device, .readState, at: now))
    }
    if isAskingForInfos {
      for device in pumps.indices where canBeAskedForInfo(device) {
        guard let due = pumps[device].infoDue, due <= now else { continue }
        pumps[device].infoDue = nil
        effects.append(group.mover.ask(device, .preCopyInfo, at: now))
      }
    }
    guard isStopWanted else { return effects + pump(at: now) + readPages(at: now) }
    let areAtRest = pumps.allSatisfy { $0.reads == 0 && $0.suspicion == nil }
    // A round that was begun meanwhile may find that it is too early to stop.
    if areAtRest, group.mover.isSettled, loop?.isReading != true { return effects + stop(at: now) }
    return effects + readPages(at: now)
  }

  mutating func take(_ info: PreCopyInfo, of device: Int, at now: MonotonicTime) -> [SessionEffect] {
    guard phase == .preCopying, fault == nil else { return [] }
    pumps[device].take(info, at: now)
    if info.restartedInitial { loop?.reconsiderInitial() }
    pumps[device].infoDue = now.adding(microseconds: configuration.pace.interval)
    return markInitial(of: device)
  }

  mutating func copy(at now: MonotonicTime) -> [SessionEffect] {
    var effects = pump(at: now)
    for device in pumps.indices
    where pumps[device].isAtEnd && pumps[device].reads == 0 && !pumps[device].hasEnded {
      pumps[device].hasEnded = true
      effects.append(send(writer.deviceEnd(device: device)))
    }
    if pumps.allSatisfy(\.hasEnded), loop?.isOver ?? true, !configuration.finishesOnOrder || finishingStates != nil {
      for (device, state) in (finishingStates ?? []).enumerated() {
        if let state { effects.append(send(writer.vmmState(device: device, bytes: state))) }
      }
      phase = configuration.commits ? .awaitingLoaded : .finishing
      effects.append(send(writer.end()))
      if !configuration.commits { effects.append(.finishChannel) }
    }
    return effects
  }

  /// Takes what the destination says.
  mutating func take(answer: StreamItem, at now: MonotonicTime) -> [SessionEffect] {
    switch answer {
    case .initialLoaded(let device) where pumps.indices.contains(device):
      pumps[device].takeAnswer(at: now)
    case .loaded:
      guard fault == nil else { break }
      guard phase == .awaitingLoaded else { return disbelieve("loaded", at: now) }
      // From here on only the destination can say how it ends.
      phase = .committed
      commitment = .unanswered
      return [.note(.phase("committed")), send(writer.word(.commit)), .receive(buffer: nil)]
    case .running where commitment == .unanswered && fault != nil:
      // Too late to end well here, and good to know.
      commitment = .complete
      return []
    case .running:
      guard phase == .committed, fault == nil else { return disbelieve("running", at: now) }
      commitment = .complete
      isStreamComplete = true
      destinationRan = now
      return start(at: now)
    case .givenUp(let reason):
      fail(.givenUp(reason))
      return []
    case .initialLoaded, .skipped: break
    case .manifest, .deviceData, .initialComplete, .void, .vmmState, .deviceEnd, .end, .commit:
      if fault == nil {
        fail(.stream(StreamError(.invalid("it is no answer"), place: "a frame of the destination", offset: 0)))
      }
      return []
    }
    return [.receive(buffer: nil)]
  }

  /// The destination says what can't be true yet.
  mutating func disbelieve(_ word: String, at now: MonotonicTime) -> [SessionEffect] {
    if fault == nil {
      fail(.stream(StreamError(.invalid("it comes before its time"), place: "the answer \(word)", offset: 0)))
    }
    return []
  }
}
