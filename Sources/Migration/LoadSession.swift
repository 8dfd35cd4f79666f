// SPDX-License-Identifier: Apache-2.0

/// The destination's side: writes the state of a group of devices out of a stream.
///
/// The manifest is compared with the devices before anything is touched. Then the group is stopped in the steps of
/// a ``QuiescePlan``, every device takes in its state in RESUMING, and only the stream's end lets them leave it: all to STOP,
/// which is where careful drivers verify, then to running in two phases. Where the stream commits, nothing runs before the
/// source has let go. Any fault before that resets the devices that were in RESUMING, because half a state, or one that
/// its source goes on with, is worth nothing; they are empty then, and the outcome says so.
public struct LoadSession: SessionMachine {
  private enum Phase: Hashable {
    case awaitingManifest
    case stopping
    case loading
    /// The devices leave RESUMING, all to STOP, and nothing runs before the source has let go.
    case settling
    case awaitingCommit
    case starting
    case ended
  }

  private struct Sink {
    var writes = 0
    var bytes: UInt64 = 0
    /// The device was asked to go to RESUMING.
    var wasAsked = false
    /// It was in RESUMING, so what it held before is gone.
    var isTouched = false
    var initialPending = false
    var isVoiding = false
    var expected: UInt64?
  }

  private let configuration: Configuration
  private let devices: [SessionDevice]
  private var phase = Phase.awaitingManifest
  private var group: QuiesceCoordinator
  private var sinks: [Sink]
  private var answers = StreamWriter()
  /// Frames that came in and could not be taken yet, oldest first, with their buffers.
  private var held: [(item: StreamItem, buffer: Int?)] = []
  private var framesUnderWay = 0
  private var interrupts = 0
  private var channelBroken = false
  private var hasLostStream = false
  private var streamEnded = false
  private var isGoingBack = false
  private var commitment = Commitment.none
  /// How often each device had been reset when the source let go.
  private var resetsBefore: [Int] = []
  /// The devices that did not say where they are were asked for it, after a fault.
  private var hasLooked = false
  /// The source is being told why this side gives up, and is waited for until then.
  private var farewellDue: MonotonicTime?
  private var hasGivenUp = false
  /// A few words fit in any socket's buffer, so this is the end for a source that reads nothing, in microseconds.
  private static let farewellLimit: UInt64 = 2_000_000
  private var fault: SessionFault?
  private var cleanupFaults: [SessionFault] = []

  public private(set) var outcome: SessionOutcome?

  /// The devices of the stream, once its manifest has come.
  public private(set) var manifest: StreamManifest?

  /// What the stream carries of the VMM's own, by device.
  public private(set) var vmmStates: [[UInt8]?]
  /// Bytes of these, also of those that wait.
  private var vmmStateBytes = 0

  /// - Parameters:
  ///   - devices: at least one, each in RUNNING, RUNNING_P2P or STOP; see ``refusal(devices:)``.
  ///   - plan: made for these devices.
  public init(devices: [SessionDevice], plan: QuiescePlan, configuration: Configuration = Configuration()) {
    precondition(!devices.isEmpty && configuration.buffers > 0)
    self.devices = devices
    self.configuration = configuration
    group = QuiesceCoordinator(
      devices: devices, plan: plan, resetAllowed: configuration.resetAllowed, configuration: configuration.quiescing)
    sinks = devices.map { _ in Sink() }
    vmmStates = devices.map { _ in nil }
  }

  public var progress: [DeviceProgress] {
    zip(group.mover.members, sinks).map { member, sink in
      DeviceProgress(state: member.state, bytes: sink.bytes, expectedBytes: sink.expected)
    }
  }

  public var steps: [StepReport] { group.reports }
  public var quorum: Int { group.mover.quorum }
  public var deadline: MonotonicTime? { [group.mover.deadline, farewellDue].compactMap { $0 }.min() }

  // MARK: Steps

  public mutating func begin(at now: MonotonicTime) -> [SessionEffect] {
    return [.note(.phase("waiting for the stream"))] + (0..<configuration.buffers).map { .receive(buffer: $0) }
  }

