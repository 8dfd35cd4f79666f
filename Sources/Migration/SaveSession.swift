// SPDX-License-Identifier: Apache-2.0

/// The source's side: reads the state of a group of devices into a stream.
///
/// Pre-copy where a device offers it, and of guest memory where that moves too; then the group stops in the steps of a
/// ``QuiescePlan``, every device is read to its end, the trackers of dirty pages are read for the last time, the stream is
/// finished, and the group runs again or stays stopped. A fault at any point takes every device back to the state that it
/// was found in.
public struct SaveSession: SessionMachine {
  enum Phase: Hashable {
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

  let configuration: Configuration
  let devices: [SessionDevice]
  var phase = Phase.measuring
  var group: QuiesceCoordinator
  var writer = StreamWriter()
  var pumps: [SavePump]
  var freeBuffers: [Int]
  var nextReader = 0
  var fault: SessionFault?
  var cleanupFaults: [SessionFault] = []
  var channelBroken = false
  /// Frames that were handed to the channel, and those of them that are out.
  var framesHanded: UInt64 = 0
  var framesOut: UInt64 = 0
  var interrupts = 0
  var commitment = Commitment.none
  /// Rounds of guest memory, where that moves with the devices; see SaveSessionMemory.swift.
  var loop: PreCopyLoop?
  var limits: InboundLimits
  /// Orders that came, for a session that waits for them.
  var isStopOrdered = false
  var finishingStates: [[UInt8]?]?
  /// It was said that the stop only waits for its order.
  var isReadyNoted = false
  /// The devices that did not say where they are were asked for it, after a fault.
  var hasLooked = false

  public internal(set) var outcome: SessionOutcome?

  /// Whether the whole stream has been handed over and is as safe as the channel can make it.
  public internal(set) var isStreamComplete = false

  /// When the first device began to stop; nil before.
  public private(set) var stopBegan: MonotonicTime?
  /// When the destination said that its devices run; nil before.
  public internal(set) var destinationRan: MonotonicTime?
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
    precondition(configuration.memory.map { $0.throttled.count <= devices.count } ?? true, "limits are for devices")
    precondition(
      !configuration.finishesOnOrder || devices.allSatisfy { $0.vmmState == nil },
      "the VMM's state comes with the order")
    // Where others decide when the group stops, devices are read on after they are ready.
    let draining = configuration.memory != nil || configuration.stopsOnOrder
    pumps = devices.map { _ in SavePump(limits: configuration.pace, keepsDraining: draining) }
    limits = InboundLimits(configuration.memory?.throttled ?? [])
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

  /// What the pre-copy loop decided last; nil before the first reading, or where no guest memory moves.
  public var decision: PreCopyDecision? { loop?.decision }

  /// How often the trackers of dirty pages were read.
  public var rounds: Int { loop?.round ?? 0 }

  public var steps: [StepReport] { group.reports }
  public var quorum: Int { group.mover.quorum }

  public var deadline: MonotonicTime? {
    var earliest = [group.mover.deadline, slowDue].compactMap { $0 }.min()
    if phase == .preCopying, fault == nil, let due = loop?.due { earliest = earliest.map { min($0, due) } ?? due }
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
    return effects + beginMemory(at: now)
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
      framesOut += 1
      for device in pumps.indices { pumps[device].noteFrameOut(framesOut, at: now) }
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
      if interrupts > 1 { limits.giveUp() }
      // Once it has let go nothing can be taken back, and the destination's word is near; a second one waits no longer for it.
      let isTooLate = phase == .committed && interrupts == 1
      if fault == nil, givesUp || !(isGoingBack || isTooLate) { fail(.interrupted(reason)) }
    case .vcpusStopped:
      group.noteVCPUsStopped()
    case .order(let order):
      take(order)
    case .declareDead(let device):
      let isRead = pumps.indices.contains(device) && pumps[device].reads > 0
      if group.declareDead(device, dataIsUnderWay: isRead, at: now) { fail(.declaredDead(device)) }
    case .received(_, let item):
      effects += take(answer: item, at: now)
    case .dirty(let reading):
      effects += take(reading, at: now)
    case .pagesSent(let bytes):
      loop?.endSending(bytes, at: now)
    case .memoryFailed(let error):
      if fault == nil { fail(.memory(error)) }
    case .limited(let device, let error):
      effects += endLimit(device, error, at: now)
    case .time, .written:
      break
    }
    effects += group.mover.noteHangs(at: now) + noteSlowCalls(at: now)
    effects += proceed(at: now)
    return effects
  }

