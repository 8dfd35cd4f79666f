// SPDX-License-Identifier: Apache-2.0
public import Migration

/// What the running session tells, and how it ends.
extension HelperSession {
  /// Whether it does anything when the running session enters this part of its way.
  static func heeds(phase name: String) -> Bool { [goingBack, copying].contains(name) }

  private static let goingBack = "going back"
  private static let copying = "copying"

  mutating func take(_ note: SessionNote) -> [Action] {
    guard run != nil else { return [] }
    switch note {
    case .phase(Self.goingBack): return enter(.goingBack)
    case .phase(Self.copying) where run == .save && pages == .none: return endQuiescing()
    case .phase, .stepEnded: return []
    case .arc(let arc):
      let id = number(arc.device)
      // After a failure it may be anywhere on the way.
      devices[id]?.info?.state = arc.error == nil ? arc.to : nil
      let event = HelperEvent.arc(
        device: id, from: arc.from, to: arc.to, error: arc.error?.errno, microseconds: arc.times.microseconds)
      return [.event(event)]
    case .reset(let index):
      return [.event(.reset(device: number(index), phase, "it was reset, and what was in it is lost"))]
    case .restarted(let index, let times):
      let text = "its guest has reset it (\(times)): its state is read anew"
      return [.event(.reset(device: number(index), phase, text))]
    case .unlike(let index, let finding): return [.event(.tag(device: number(index), phase, "\(finding)"))]
    case .decided(let decision): return take(decision)
    case .ready: return [.event(.ready(estimate))]
    case .hung(let index, let request, let waited):
      let id = number(index)
      devices[id]?.isHung = true
      let event = Action.event(.hung(device: id, phase, microseconds: waited, "\(request) has not come back"))
      // Whoever removes it waits for it no longer.
      return waiting.values.contains(.remove(id)) ? [event, .declareDead(id)] : [event]
    case .slow(.readingPages, let waited):
      return [.event(.slow(device: 0, phase, microseconds: waited, "reading the trackers of dirty pages"))]
    case .slow(.limiting(let index), let waited):
      let text = "changing the limit on what comes in"
      return [.event(.slow(device: number(index), phase, microseconds: waited, text))]
    case .notLimited(let index, let error), .stillLimited(let index, let error):
      return [.event(.slow(device: number(index), phase, microseconds: 0, "\(error)"))]
    }
  }

  private mutating func take(_ decision: PreCopyDecision) -> [Action] {
    self.decision = decision
    var actions = [Action.event(.decision(estimate))]
    let forecast = decision.forecast
    if forecast.bandwidth > 0, forecast.dirtyRate > forecast.bandwidth {
      actions.append(
        .event(
          .throttle(phase, "the guest dirties \(forecast.dirtyRate) bytes a second, and \(forecast.bandwidth) go out")))
    }
    return actions + reply(.step, .estimate(estimate))
  }

  mutating func takePages(_ moment: DirtyMoment, _ count: UInt64) -> [Action] {
    dirty = count
    guard moment == .last, run == .save else { return [] }
    hasLastReading = true
    return endQuiescing()
  }

  /// All devices have stopped, and everything that they have written is known.
  private mutating func endQuiescing() -> [Action] {
    guard phase == .quiescing else { return [] }
    return enter(.stopped) + reply(.quiesce, .estimate(estimate))
  }

  mutating func take(_ all: [DeviceProgress]) -> [Action] {
    guard run != nil else { return [] }
    var actions: [Action] = []
    for (id, progress) in zip(order, all) {
      let isNews = devices[id]?.progress != progress
      devices[id]?.progress = progress
      if isNews { actions.append(.event(.progress(device: id, progress))) }
    }
    return actions
  }

  // MARK: Ends

  mutating func end(_ outcome: SessionOutcome) -> [Action] {
    guard let run else { return [] }
    self.run = nil
    for (id, device) in zip(order, outcome.devices) {
      devices[id]?.info?.state = device.state
      devices[id]?.info?.can = Possibilities.from(device.state)
      devices[id]?.isHung = device.isHung
      if device.isHung { devices[id]?.info?.can = .isHung }
    }
    let failure = outcome.fault.map { self.failure($0, outcome) }
    // A blob goes with one move, however that ends.
    let forgetting: [Action] = run == .resume ? [] : [.forgetBlobs]
    return forgetting + end(run, failure, outcome)
  }

  private mutating func end(_ run: Run, _ failure: HelperFailure?, _ outcome: SessionOutcome) -> [Action] {
    switch (run, failure) {
    case (.save, nil):
      // It was over before it heard that it should go back: it does so from there.
      if let number = firstLeftWanting {
        let failure = HelperFailure(.aborted, "it was complete when it was aborted, and goes back")
        return enter(.complete) + reply(.complete, .failure(failure)) + runAgain(number)
      }
      return enter(.complete) + reply(.complete, .done) + leftovers()
    case (.load, nil):
      if let number = firstLeftWanting {
        if waiting[number] == .abort { waiting[number] = .empty }
        phaseBefore = .setup
        return enter(.goingBack) + [.perform(number, .reset(order))]
      }
      return enter(.loaded) + [.event(.loaded)] + leftovers()
    case (.resume, nil):
      vcpusAreStopped = false
      return enter(.setup) + reply(.resume, .done) + reply(.abort, .done) + leftovers()
    case (.save, let failure?), (.load, let failure?), (.resume, let failure?):
      return end(failure, outcome, run)
    }
  }

