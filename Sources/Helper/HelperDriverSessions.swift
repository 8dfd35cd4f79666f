// SPDX-License-Identifier: Apache-2.0
internal import Engine
internal import LinuxIO
internal import Migration
internal import Synchronization
internal import Transport

/// What a session that was made ready waits for.
typealias HelperStart = BlockingQueue<Void>

/// The session that runs: how it is made ready, told of orders, and ended.
extension HelperDriver {
  func interrupt(_ reason: String) {
    tell { $0.interrupt(reason: reason) }
    // Everything may be in the devices, so that only memory is waited for.
    state.withLock { $0.arriving }?.cancel()
  }

  func declareDead(_ id: UInt32) {
    if let index = state.withLock({ $0.order.firstIndex(of: id) }) { tell { $0.declareDead(device: index) } }
  }

  func order(_ order: HelperSession.Order) {
    switch order {
    case .round: tell { $0.order(.round) }
    case .stop:
      tell { runner in
        runner.tellVCPUsStopped()
        runner.order(.stop)
      }
    case .finish:
      // For this session only, and behind the blobs that came before it; mostly there are none any more, and the guest waits.
      let (runner, ids, isBehind) = state.withLock { ($0.runner, $0.order, $0.blobsUnderWay > 0) }
      let finish: @Sendable () -> Void = { [self] in
        let states = state.withLock { state in ids.map { state.blobs[$0] } }
        runner?.order(.finish(vmmStates: states))
      }
      if isBehind { planning.put(finish) } else { finish() }
    }
  }

  /// Tells the running session, or the one that will run.
  private func tell(_ word: @escaping @Sendable (SessionRunner) -> Void) {
    let runner = state.withLock { state in
      state.untold?.append(word)
      return state.untold == nil ? state.runner : nil
    }
    if let runner { word(runner) }
  }

  /// A session is about to be made.
  func prepare(_ ids: [UInt32]) {
    state.withLock { state in
      state.untold = []
      state.order = ids
    }
  }

  /// The devices of a session, made ready for it.
  private struct Group {
    var devices: [any MigratableDevice] = []
    var described: [SessionDevice] = []
    var plan: QuiescePlan
  }

  private func group(_ ids: [UInt32], _ links: [HelperLink]) throws(HelperFailure) -> Group {
    var devices: [any MigratableDevice] = []
    var described: [SessionDevice] = []
    for id in ids {
      guard let device = held(id)?.device.withLock({ $0 }) else {
        throw HelperFailure(.noSuch, device: id, "device \(id) is gone")
      }
      do throws(DeviceError) {
        described.append(
          SessionDevice(
            name: "\(device.name)", driver: device.driver, features: try device.migrationFeatures(),
            state: try device.migrationState(), tag: device.tag))
      } catch {
        throw HelperFailure(.device, device: id, errno: error.errno, "\(device.name): \(error)")
      }
      devices.append(device)
    }
    var reachability = host.reachability(of: devices.map(\.name))
    for link in links {
      guard let from = ids.firstIndex(of: link.from), let to = ids.firstIndex(of: link.to) else { continue }
      reachability.declare(from: from, to: to, exists: link.isThere, by: "the VMM")
    }
    do throws(QuiesceRefusal) {
      return Group(
        devices: devices, described: described,
        plan: try QuiescePlan(devices: described, reachability: reachability))
    } catch {
      throw HelperFailure(
        .refused, "\(error); where one of them never writes to another, say so (VFIO_FERRY_DEVICE_LINK)")
    }
  }

  func begin(
    _ save: HelperSave, _ ids: [UInt32], _ links: [HelperLink], _ carried: Carried
  ) throws(HelperFailure) -> HelperStart {
    let group = try group(ids, links)
    if let refusal = SaveSession.refusal(devices: group.described) { throw HelperFailure(.refused, refusal) }
    let channel = try carried.channel()
    var configuration = SaveSession.Configuration()
    configuration.keepStopped = true
    configuration.stopsOnOrder = true
    configuration.finishesOnOrder = true
    configuration.preCopy = save.preCopy
    configuration.resetAllowed = save.resetAllowed
    configuration.awaitsAnswers = channel.isTwoWay
    configuration.buffers = max(configuration.buffers, ids.count)
    configuration.quiescing.flushes = save.flushes
    if let limit = save.stepLimit { configuration.quiescing.stepLimit = limit }
    configuration.memory = save.preCopyConfiguration
    let moving = try memory.moving(save.pages, ids, carried)
    return try run(
      SaveSession(devices: group.described, plan: group.plan, configuration: configuration), group, ids, memory: moving,
      channel: channel, buffers: configuration.buffers
    ) { _, _ in }
  }

