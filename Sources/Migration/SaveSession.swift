// SPDX-License-Identifier: Apache-2.0

/// The source's side: reads the state of a group of devices into a stream.
///
/// Pre-copy where a device offers it, then the group stops in the steps of a ``QuiescePlan``, every device is read to its
/// end, the stream is finished, and the group runs again or stays stopped. A fault at any point takes every device back
/// to the state that it was found in.
public struct SaveSession: SessionMachine {
  private enum Phase: Hashable {
    case measuring
    case enteringPreCopy
    case preCopying
    case stopping
    case copying
    case finishing
    /// The end is sent: the destination has to say that everything is loaded.
    case awaitingLoaded
    /// The commit was handed to the channel: nothing here runs again by itself.
    case committed
    case starting
    case ended
  }

  private let configuration: Configuration
  private let devices: [SessionDevice]
  private var phase = Phase.measuring
  private var group: QuiesceCoordinator
  private var writer = StreamWriter()
  private var pumps: [SavePump]
  private var freeBuffers: [Int]
  private var nextReader = 0
  private var fault: SessionFault?
  private var cleanupFaults: [SessionFault] = []
  private var channelBroken = false
  private var framesUnderWay = 0
  private var interrupts = 0
  private var commitment = Commitment.none
  /// The devices that did not say where they are were asked for it, after a fault.
  private var hasLooked = false

  public private(set) var outcome: SessionOutcome?

  /// Whether the whole stream has been handed over and is as safe as the channel can make it.
  public private(set) var isStreamComplete = false

  /// When the first device began to stop; nil before.
  public private(set) var stopBegan: MonotonicTime?
  /// When the last device was back where it should be; nil before.
  public private(set) var stopEnded: MonotonicTime?

  /// - Parameters:
  ///   - devices: at least one, each in RUNNING, RUNNING_P2P or STOP; see ``refusal(devices:)``.
  ///   - plan: made for these devices.
  public init(devices: [SessionDevice], plan: QuiescePlan, configuration: Configuration = Configuration()) {
    precondition(!devices.isEmpty && configuration.buffers > 0)
    precondition(!configuration.commits || configuration.awaitsAnswers, "a commit wants a channel that brings answers")
    self.devices = devices
    self.configuration = configuration
    group = QuiesceCoordinator(
      devices: devices, plan: plan, resetAllowed: configuration.resetAllowed, configuration: configuration.quiescing)
    pumps = devices.map { _ in SavePump(limits: configuration.pace) }
    freeBuffers = Array((0..<configuration.buffers).reversed())
  }

  public var progress: [DeviceProgress] {
    zip(group.mover.members, pumps).map { member, pump in
      DeviceProgress(
        state: member.state, bytes: pump.bytes, preCopyBytes: pump.preCopyBytes,
        expectedBytes: pump.expectedBytes)
    }
  }

  /// How often each device's state was begun anew because its guest reset it.
  public var restarts: [Int] { pumps.map(\.restarts) }

  public var steps: [StepReport] { group.reports }
  public var quorum: Int { group.mover.quorum }

  public var deadline: MonotonicTime? {
    var earliest = group.mover.deadline
    guard isAskingForInfos else { return earliest }
    for device in pumps.indices where canBeAskedForInfo(device) {
      guard let due = pumps[device].infoDue else { continue }
      earliest = earliest.map { min($0, due) } ?? due
    }
    return earliest
  }

  // MARK: Steps

  public mutating func begin(at now: MonotonicTime) -> [SessionEffect] {
    var effects: [SessionEffect] = [.note(.phase("looking"))]
    let manifest = StreamManifest(devices: devices.map(\.manifestRecord), commits: configuration.commits)
    effects.append(send(writer.manifest(manifest)))
    for (index, device) in devices.enumerated() {
      if let vmmState = device.vmmState { effects.append(send(writer.vmmState(device: index, bytes: vmmState))) }
    }
    if configuration.awaitsAnswers { effects.append(.receive(buffer: nil)) }
    for index in devices.indices { effects.append(group.mover.ask(index, .stopCopySize, at: now)) }
    return effects
  }