  /// Does whatever has become possible.
  mutating func proceed(at now: MonotonicTime) -> [SessionEffect] {
    var effects: [SessionEffect] = []
    var before: Phase
    repeat {
      before = phase
      effects += step(at: now)
    } while phase != before && outcome == nil
    return effects
  }

  mutating func step(at now: MonotonicTime) -> [SessionEffect] {
    if fault != nil, !isGoingBack {
      let lifted = liftLimits(at: now)
      guard group.mover.isSettled else { return lifted }
      let questions = look(at: now)
      return lifted + (questions.isEmpty ? [.note(.phase("going back"))] + start(at: now) : questions)
    }
    switch phase {
    case .measuring:
      guard group.mover.isSettled else { return [] }
      guard configuration.preCopy, group.mover.members.contains(where: { preCopyState(of: $0) != nil }) else {
        guard loop != nil || configuration.stopsOnOrder else { return stop(at: now) }
        phase = .preCopying
        return []
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
      return readLastPages(at: now) + copy(at: now)
    case .finishing, .awaitingLoaded, .committed, .ended:
      return []
    case .starting:
      let effects = group.proceed(at: now)
      return group.isAtRest ? effects + end(at: now) : effects
    }
  }

  mutating func take(_ order: SessionOrder) {
    switch order {
    case .round: loop?.orderRound()
    case .stop: isStopOrdered = true
    case .finish(let states):
      precondition(states.count == devices.count, "states are for devices")
      finishingStates = states
    }
  }

  var isGoingBack: Bool { phase == .starting || phase == .ended }

  mutating func fail(_ fault: SessionFault) {
    if self.fault == nil { self.fault = fault } else { cleanupFaults.append(fault) }
    group.mover.halt()
  }

  /// Before the way back begins: asks those devices where they are of which that is not known.
  mutating func look(at now: MonotonicTime) -> [SessionEffect] {
    guard !hasLooked else { return [] }
    hasLooked = true
    // A guest's reset that nobody looked into yet.
    for device in pumps.indices where pumps[device].suspicion != nil {
      pumps[device].suspicion = nil
      group.mover.observe(device, state: nil)
    }
    return group.mover.look(at: now)
  }

  mutating func giveUpHung(at now: MonotonicTime) -> Bool {
    if group.giveUpHung(at: now) { return true }
    // When nothing else is left to wait for, a read that outlives its session hangs too.
    guard phase == .starting, group.isAtRest else { return false }
    let hung = pumps.indices.filter { pumps[$0].reads > 0 && !group.mover.members[$0].isHung }
    for device in hung { group.giveUp(device, at: now) }
    return !hung.isEmpty
  }

  mutating func send(_ frame: OutgoingFrame) -> SessionEffect {
    framesHanded += 1
    return .send(frame)
  }

  // MARK: Moving the group

  func preCopyState(of member: GroupMover.Member) -> MigrationState? {
    switch member.state {
    case .running where member.graph.contains(.preCopy): .preCopy
    case .runningP2P where member.graph.contains(.preCopyP2P): .preCopyP2P
    default: nil
    }
  }

  mutating func stop(at now: MonotonicTime) -> [SessionEffect] {
    phase = .stopping
    loop?.beginStop()
    return group.stop(towards: .stopCopy, at: now)
  }

  mutating func start(at now: MonotonicTime) -> [SessionEffect] {
    phase = .starting
    // What was let go of does not run, whatever went wrong since.
    let staysStopped = commitment != .none || (fault == nil && configuration.keepStopped)
    let goals = devices.map { staysStopped ? .stop : $0.state }
    return group.start(towards: goals, isWayBack: fault != nil, at: now)
  }

  mutating func end(at now: MonotonicTime) -> [SessionEffect] {
    // Reads that were under way end with the session that they belong to; only then are their buffers free.
    guard zip(pumps, group.mover.members).allSatisfy({ $0.reads == 0 || $1.isHung }) else { return [] }
    guard fault != nil || channelBroken || framesOut == framesHanded else { return [] }
    guard limits.areLifted else { return [] }
    cleanupFaults += limits.unanswered.map { .stillLimited($0, nil) }
    phase = .ended
    stopEnded = now
    outcome = SessionOutcome(
      fault: fault, cleanupFaults: cleanupFaults, devices: group.outcomes(of: devices), commitment: commitment)
    return []
  }

  mutating func control(
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
      if step.isUnexpectedSession || (hasLeft && fault == nil && state != .error) {
        effects += restart(device)
        if configuration.memory?.lastResort == .giveUp, fault == nil { fail(.resetAtLastMoment(device)) }
      }
      return effects
    }
  }
}