  func begin(
    _ load: HelperLoad, _ ids: [UInt32], _ links: [HelperLink], _ carried: Carried
  ) throws(HelperFailure) -> HelperStart {
    let group = try group(ids, links)
    if let refusal = LoadSession.refusal(devices: group.described) { throw HelperFailure(.refused, refusal) }
    let channel = try carried.channel()
    var configuration = LoadSession.Configuration()
    configuration.keepStopped = true
    configuration.resetAllowed = load.resetAllowed
    configuration.answers = channel.isTwoWay
    configuration.maximumVMMStateBytes = limits.blobs
    configuration.buffers = max(configuration.buffers, ids.count)
    // The guest is not here yet.
    configuration.quiescing.vcpusAreStopped = true
    if let limit = load.stepLimit { configuration.quiescing.stepLimit = limit }
    let arriving =
      load.pages ? try memory.receive(carried) { [self] reason in interrupt("guest memory: \(reason)") } : nil
    state.withLock { $0.arriving = arriving }
    do throws(HelperFailure) {
      return try run(
        LoadSession(devices: group.described, plan: group.plan, configuration: configuration), group, ids, memory: nil,
        channel: channel, buffers: configuration.buffers
      ) { [self] ended, outcome in
        state.withLock { state in
          state.blobFiles = [:]
          for (id, bytes) in zip(ids, ended.vmmStates) { state.arrivedBlobs[id] = bytes }
        }
        guard outcome.fault == nil else {
          arriving?.cancel()
          // Nothing is written to guest memory any more when the VMM hears of the end.
          _ = arriving?.wait()
          return
        }
        if let error = arriving?.wait() { void(&outcome, group, error) }
      }
    } catch {
      arriving?.cancel()
      state.withLock { $0.arriving = nil }
      throw error
    }
  }

  /// All is loaded but guest memory: what is in the devices is worth nothing without that.
  private func void(_ outcome: inout SessionOutcome, _ group: Group, _ error: GuestMemoryError) {
    outcome.fault = .memory(MovingMemoryError("taking in guest memory (\(error))", errno: .inputOutput))
    for (index, device) in group.devices.enumerated() {
      do throws(DeviceError) {
        try device.reset()
        outcome.devices[index].state = .running
        outcome.devices[index].wasReset = true
      } catch {
        outcome.devices[index].state = nil
        outcome.cleanupFaults.append(.device(index, error))
      }
    }
  }

  func resume(_ ids: [UInt32], _ links: [HelperLink]) throws(HelperFailure) -> HelperStart {
    let group = try group(ids, links)
    return try run(
      ResumeSession(devices: group.described, plan: group.plan), group, ids, memory: nil, channel: NoChannel(),
      buffers: 0
    ) { _, _ in }
  }

  /// Lets a session run, with a thread of its own that waits for it.
  /// - Parameter last: done before the session counts as ended; may correct how.
  /// - Returns: what it waits for before it begins.
  private func run<Machine: SessionMachine>(
    _ machine: Machine, _ group: Group, _ ids: [UInt32], memory moving: (any MovingMemory)?, channel: any Channel,
    buffers: Int, last: @escaping @Sendable (Machine, inout SessionOutcome) -> Void
  ) throws(HelperFailure) -> HelperStart {
    do throws(SystemError) {
      let runner = try SessionRunner(
        devices: group.devices, memory: moving, channel: channel, checksum: .xxh3, buffers: buffers)
      let untold = state.withLock { state in
        defer { state.untold = nil }
        state.runner = runner
        return state.untold ?? []
      }
      for word in untold { word(runner) }
      let start = HelperStart()
      _ = try BlockingThread(name: "session") { [self] in
        _ = start.take()
        do throws(SystemError) {
          try runner.run(
            machine,
            observer: SessionRunner.Observer(
              note: { [mailbox] note, _ in mailbox.put(.note(note), isUrgent: note.isUrgent) },
              progress: { [mailbox] progress, _ in mailbox.put(.progress(progress)) })
          ) { [self] ended in
            guard var outcome = ended.outcome else { preconditionFailure("a session ends with an outcome") }
            last(ended, &outcome)
            end(outcome)
          }
        } catch {
          // Threads could not be had; no device was touched.
          let fault = ChannelError(error.operation, channel: error.subject, errno: ErrorNumber(rawValue: error.errno))
          let devices = group.described.map { DeviceOutcome(name: $0.name, state: $0.state) }
          end(SessionOutcome(fault: .channel(fault), devices: devices))
        }
      }
      return start
    } catch {
      state.withLock { state in
        state.runner = nil
        state.untold = nil
      }
      throw HelperFailure(error)
    }
  }

  private func end(_ outcome: SessionOutcome) {
    state.withLock { state in
      state.runner = nil
      state.arriving = nil
    }
    mailbox.put(.sessionEnded(outcome))
  }
}

extension SessionNote {
  /// Whether the VMM is told at once. In a stop every device makes its arcs, and to wake the server for each of them costs
  /// more than to tell of them together: with what they lead to, or with the progress that is told several times a second.
  fileprivate var isUrgent: Bool {
    switch self {
    case .arc(let arc): arc.error != nil
    case .phase(let name): HelperSession.heeds(phase: name)
    case .stepEnded: false
    default: true
    }
  }
}

extension HelperSave {
  /// As the session takes it; nil where nobody sends pages that it should wait for.
  fileprivate var preCopyConfiguration: PreCopyConfiguration? {
    if pages == .none { return nil }
    var configuration = PreCopyConfiguration()
    configuration.downtimeLimit = downtime
    configuration.interval = interval
    configuration.lastResort = lastResort
    configuration.roundsOnOrder = pages == .byVMM
    configuration.quiescing = quiescing
    configuration.loading = loading
    return configuration
  }
}
