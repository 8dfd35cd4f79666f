@testable import Helper
// SPDX-License-Identifier: Apache-2.0
@testable import Migration

/// A session between a VMM and a driver that do what such may do, and what has to hold all the while.
struct SessionModel {
  var session: HelperSession
  /// Requests that have no reply yet.
  private(set) var waiting: [UInt32: HelperRequest] = [:]
  /// Tasks that are under way.
  private(set) var tasks: [(number: UInt32, task: HelperSession.Task)] = []
  private(set) var isOver = false
  private var number: UInt32 = 0
  private var phase = HelperPhase.setup
  /// The session that is being made ready, or runs: the task, and whether it has begun and may end well.
  private var run: (task: HelperSession.Task, hasBegun: Bool, mayFinish: Bool)?
  private var vcpusAreStopped = false
  private var hasCommitted = false
  /// Mappings that the driver has.
  private var mapped = 0

  init() {
    var limits = HelperLimits()
    limits.devices = 2
    limits.memory = 3
    limits.mappings = 4
    limits.blob = 2048
    session = HelperSession(limits: limits, version: "fuzz")
  }

  // MARK: What comes in

  /// - Parameter number: nil is the next.
  mutating func ask(_ request: HelperRequest, number known: UInt32? = nil) throws {
    if known == nil { number += 1 }
    let number = known ?? number
    let before = session.phase
    let isKnown = waiting[number] != nil
    waiting[number] = waiting[number] ?? request
    if request == .vcpusStopped { vcpusAreStopped = true }
    let actions = session.handle(.request(number, request))
    if isKnown {
      guard case .reply(number, .failure) = actions.first, case .end = actions.last, actions.count == 2 else {
        throw FuzzFinding("a number that waits for its reply is taken again: \(actions)")
      }
    } else if !request.isAllowed(in: before) {
      guard case .reply(number, .failure) = actions.first else {
        throw FuzzFinding("\(request) is taken in \(before): \(actions)")
      }
      // Another major version ends it.
      try demand(actions.count == 1 || request.isHello && actions.count == 2, "a refusal does something: \(actions)")
    }
    try check(actions)
  }

  mutating func take(_ input: HelperSession.Input) throws {
    if case .terminated = input {
      let actions = session.handle(input)
      guard case .end = actions.first, actions.count == 1 else { throw FuzzFinding("it does not end: \(actions)") }
      return try check(actions)
    }
    try check(session.handle(input))
  }

  mutating func hangUp() throws {
    let actions = session.handle(.hungUp)
    guard case .end = actions.first, actions.count == 1 else {
      throw FuzzFinding("a VMM that is gone has something done: \(actions)")
    }
    try check(actions)
  }

  /// A task ends as it can.
  mutating func end(task index: Int, fails: Bool, state: MigrationState) throws {
    let (number, task) = tasks.remove(at: index)
    var reply = HelperReply.done
    var fails = fails
    switch task {
    case .adopt(let device): reply = .device(Self.info(device.device, state))
    case .describe(let id): reply = .device(Self.info(id, state))
    case .arc(let id, let state): reply = .device(Self.info(id, state))
    case .reset(let ids): reply = ids.last.map { .device(Self.info($0, .running)) } ?? .done
    case .giveBlob(let id): reply = .blob(device: id, size: 0)
    case .startTracking, .readTracking: reply = .bitmap(pageSize: 4096, words: 1, dirty: 1)
    case .addMapping: mapped += fails ? 0 : 1
    case .addMemory(let memory): mapped += fails || memory.mapping == nil ? 0 : 1
    case .removeMapping:
      // What is not there can't be removed.
      fails = fails || mapped == 0
      mapped -= fails ? 0 : 1
    case .save, .load, .resume:
      if fails { run = nil } else { run?.hasBegun = true }
    case .takeBack: if number == 0 { fails = false }
    default: break
    }
    try take(.finished(number, fails ? .failure(HelperFailure(.system, "fuzz")) : reply))
  }

  /// Whether there is a session that tells something: its beginning was told.
  var hasBegun: Bool { run?.hasBegun == true }

  mutating func endSession(fault: SessionFault?, devices: [DeviceOutcome]) throws {
    guard let run, run.hasBegun else { return }
    var fault = fault
    var devices = devices
    let end: MigrationState
    switch run.task {
    case .save:
      if !run.mayFinish { fault = fault ?? .interrupted("fuzz") }
      end = .stop
    case .load: end = .stop
    default: end = .running
    }
    if fault == nil { devices = devices.map { DeviceOutcome(name: $0.name, state: end) } }
    self.run = nil
    try take(.sessionEnded(SessionOutcome(fault: fault, devices: devices)))
  }