  public mutating func handle(_ event: SessionEvent, at now: MonotonicTime) -> [SessionEffect] {
    guard outcome == nil else { return [] }
    var effects: [SessionEffect] = []
    switch event {
    case .control(let device, let request, let result, let times):
      effects += control(device, request, result, times, at: now)
    case .read(let device, let buffer, let result):
      effects += read(device, buffer, result, at: now)
    case .sent(let payload):
      framesUnderWay -= 1
      if case .buffer(let buffer) = payload { freeBuffers.append(buffer) }
    case .channelFailed(let error):
      channelBroken = true
      if !isStreamComplete { fail(.channel(error)) }
    case .streamFailed(let error):
      // Once everything was handed to the channel no answer is waited for: the destination may be done, and gone.
      if phase != .finishing, !isStreamComplete { fail(.stream(error)) }
    case .channelFinished:
      if fault == nil, phase == .finishing {
        isStreamComplete = true
        effects += start(at: now)
      }
    case .interrupt(let reason):
      interrupts += 1
      // On the way to running there is nothing to end, but there may be a device that never answers.
      let givesUp = interrupts > 1 && giveUpHung(at: now)
      if fault == nil, givesUp || !isGoingBack { fail(.interrupted(reason)) }
    case .vcpusStopped:
      group.noteVCPUsStopped()
    case .declareDead(let device):
      let isRead = pumps.indices.contains(device) && pumps[device].reads > 0
      if group.declareDead(device, dataIsUnderWay: isRead, at: now) { fail(.declaredDead(device)) }
    case .received(_, let item):
      effects += take(answer: item, at: now)
    case .time, .written:
      break
    }
    effects += group.mover.noteHangs(at: now)
    effects += proceed(at: now)
    return effects
  }

  /// Does whatever has become possible.
  private mutating func proceed(at now: MonotonicTime) -> [SessionEffect] {
    var effects: [SessionEffect] = []
    var before: Phase
    repeat {
      before = phase
      effects += step(at: now)
    } while phase != before && outcome == nil
    return effects
  }

  private mutating func step(at now: MonotonicTime) -> [SessionEffect] {
    if fault != nil, !isGoingBack {
      guard group.mover.isSettled else { return [] }
      let questions = look(at: now)
      return questions.isEmpty ? [.note(.phase("going back"))] + start(at: now) : questions
    }
    switch phase {
    case .measuring:
      guard group.mover.isSettled else { return [] }
      guard configuration.preCopy, group.mover.members.contains(where: { preCopyState(of: $0) != nil }) else {
        return stop(at: now)
      }
      phase = .enteringPreCopy
      return group.enterPreCopy(group.mover.members.map(preCopyState), at: now)
    case .enteringPreCopy:
      let effects = group.proceed(at: now)
      guard group.isAtRest else { return effects }
      phase = .preCopying
      for index in pumps.indices where group.mover.members[index].state?.isSaving == true { pumps[index].infoDue = now }
      return effects
    case .preCopying:
      return preCopy(at: now)
    case .stopping:
      let effects = group.proceed(at: now)
      if stopBegan == nil, group.step != nil { stopBegan = now }
      guard group.isAtRest else { return effects }
      phase = .copying
      for index in pumps.indices { pumps[index].isAtEnd = false }
      return effects + [.note(.phase("copying"))]
    case .copying:
      return copy()
    case .finishing, .awaitingLoaded, .committed, .ended:
      return []
    case .starting:
      let effects = group.proceed(at: now)
      return group.isAtRest ? effects + end(at: now) : effects
    }
  }

  private var isGoingBack: Bool { phase == .starting || phase == .ended }

  private mutating func fail(_ fault: SessionFault) {
    if self.fault == nil { self.fault = fault } else { cleanupFaults.append(fault) }
    group.mover.halt()
  }

  /// Before the way back begins: asks those devices where they are of which that is not known.
  private mutating func look(at now: MonotonicTime) -> [SessionEffect] {
    guard !hasLooked else { return [] }
    hasLooked = true
    // A guest's reset that nobody looked into yet.
    for device in pumps.indices where pumps[device].suspicion != nil {
      pumps[device].suspicion = nil
      group.mover.observe(device, state: nil)
    }
    return group.mover.look(at: now)
  }

