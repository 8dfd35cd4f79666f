// SPDX-License-Identifier: Apache-2.0
public import Migration

/// Two hosts, a link, and a clock that jumps from event to event: drives the two sessions of a move as threads do on a
/// kernel, with one order of events for each scenario.
public struct SimulatedWorld: Sendable {
  enum Event: Sendable {
    case begin(SimulatedSide)
    case controlDone(SimulatedSide, device: Int, call: Int)
    case dataDone(SimulatedSide, device: Int, call: Int)
    /// A frame has left this side.
    case frameOut(SimulatedSide, OutgoingFrame)
    case finished(SimulatedSide)
    /// Bytes come to this side; nil is the end of the connection.
    case arrival(SimulatedSide, [UInt8]?)
    case deliver(SimulatedSide, SessionEvent)
    case timer(SimulatedSide, MonotonicTime)
    case interrupt(SimulatedSide)
    case guestReset(device: Int)
    case death(Scenario.Death)
    case kill(SimulatedSide)
    case linkBreaks
    case vcpusStop(SimulatedSide)
    /// A driver that hung gives its function the command.
    case functionBegins(SimulatedSide, device: Int, call: Int)
    /// Guest memory leaves the source, arrives, and is looked at for dirty pages.
    case parcelOut(MemoryMover.Parcel)
    case memoryArrival(MemoryMover.Parcel)
    case pagesRead(DirtyMoment)
    /// What comes in to a device of the source is limited to so many bytes a second, or no longer.
    /// Or that failed.
    case limited(device: Int, UInt64?, ErrorNumber?)
  }

  let scenario: Scenario
  let checksum: StreamChecksum
  var save: SaveSession
  var load: LoadSession
  /// By the side's number.
  var hosts: [SimulatedHost]
  /// By the number of the side that sends.
  var directions: [LinkDirection]
  var queue = EventQueue<Event>()
  var referee: Referee
  var digest = RunDigest()
  var sessionEvents = [0, 0]
  var timers: [MonotonicTime?] = [nil, nil]
  /// Devices that were reported as hung and not given up since.
  var hanging: [[Bool]]
  /// Sides whose session has begun: before, there is nobody to tell anything.
  var hasBegun = [false, false]
  var isClosed = [false, false]
  /// Sides whose process was killed.
  public internal(set) var isKilled = [false, false]
  var interruptions = [0, 0]

  /// The hosts' machines, their peers and the network, where devices are functions of a world.
  var machines: MachineWorld?
  /// By side and device: the call that a function carries out.
  var functionCalls: [[FunctionCall?]]
  var mover = MemoryMover()
  /// Guest memory without content, where the scenario has that.
  var memoryModel: SimulatedMemory?
  /// By device of the source: the bytes a second that it is limited to. The host keeps a record of each until it is lifted.
  var inboundLimits: [UInt64?]
  /// By device of the source: from when on its limiter does what it is told next; nil where it never answers.
  var limitersFree: [MonotonicTime?]
  var stopClock = StopClock()
  var vcpusAreStopped = false
  /// The destination's memory was held against the source's.
  var isMemoryCompared = false
  /// The source has handed COMMIT to the channel.
  var isCommitHanded = false
  /// So many changes of devices' states were looked at for twins.
  var changesSeen = 0
  /// Where the machine runs.
  public internal(set) var place = MachinePlace.runs(.source)
  /// What was found to be broken while the machine moved.
  var findings: [String] = []
  /// For what is left to chance beside the machines.
  var chance: SeededGenerator
  /// By device: the way of a restart that a broken world forces.
  var forcedPaths: [[MigrationState]] = []
  /// When both sessions were over.
  var sessionsEnded: MonotonicTime?

  /// The virtual clock.
  public internal(set) var now = MonotonicTime(microseconds: 0)
  /// Everything that the sessions said, in order.
  public internal(set) var notes: [TimedNote] = []
  /// How many events there were.
  var eventCount = 0