  /// Everything comes to an end: then nothing has been left without its reply.
  mutating func settle() throws {
    for _ in 0..<10_000 where !isOver {
      if !tasks.isEmpty {
        try end(task: 0, fails: false, state: .running)
      } else if hasBegun {
        let devices = session.order.map { DeviceOutcome(name: "\($0)", state: .running) }
        try endSession(fault: .interrupted("fuzz"), devices: devices)
      } else {
        try demand(waiting.isEmpty, "in \(session.phase) nothing is under way, and there is no reply to \(waiting)")
        try ask(.status)
        try hangUp()
      }
    }
    try demand(isOver, "it does not come to an end")
    try demand(session.handle(.request(1, .status)).isEmpty, "it goes on after its end")
  }

  // MARK: What comes out

  private mutating func check(_ actions: [HelperSession.Action]) throws(FuzzFinding) {
    for action in actions {
      try demand(!isOver, "\(action) after the end")
      switch action {
      case .reply(let number, _):
        try demand(waiting.removeValue(forKey: number) != nil, "a second reply to \(number), or one to nothing")
      case .event(.phase(let next)):
        try demand(phase.mayBecome(next), "from \(phase) to \(next)")
        phase = next
      case .event, .forgetBlobs: break
      case .perform(let number, let task): try begin(number, task)
      case .interrupt, .declareDead: try demand(run != nil, "\(action) is told to no session")
      case .order(let order):
        try demand(run != nil && !hasCommitted, "\(order) is given to no session")
        if order == .stop { try demand(vcpusAreStopped, "devices are to stop under running vCPUs") }
        if order == .finish { run?.mayFinish = true }
      case .letGo:
        try demand(phase == .complete, "devices are let go of in \(phase)")
        hasCommitted = true
      case .end: isOver = true
      }
    }
    if !isOver { try demand(phase == session.phase, "it is in \(session.phase), and was said to be in \(phase)") }
    try demand(
      (mapped...session.limits.mappings).contains(session.mappings), "\(session.mappings) mappings, of \(mapped)")
    try demand((0...session.limits.memory).contains(session.memoryRanges), "\(session.memoryRanges) ranges")
    if !session.vcpusAreStopped { vcpusAreStopped = false }
  }

  private mutating func begin(_ number: UInt32, _ task: HelperSession.Task) throws(FuzzFinding) {
    try demand(!hasCommitted, "\(task) after COMMIT")
    if number == 0 {
      guard case .takeBack = task else { throw FuzzFinding("\(task) is done for nobody") }
    } else {
      try demand(waiting[number] != nil, "\(task) is done for \(number), which has its reply")
      try demand(!tasks.contains { $0.number == number }, "two tasks at once for \(number)")
    }
    switch task {
    case .resume:
      switch waiting[number] {
      case .resume, .abort, .removeDevice: break
      default: throw FuzzFinding("devices are to run for \(String(describing: waiting[number]))")
      }
      fallthrough
    case .save, .load:
      try demand(run == nil, "a second session")
      run = (task, false, false)
    default: break
    }
    tasks.append((number, task))
  }

  private static func info(_ id: UInt32, _ state: MigrationState) -> HelperDeviceInfo {
    HelperDeviceInfo(
      device: id, state: state, features: [.stopCopy, .p2p, .preCopy], can: .from(state), tracker: .everything,
      stopCopyBytes: 1, driver: "fake", reason: "")
  }
}

extension HelperPhase {
  /// Which phase may follow, as docs/helper-protocol.md has it.
  fileprivate func mayBecome(_ next: HelperPhase) -> Bool {
    switch self {
    case .setup: [.preCopy, .loading, .resuming].contains(next)
    case .preCopy: [.quiescing, .goingBack, .setup].contains(next)
    case .quiescing: [.stopped, .goingBack, .setup].contains(next)
    case .stopped: [.complete, .goingBack, .setup].contains(next)
    case .complete: [.committed, .resuming].contains(next)
    case .committed: false
    case .loading: [.loaded, .goingBack, .setup].contains(next)
    case .loaded: [.resuming, .goingBack].contains(next)
    case .resuming: [.setup, .goingBack, .complete, .loaded].contains(next)
    // What is said to go back may be through before it hears of that.
    case .goingBack: [.setup, .complete, .loaded].contains(next)
    }
  }
}

extension HelperRequest {
  fileprivate var isHello: Bool { if case .hello = self { true } else { false } }

  /// The table of docs/helper-protocol.md.
  fileprivate func isAllowed(in phase: HelperPhase) -> Bool {
    switch self {
    case .hello, .describe, .declareDead, .estimate, .status, .vcpusStopped: true
    case .abort: phase != .committed
    case .addDevice, .arc, .reset, .link, .tag, .addMemory, .startTracking, .readTracking, .stopTracking, .beginSave,
      .beginLoad:
      phase == .setup
    // Outside of SETUP it ends the session first.
    case .removeDevice: true
    case .blob: [.setup, .preCopy, .quiescing, .stopped].contains(phase)
    case .addMapping, .removeMapping, .addDirtyPages: [.setup, .preCopy].contains(phase)
    case .step, .quiesce: phase == .preCopy
    case .complete: phase == .stopped
    case .commit: phase == .complete
    case .readBlob: phase == .loaded
    case .resume: [.setup, .preCopy, .stopped, .complete, .loaded].contains(phase)
    }
  }
}