  private mutating func giveUpHung(at now: MonotonicTime) -> Bool {
    if group.giveUpHung(at: now) { return true }
    // When nothing else is left to wait for, a read that outlives its session hangs too.
    guard phase == .starting, group.isAtRest else { return false }
    let hung = pumps.indices.filter { pumps[$0].reads > 0 && !group.mover.members[$0].isHung }
    for device in hung { group.giveUp(device, at: now) }
    return !hung.isEmpty
  }

  private mutating func send(_ frame: OutgoingFrame) -> SessionEffect {
    framesUnderWay += 1
    return .send(frame)
  }

  // MARK: Moving the group

  private func preCopyState(of member: GroupMover.Member) -> MigrationState? {
    switch member.state {
    case .running where member.graph.contains(.preCopy): .preCopy
    case .runningP2P where member.graph.contains(.preCopyP2P): .preCopyP2P
    default: nil
    }
  }

  private mutating func stop(at now: MonotonicTime) -> [SessionEffect] {
    phase = .stopping
    return group.stop(towards: .stopCopy, at: now)
  }

  private mutating func start(at now: MonotonicTime) -> [SessionEffect] {
    phase = .starting
    // What was let go of does not run, whatever went wrong since.
    let staysStopped = commitment != .none || (fault == nil && configuration.keepStopped)
    let goals = devices.map { staysStopped ? .stop : $0.state }
    return group.start(towards: goals, isWayBack: fault != nil, at: now)
  }

  private mutating func end(at now: MonotonicTime) -> [SessionEffect] {
    // Reads that were under way end with the session that they belong to; only then are their buffers free.
    guard zip(pumps, group.mover.members).allSatisfy({ $0.reads == 0 || $1.isHung }) else { return [] }
    guard fault != nil || channelBroken || framesUnderWay == 0 else { return [] }
    phase = .ended
    stopEnded = now
    outcome = SessionOutcome(
      fault: fault, cleanupFaults: cleanupFaults, devices: group.outcomes(of: devices), commitment: commitment)
    return []
  }

  private mutating func control(
    _ device: Int, _ request: ControlRequest, _ result: Result<ControlAnswer, DeviceError>, _ times: RequestTimes,
    at now: MonotonicTime
  ) -> [SessionEffect] {
    guard group.mover.expects(device, request) else { return [] }
    switch request {
    case .stopCopySize:
      group.mover.release(device)
      if case .success(.stopCopySize(let size)) = result { pumps[device].stopCopySize = size }
      return []
    case .preCopyInfo:
      group.mover.release(device)
      switch result {
      case .success(.preCopyInfo(let info)):
        return take(info, of: device, at: now)
      case .success:
        return []
      case .failure(let error):
        suspectReset(of: device, error)
        return []
      }
    case .readState where pumps[device].suspicion != nil && phase == .preCopying:
      return settleSuspicion(device, result, at: now)
    case .setState, .readState, .flush, .reset:
      let step = group.handle(device, request, result, times, at: now)
      for fault in step.faults { fail(fault) }
      var effects = step.effects
      if step.openedData {
        pumps[device].isOpen = true
        if phase == .preCopying { pumps[device].infoDue = now }
      }
      let wasOpen = pumps[device].isOpen
      let state = group.mover.members[device].state
      if state?.isSaving == false { pumps[device].isOpen = false }
      // Its guest reset it after pre-copy, before the vCPUs had stopped: what was sent of it is void.
      let hasLeft = group.step == .look && request == .readState && wasOpen && !pumps[device].isOpen
      if step.isUnexpectedSession || (hasLeft && fault == nil && state != .error) { effects += restart(device) }
      return effects
    }
  }

  // MARK: Data

  private var readsPerDevice: Int { max(1, configuration.buffers / devices.count) }