  /// A simulation with more events than this has lost its way. A session that is not over by then is a violation.
  private let mostEvents: Int

  /// - Parameters:
  ///   - scenario: with as many devices on one side as on the other, at least one.
  ///   - checksum: the stream's; any will do where speed or interchange do not matter.
  /// - Throws: where no order brings the devices to a consistent stop.
  public init(_ scenario: Scenario, checksum: StreamChecksum) throws(QuiesceRefusal) {
    self.scenario = scenario
    self.checksum = checksum
    hosts = [
      SimulatedHost(
        .source, devices: scenario.source, areFunctions: scenario.world != nil, buffers: scenario.save.buffers),
      SimulatedHost(
        .destination, devices: scenario.destination, areFunctions: scenario.world != nil,
        buffers: scenario.load.buffers),
    ]
    functionCalls = hosts.map { $0.devices.map { _ in nil } }
    inboundLimits = scenario.source.map { _ in nil }
    limitersFree = scenario.source.map { _ in MonotonicTime(microseconds: 0) }
    memoryModel = scenario.memory.map { SimulatedMemory($0, seed: scenario.seed) }
    chance = SeededGenerator(seed: scenario.seed ^ 0x6368_616e_6365)
    directions = [LinkDirection(checksum: checksum), LinkDirection(checksum: checksum)]
    hanging = [scenario.source.map { _ in false }, scenario.destination.map { _ in false }]
    var saving = scenario.save
    saving.awaitsAnswers = scenario.link.isTwoWay
    saving.commits = scenario.commits && scenario.link.isTwoWay
    if scenario.world == nil, scenario.memory == nil { saving.memory = nil }
    var loading = scenario.load
    loading.answers = scenario.link.isTwoWay
    var plans: [QuiescePlan] = []
    for host in hosts {
      let reachability = scenario.reachability ?? .assumed(count: host.devices.count)
      plans.append(try QuiescePlan(devices: host.sessionDevices, reachability: reachability))
    }
    save = SaveSession(devices: hosts[0].sessionDevices, plan: plans[0], configuration: saving)
    load = LoadSession(devices: hosts[1].sessionDevices, plan: plans[1], configuration: loading)
    referee = Referee(reachability: plans.map(\.reachability))
    mostEvents = Self.mostEvents(scenario)
    queue.put(.begin(.destination), at: now)
    queue.put(.begin(.source), at: now.adding(microseconds: scenario.world?.moveAt ?? 0))
    if let world = scenario.world {
      var configuration = MachineWorld.Configuration(world, scriptSeed: scenario.scriptSeed)
      configuration.keepsRoundTrips = scenario.keepsRoundTrips
      do {
        machines = try MachineWorld(configuration, seed: scenario.seed)
      } catch {
        preconditionFailure("the guest of a world can't be set up: \(error)")
      }
      machines?.start()
    }
    for reset in scenario.guestResets { queue.put(.guestReset(device: reset.device), at: reset.time) }
    for death in scenario.deaths { queue.put(.death(death), at: death.time) }
    for interrupt in scenario.interrupts {
      if case .at(let time) = interrupt.moment { queue.put(.interrupt(interrupt.side), at: time) }
    }
    for kill in scenario.kills {
      if case .at(let time) = kill.moment { queue.put(.kill(kill.side), at: time) }
    }
    if let time = scenario.link.breaksAt { queue.put(.linkBreaks, at: time) }
  }

  /// Far more than a good run has: some for each read, and some for each of the infos while the state goes out.
  private static func mostEvents(_ scenario: Scenario) -> Int {
    let bytes = scenario.source.map(\.stateBytes).reduce(0, +)
    let reads = scenario.source.map { $0.stateBytes / min($0.mostBytesPerRead, StreamFormat.maximumDataSize) }
    let microseconds = UInt64(bytes) / max(1, scenario.link.bytesPerMicrosecond)
    let infos = Int(microseconds / max(1, scenario.save.pace.interval)) * scenario.source.count
    let parcels = (scenario.memory?.pages ?? 0) / MemoryMover.modelParcelPages
    return 1_000_000 + 100 * (reads.reduce(0, +) + infos + parcels)
  }