  public mutating func handle(_ event: SessionEvent, at now: MonotonicTime) -> [SessionEffect] {
    guard outcome == nil else { return [] }
    var effects: [SessionEffect] = []
    switch event {
    case .control(let device, let request, let result, let times):
      if request == .setState(.resuming), group.mover.expects(device, request) {
        sinks[device].wasAsked = true
        if case .success = result { sinks[device].isTouched = true }
      }
      let step = group.handle(device, request, result, times, at: now)
      for fault in step.faults { fail(fault) }
      effects += step.effects
    case .received(_, .commit) where phase != .awaitingCommit:
      // Ignored on the way back: what the source let go of too late is lost, and it says so.
      if fault == nil {
        fail(.stream(StreamError(.invalid("it comes before everything was loaded"), place: "the commit", offset: 0)))
      }
    case .received(_, .vmmState(let device, let bytes))
    where bytes.count > configuration.maximumVMMStateBytes - vmmStateBytes:
      if fault == nil {
        let most = configuration.maximumVMMStateBytes
        fail(
          .stream(
            StreamError(
              .invalid("the VMMs' own states of the devices are more than \(most) bytes together, and so not taken"),
              place: "the VMM's state of device \(device)", offset: 0)))
      }
    case .received(let buffer, let item):
      if case .vmmState(_, let bytes) = item { vmmStateBytes += bytes.count }
      held.append((item, buffer))
    case .written(let device, let buffer, let error):
      sinks[device].writes -= 1
      if let error { fail(.device(device, error)) }
      effects += receive(into: buffer)
    case .sent:
      framesUnderWay -= 1
    case .streamFailed(let error):
      lose(.stream(error))
    case .channelFailed(let error):
      channelBroken = true
      // Answers are a courtesy; a source that has sent everything may be gone already. A source that was still to commit
      // has not, and goes on running.
      if !hasWholeStream { lose(.channel(error)) }
    case .interrupt(let reason):
      interrupts += 1
      let givesUp = interrupts > 1 && giveUpHung(at: now)
      if fault == nil, givesUp || !hasWholeState { fail(.interrupted(reason)) }
    case .vcpusStopped:
      group.noteVCPUsStopped()
    case .declareDead(let device):
      let isWritten = sinks.indices.contains(device) && sinks[device].writes > 0
      if group.declareDead(device, dataIsUnderWay: isWritten, at: now) { fail(.declaredDead(device)) }
    case .time, .order, .read, .channelFinished, .dirty, .pagesSent, .memoryFailed, .limited:
      break
    }
    if let due = farewellDue, due <= now {
      // Whoever does not read by now has to find out by itself.
      farewellDue = nil
      channelBroken = true
    }
    effects += group.mover.noteHangs(at: now)
    var before: Phase
    repeat {
      before = phase
      effects += step(at: now)
    } while phase != before && outcome == nil
    return effects
  }

  /// Every device has left RESUMING by the arc to STOP: from here on a fault undoes nothing.
  private var hasWholeState: Bool { phase == .starting ? !group.isLeavingData : phase == .ended }

  private var commits: Bool { manifest?.commits ?? false }
  private var hasCommit: Bool { commitment == .unanswered || commitment == .complete }

  /// The last frame came, even if it still waits behind others.
  private var hasWholeStream: Bool {
    commits ? hasCommit || held.contains { $0.item == .commit } : streamEnded || held.contains { $0.item == .end }
  }

  private mutating func fail(_ fault: SessionFault) {
    if self.fault == nil { self.fault = fault } else { cleanupFaults.append(fault) }
    group.mover.halt()
  }

  /// Nothing more comes in. Every buffer that was offered for a frame says so; once is enough.
  private mutating func lose(_ fault: SessionFault) {
    if !hasLostStream { fail(fault) }
    hasLostStream = true
  }

  private mutating func giveUpHung(at now: MonotonicTime) -> Bool {
    if group.giveUpHung(at: now) { return true }
    // When nothing else is left to wait for, a write that outlives its session hangs too. An answer is only dropped.
    guard phase == .starting, group.isAtRest else { return false }
    channelBroken = true
    let hung = sinks.indices.filter { sinks[$0].writes > 0 && !group.mover.members[$0].isHung }
    for device in hung { group.giveUp(device, at: now) }
    return !hung.isEmpty
  }