  /// Hands free buffers to the devices that can use one, in turn.
  private mutating func pump() -> [SessionEffect] {
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
      pumps[device].askRead()
      effects.append(.read(device: device, buffer: freeBuffers.removeLast()))
    }
    return effects
  }

  private mutating func read(
    _ device: Int, _ buffer: Int, _ result: Result<DataRead, DeviceError>, at now: MonotonicTime
  ) -> [SessionEffect] {
    pumps[device].endRead()
    switch result {
    case .success(.bytes(let count)) where fault == nil:
      pumps[device].count(count, isPreCopy: phase == .preCopying)
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

  private mutating func markInitial(of device: Int) -> [SessionEffect] {
    guard fault == nil, phase == .preCopying, pumps[device].marksInitial() else { return [] }
    return [send(writer.mark(.initialComplete, device: device))]
  }

  /// Once every device is ready nobody is asked again, so that they come to rest at the same time.
  private var isAskingForInfos: Bool { phase == .preCopying && fault == nil && !isReadyToStop }

  private var isReadyToStop: Bool { pumps.allSatisfy { $0.isReadyToStop(awaitsAnswer: configuration.awaitsAnswers) } }

  private func canBeAskedForInfo(_ device: Int) -> Bool {
    !group.mover.isBusy(device) && pumps[device].isOpen && pumps[device].suspicion == nil
  }

  private mutating func preCopy(at now: MonotonicTime) -> [SessionEffect] {
    var effects: [SessionEffect] = []
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
    effects += pump()
    if isReadyToStop, group.mover.isSettled { effects += stop(at: now) }
    return effects
  }

  private mutating func take(_ info: PreCopyInfo, of device: Int, at now: MonotonicTime) -> [SessionEffect] {
    guard phase == .preCopying, fault == nil else { return [] }
    pumps[device].take(info)
    pumps[device].infoDue = now.adding(microseconds: configuration.pace.interval)
    return markInitial(of: device)
  }

  private mutating func copy() -> [SessionEffect] {
    var effects = pump()
    for device in pumps.indices
    where pumps[device].isAtEnd && pumps[device].reads == 0 && !pumps[device].hasEnded {
      pumps[device].hasEnded = true
      effects.append(send(writer.deviceEnd(device: device)))
    }
    if pumps.allSatisfy(\.hasEnded) {
      phase = configuration.commits ? .awaitingLoaded : .finishing
      effects.append(send(writer.end()))
      if !configuration.commits { effects.append(.finishChannel) }
    }
    return effects
  }

  /// Takes what the destination says.
  private mutating func take(answer: StreamItem, at now: MonotonicTime) -> [SessionEffect] {
    switch answer {
    case .initialLoaded(let device) where pumps.indices.contains(device):
      pumps[device].takeAnswer()
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
      return start(at: now)
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
  private mutating func disbelieve(_ word: String, at now: MonotonicTime) -> [SessionEffect] {
    if fault == nil {
      fail(.stream(StreamError(.invalid("it comes before its time"), place: "the answer \(word)", offset: 0)))
    }
    return []
  }

  // MARK: A guest that resets its device

  /// During pre-copy the guest still runs and may reset its device: the data session is over then, and the device is in
  /// RUNNING. Anything else is a fault.
  private mutating func suspectReset(of device: Int, _ error: DeviceError) {
    let mayBeReset = error.errno == .noDevice || error.errno == .invalidArgument
    guard phase == .preCopying, mayBeReset else { return fail(.device(device, error)) }
    pumps[device].suspicion = error
    pumps[device].infoDue = nil
  }

  private mutating func settleSuspicion(
    _ device: Int, _ result: Result<ControlAnswer, DeviceError>, at now: MonotonicTime
  ) -> [SessionEffect] {
    group.mover.release(device)
    let suspicion = pumps[device].suspicion
    pumps[device].suspicion = nil
    switch result {
    case .success(.state(let state)) where state == .running || state == .runningP2P:
      group.mover.observe(device, state: state)
      pumps[device].isOpen = false
      var effects = restart(device)
      guard fault == nil, let again = preCopyState(of: group.mover.members[device]) else { return effects }
      effects.append(group.mover.ask(device, .setState(again), at: now))
      return effects
    case .success(.state(let state)):
      group.mover.observe(device, state: state)
      fail(.device(device, suspicion ?? DeviceError(.readState, .unexpectedState(state))))
    case .failure(let error):
      group.mover.observe(device, state: nil)
      if let suspicion { fail(.device(device, suspicion)) }
      fail(.device(device, error))
    case .success:
      break
    }
    return []
  }

  /// Voids what was sent of a device; its new session is read from the start.
  private mutating func restart(_ device: Int) -> [SessionEffect] {
    pumps[device].restart()
    guard pumps[device].restarts <= configuration.pace.mostRestarts else {
      fail(.keptResetting(device, times: pumps[device].restarts))
      return []
    }
    return [.note(.restarted(device: device, times: pumps[device].restarts)), send(writer.mark(.void, device: device))]
  }
}