  /// Why the scenario's devices can't be moved, in words; nil where they can. Ask before ``advance()``.
  public var refusal: String? {
    SaveSession.refusal(devices: hosts[0].sessionDevices) ?? LoadSession.refusal(devices: hosts[1].sessionDevices)
  }

  /// The devices of a host, as they are now.
  public func devices(of side: SimulatedSide) -> [SimulatedDevice] { hosts[side.rawValue].devices }

  /// How far a session is.
  public func progress(of side: SimulatedSide) -> [DeviceProgress] {
    side == .source ? save.progress : load.progress
  }

  /// How a session ended; nil before.
  public func outcome(of side: SimulatedSide) -> SessionOutcome? {
    side == .source ? save.outcome : load.outcome
  }

  /// How many events a session has taken.
  public func sessionEventCount(of side: SimulatedSide) -> Int { sessionEvents[side.rawValue] }

  /// What the VMM's state of each device was on the source, once the destination has it.
  public var loadedVMMStates: [[UInt8]?] { load.vmmStates }

  // Nothing here may copy the machines, which is what closures and bindings to `self` would do: it is asked for each event.

  /// Whether both sessions are over and what they left behind has come to rest, or nothing can happen any more.
  public var isOver: Bool {
    if eventCount > mostEvents { return true }
    guard scenario.world != nil else { return areSessionsOver || queue.isEmpty }
    guard let next = nextTime, machines?.isExhausted == false else { return true }
    guard areSessionsOver, let sessionsEnded else { return false }
    return machines?.arePeersDone == true || next > sessionsEnded.adding(microseconds: Self.aftermath)
  }

  /// Whether both sessions are over.
  var areSessionsOver: Bool { (isClosed[0] || isKilled[0]) && (isClosed[1] || isKilled[1]) }

  /// When the next thing happens.
  private var nextTime: MonotonicTime? {
    guard let here = queue.nextTime else { return machines?.nextTime }
    return machines?.nextTime.map { min($0, here) } ?? here
  }

  /// Microseconds after the sessions in which peers have to come to their ends.
  private static let aftermath: UInt64 = 3_000_000

  /// Whether nothing more will come of a side.
  func isDone(_ side: SimulatedSide) -> Bool { outcome(of: side) != nil || isKilled[side.rawValue] }

  /// Goes on to the next event.
  /// - Returns: whether there may be more.
  @discardableResult
  public mutating func advance() -> Bool {
    guard !isOver else { return false }
    if let next = machines?.nextTime, next <= queue.nextTime ?? next {
      guard machines?.step() == true else { return false }
      now = next
      if machines?.hasAnswers == true { takeAnswers() }
      if machines?.stateChanges.count != changesSeen { watchForTwins() }
    } else {
      guard let (time, event) = queue.take() else { return false }
      now = time
      machines?.wait(until: now)
      eventCount += 1
      take(event)
    }
    if sessionsEnded == nil, areSessionsOver { sessionsEnded = now }
    if !isOver { return true }
    for side in SimulatedSide.allCases where !isDone(side) {
      referee.record("\(side): nothing can happen any more, and the session has no outcome", at: now)
    }
    return false
  }

  /// Goes on until the virtual clock would pass `time`.
  /// - Returns: whether there may be more.
  @discardableResult
  public mutating func advance(to time: MonotonicTime) -> Bool {
    while !isOver, let next = nextTime, next <= time { advance() }
    return !isOver
  }

  /// Goes on to the end.
  public mutating func run() -> SimulationSummary {
    while advance() {}
    return summary
  }
}