  private mutating func receive(into buffer: Int?) -> [SessionEffect] {
    guard fault == nil, commits ? !hasCommit : !streamEnded else { return [] }
    return [.receive(buffer: buffer)]
  }

  private mutating func step(at now: MonotonicTime) -> [SessionEffect] {
    if fault != nil, !isGoingBack, !hasWholeState {
      let farewell = giveUp(at: now)
      guard group.mover.isSettled else { return farewell }
      if !hasLooked {
        hasLooked = true
        let questions = group.mover.look(at: now)
        if !questions.isEmpty { return farewell + questions }
      }
      isGoingBack = true
      held = []
      for device in sinks.indices {
        // A request for RESUMING that failed and left the device in STOP has changed nothing in it.
        if sinks[device].wasAsked, group.mover.members[device].state != .stop { sinks[device].isTouched = true }
        if sinks[device].isTouched { group.mover.demandReset(device) }
      }
      // Before the first transition there is nothing to take back.
      if phase == .awaitingManifest {
        phase = .starting
        return farewell + end()
      }
      return farewell + [.note(.phase("going back"))] + start(at: now)
    }
    switch phase {
    case .awaitingManifest:
      return takeManifest(at: now)
    case .stopping:
      let effects = group.proceed(at: now)
      guard group.isAtRest else { return effects }
      phase = .loading
      return effects + [.note(.phase("loading"))]
    case .loading:
      return load(at: now)
    case .settling:
      let effects = group.proceed(at: now)
      guard group.isAtRest else { return effects }
      phase = .awaitingCommit
      commitment = .offered
      return effects + [.note(.phase("waiting for the commit")), say(.loaded)]
    case .awaitingCommit:
      return takeCommit(at: now)
    case .starting:
      var effects = group.proceed(at: now)
      guard group.isAtRest else { return effects }
      if commitment == .unanswered, allRunWithTheirState {
        commitment = .complete
        if !channelBroken { effects.append(say(.running)) }
      } else if commitment == .unanswered {
        effects += giveUp(at: now)
      }
      return effects + end()
    case .ended:
      return []
    }
  }

  private mutating func takeManifest(at now: MonotonicTime) -> [SessionEffect] {
    guard let first = held.first else { return [] }
    guard case .manifest(let manifest) = first.item else {
      fail(.stream(StreamError(.invalid("the manifest must come first"), place: "frame 0", offset: 0)))
      return step(at: now)
    }
    held.removeFirst()
    self.manifest = manifest
    if let mismatch = Self.mismatch(manifest: manifest, devices: devices, policy: configuration.tagPolicy)
      ?? commitRefusal
    {
      fail(.mismatch(mismatch))
      return step(at: now)
    }
    phase = .stopping
    let warnings = Self.warnings(manifest: manifest, devices: devices, policy: configuration.tagPolicy)
      .map { SessionEffect.note(.unlike(device: $0.device, $0.finding)) }
    return warnings + receive(into: first.buffer) + group.stop(towards: .resuming, at: now)
  }

  /// Why a stream whose source waits for answers can't be loaded here.
  private var commitRefusal: String? {
    guard commits else { return nil }
    if configuration.keepStopped {
      return "the source lets go once the devices run here, and they are to stay stopped: ask for one or the other"
    }
    return configuration.answers ? nil : "the source waits for answers, and this channel brings it none"
  }

  private mutating func say(_ word: FrameType) -> SessionEffect {
    framesUnderWay += 1
    return .send(answers.word(word))
  }

  /// Tells a source that is still to hear who runs why it will not be told that, once.
  private mutating func giveUp(at now: MonotonicTime) -> [SessionEffect] {
    guard let fault, commits, configuration.answers, !hasGivenUp, !channelBroken else { return [] }
    hasGivenUp = true
    farewellDue = now.adding(microseconds: Self.farewellLimit)
    framesUnderWay += 1
    return [.send(answers.givenUp(StreamReason(fault.words(names: devices.map(\.name)))))]
  }

  private mutating func takeCommit(at now: MonotonicTime) -> [SessionEffect] {
    var effects: [SessionEffect] = []
    while let first = held.first {
      held.removeFirst()
      if first.item == .commit {
        commitment = .unanswered
        resetsBefore = group.mover.members.map(\.resets)
        return effects + start(at: now)
      }
      // A frame that this code does not know.
      effects += receive(into: first.buffer)
    }
    return effects
  }