  /// The first request that waits until everything has gone back.
  private var firstLeftWanting: UInt32? {
    waiting.keys.sorted().first { number in
      guard let what = waiting[number] else { return false }
      switch what {
      case .abort, .remove: return true
      default: return false
      }
    }
  }

  /// The session has failed, or was ended on purpose, and has gone back as far as it could.
  private mutating func end(_ failure: HelperFailure, _ outcome: SessionOutcome, _ run: Run) -> [Action] {
    var actions: [Action] = []
    // What matters is where the devices are. A destination's are reset, which is what was asked for.
    let isBack = outcome.devices.allSatisfy { device in
      !device.isHung && Possibilities.from(device.state).contains(.save) && (run == .load || !device.wasReset)
    }
    if failure.code == .link { actions.append(.event(.linkLost(phase, failure.text))) }
    actions += enter(.setup)
    if isBack { vcpusAreStopped = false }
    // Whoever wanted to go back has got that, if everything is there, whatever else went wrong on the way.
    let isWanted = isAborting
    let back = isWanted && isBack ? HelperReply.done : .failure(failure)
    for what in [Waiting.step, .quiesce, .complete, .begin, .resume] { actions += reply(what, .failure(failure)) }
    actions += reply(.abort, back)
    if !isWanted { actions.append(.event(.failed(failure))) }
    return actions + leftovers()
  }

  /// A session that never ran: what waited for it has no more to wait for, and everything is where it was.
  mutating func endUnbegun(_ failure: HelperReply) -> [Action] {
    var actions: [Action] = []
    for what in [Waiting.step, .quiesce, .complete] { actions += reply(what, failure) }
    return actions + reply(.abort, .done) + leftovers()
  }

  /// Devices that were to be removed once everything is back.
  mutating func leftovers() -> [Action] {
    isAborting = false
    var actions: [Action] = []
    for number in waiting.keys.sorted() {
      guard case .remove(let id) = waiting[number] else { continue }
      if devices[id] == nil {
        waiting[number] = nil
        actions.append(.reply(number, .failure(HelperFailure(.noSuch, device: id, "device \(id) was removed already"))))
        continue
      }
      forget(id)
      actions += perform(number, .release(id))
    }
    return actions
  }

  mutating func reply(_ what: Waiting, _ reply: HelperReply) -> [Action] {
    let numbers = waiting.filter { $0.value == what }.map(\.key).sorted()
    for number in numbers { waiting[number] = nil }
    return numbers.map { .reply($0, reply) }
  }

  /// A fault in the VMM's terms, with where each device is.
  private func failure(_ fault: SessionFault, _ outcome: SessionOutcome) -> HelperFailure {
    let places = zip(order, outcome.devices).map { id, device in
      "\(id) \(device.isHung ? "hangs" : device.state?.name ?? "unknown")\(device.wasReset ? ", reset" : "")"
    }
    let suffix = "; devices: " + places.joined(separator: ", ")
    var failure =
      switch fault {
      case .device(let index, let error):
        HelperFailure(.device, device: number(index), errno: error.errno, "\(error)")
      case .channel(let error): HelperFailure(.link, errno: error.errno, "\(error)")
      // The other side has gone in the middle.
      case .stream(let error) where error.kind == .incomplete: HelperFailure(.link, "\(error)")
      case .stream(let error): HelperFailure(.stream, "\(error)")
      case .mismatch(let reason): HelperFailure(.stream, reason)
      case .givenUp(let reason): HelperFailure(.link, "the destination gave up: \(reason)")
      case .keptResetting(let index, let times):
        HelperFailure(.device, device: number(index), "its guest has reset it \(times) times")
      case .memory(let error): HelperFailure(.memory, errno: error.errno, "\(error)")
      case .stillLimited(let index, let error):
        HelperFailure(.system, device: number(index), error.map { "\($0)" } ?? "its limit was not lifted yet")
      case .resetAtLastMoment(let index):
        HelperFailure(.device, device: number(index), "its guest has reset it when it was to stop: try again")
      case .outrun(let decision): HelperFailure(.outrun, "\(decision)")
      case .declaredDead(let index):
        HelperFailure(.hung, device: number(index), "it did not answer, and was declared dead")
      case .interrupted(let reason): HelperFailure(.aborted, reason)
      }
    failure.text += suffix
    return failure
  }

  typealias Possibilities = HelperDeviceInfo.Possibilities
}

extension HelperDeviceInfo.Possibilities {
  /// What can be done with a device that is found in a state: the table in docs/helper-protocol.md.
  public static func from(_ state: MigrationState?) -> Self {
    switch state {
    case .running, .runningP2P, .stop: [.save, .load, .resume]
    case .preCopy, .preCopyP2P, .stopCopy: [.resume]
    case .resuming, .error: [.needsReset]
    case nil: []
    }
  }
}