  /// Whether every device runs with what was loaded into it, also where one needed a second attempt.
  private var allRunWithTheirState: Bool {
    zip(group.mover.members, resetsBefore).allSatisfy { $0.state == .running && !$0.isHung && $0.resets == $1 }
  }

  /// Every device has its state: out of RESUMING, and on to running where nobody has to let go first.
  private mutating func settle(at now: MonotonicTime) -> [SessionEffect] {
    guard commits else { return start(at: now) }
    phase = .settling
    return group.start(towards: devices.map { _ in .stop }, isWayBack: false, leavingData: .forward, at: now)
  }

  private mutating func start(at now: MonotonicTime) -> [SessionEffect] {
    phase = .starting
    let goals = devices.map { isGoingBack ? $0.state : configuration.keepStopped ? .stop : .running }
    // Out of RESUMING the ladder knows one way only, the reset; a whole state leaves it by the arc to STOP.
    return group.start(
      towards: goals, isWayBack: isGoingBack, leavingData: isGoingBack ? .back : .forward, at: now)
  }

  private mutating func end() -> [SessionEffect] {
    guard zip(sinks, group.mover.members).allSatisfy({ $0.writes == 0 || $1.isHung }) else { return [] }
    let isMute = fault != nil && !hasGivenUp
    guard isMute || channelBroken || framesUnderWay == 0 else { return [] }
    phase = .ended
    outcome = SessionOutcome(
      fault: fault, cleanupFaults: cleanupFaults, devices: group.outcomes(of: devices), commitment: commitment)
    return []
  }

  // MARK: Data

  /// Takes frames in order, as far as the devices allow.
  private mutating func load(at now: MonotonicTime) -> [SessionEffect] {
    var effects: [SessionEffect] = []
    while fault == nil, let first = held.first {
      guard take(first.item, buffer: first.buffer, at: now, &effects) else { break }
      held.removeFirst()
    }
    for device in sinks.indices where sinks[device].initialPending && sinks[device].writes == 0 {
      effects += answer(device)
    }
    if streamEnded, fault == nil, held.isEmpty, sinks.allSatisfy({ $0.writes == 0 }), group.mover.isSettled {
      effects += settle(at: now)
    }
    return effects
  }

  private mutating func answer(_ device: Int) -> [SessionEffect] {
    sinks[device].initialPending = false
    guard configuration.answers, !channelBroken else { return [] }
    framesUnderWay += 1
    return [.send(answers.mark(.initialLoaded, device: device))]
  }

  /// - Returns: whether the frame was taken; otherwise it has to wait.
  private mutating func take(
    _ item: StreamItem, buffer: Int?, at now: MonotonicTime, _ effects: inout [SessionEffect]
  ) -> Bool {
    switch item {
    case .deviceData(let device, let bytes):
      guard let buffer else { break }
      sinks[device].writes += 1
      sinks[device].bytes += UInt64(bytes)
      effects.append(.write(device: device, buffer: buffer, bytes: bytes))
      return true
    case .void(let device):
      // The device begins anew: what is under way ends, it is reset, and it goes back into RESUMING.
      guard sinks[device].writes == 0, !group.mover.isBusy(device) else { return false }
      guard sinks[device].isVoiding else {
        sinks[device].isVoiding = true
        // The source counts on an answer to each mark, also to one that has become void.
        if sinks[device].initialPending { effects += answer(device) }
        effects.append(group.mover.restart(device, to: .resuming, at: now))
        return false
      }
      sinks[device] = Sink()
      sinks[device].wasAsked = true
      sinks[device].isTouched = true
    case .initialComplete(let device):
      sinks[device].initialPending = true
    case .vmmState(let device, let bytes):
      vmmStates[device] = bytes
    case .deviceEnd(let device, let bytes):
      sinks[device].expected = bytes
    case .end:
      streamEnded = true
    case .commit:
      // Its time is when every device has left RESUMING.
      return false
    case .manifest, .initialLoaded, .loaded, .running, .givenUp, .skipped:
      break
    }
    effects += receive(into: buffer)
    return true
  }
}
