// SPDX-License-Identifier: Apache-2.0

/// Guest memory that moves with the devices: rounds before the stop, and the last reading after it.
extension SaveSession {
  mutating func beginMemory(at now: MonotonicTime) -> [SessionEffect] {
    guard let memory = configuration.memory else { return [] }
    loop = PreCopyLoop(memory, at: now)
    return readPages(at: now)
  }

  /// Begins the next round once it is due.
  mutating func readPages(at now: MonotonicTime) -> [SessionEffect] {
    guard fault == nil, let due = loop?.due, due <= now, let moment = loop?.beginReading(at: now) else { return [] }
    return [.readPages(moment)]
  }

  /// All devices have stopped: what is dirty now is the last of it (contract 4).
  mutating func readLastPages(at now: MonotonicTime) -> [SessionEffect] {
    guard let loop, loop.isResting, !loop.isLast, let moment = self.loop?.beginLastReading(at: now) else { return [] }
    return [.readPages(moment)] + liftLimits(at: now)
  }

  mutating func take(_ reading: DirtyReading, at now: MonotonicTime) -> [SessionEffect] {
    guard fault == nil, loop?.isReading == true else { return [] }
    let known = figures(at: now)
    guard let decision = loop?.take(reading, known, at: now) else { return [.sendPages] }
    var effects: [SessionEffect] = [.note(.decided(decision))]
    switch decision.verdict {
    case .goOn, .awaitInitial, .stop, .force: break
    case .throttle(let rate): effects += limits.set(rate, at: now)
    case .giveUp where configuration.memory?.roundsOnOrder == true: break
    case .giveUp:
      fail(.outrun(decision))
      return effects
    }
    return effects + [.sendPages]
  }

  /// What the devices have left, and what stopping and loading them will take as far as anybody knows.
  private func figures(at now: MonotonicTime) -> PreCopyLoop.DeviceFigures {
    var figures = PreCopyLoop.DeviceFigures()
    // The arcs of a stop have not been seen yet: the longest of those that were stands for each.
    let arcs = group.reports.flatMap(\.arcs)
    let longest = arcs.map { $0.times.ended.microseconds(since: $0.times.began) }.max() ?? 0
    figures.quiescing = configuration.memory?.quiescing ?? longest * UInt64(group.plan.stopSteps.count)
    let stop = now.adding(microseconds: figures.quiescing)
    for device in pumps.indices {
      let left = pumps[device].bytesLeft(at: stop)
      figures.bytesLeft = sum(figures.bytesLeft, left)
      figures.microseconds = max(figures.microseconds, pumps[device].microseconds(reading: left))
      let isReady =
        pumps[device].isOpen
        ? pumps[device].hasInitial(awaitsAnswer: configuration.awaitsAnswers)
        : !configuration.preCopy || preCopyState(of: group.mover.members[device]) == nil
      if !isReady || phase != .preCopying { figures.unready = figures.unready ?? device }
    }
    figures.isReading = pumps.contains { $0.reads > 0 }
    figures.canBeLimited = limits.canLimit
    let lag = pumps.compactMap(\.answerLag).max() ?? 0
    figures.loading = configuration.memory?.loading ?? sum(lag, longest * UInt64(group.plan.startSteps.count))
    return figures
  }

  // MARK: What comes in

  /// Takes the limits off again. Nothing to do where none is set.
  mutating func liftLimits(at now: MonotonicTime) -> [SessionEffect] {
    loop?.release()
    return limits.lift(at: now)
  }

  mutating func endLimit(_ device: Int, _ error: RateLimiterError?, at now: MonotonicTime) -> [SessionEffect] {
    guard let error else {
      limits.end(device, at: now)
      return []
    }
    switch limits.fail(device, at: now) {
    case .limiting: return [.note(.notLimited(device: device, error))]
    case .lifting: return [.limit(device: device, bytesPerSecond: nil)]
    case .liftingAgain:
      cleanupFaults.append(.stillLimited(device, error))
      return [.note(.stillLimited(device: device, error))]
    }
  }
}

/// Calls that block, on the memory and on limiters.
extension SaveSession {
  /// When the next of them counts as slow; nil where none will.
  var slowDue: MonotonicTime? {
    let limit = configuration.quiescing.stepLimit
    return [loop?.slow(after: limit), limits.slow(after: limit)].compactMap { $0 }.min()
  }

  /// Says of each of them once that it is slow. Sending is none of these: that takes as long as the link does.
  mutating func noteSlowCalls(at now: MonotonicTime) -> [SessionEffect] {
    let limit = configuration.quiescing.stepLimit
    var effects = limits.noteSlow(after: limit, at: now)
    if let waited = loop?.noteSlow(after: limit, at: now) {
      effects.append(.note(.slow(.readingPages, microseconds: waited)))
    }
    return effects
  }
}

/// Which devices of a session take in less than they could (DA9).
struct InboundLimits: Hashable, Sendable {
  private struct Device: Hashable {
    var canBeLimited: Bool
    /// A limit was asked for since the last time that it was lifted.
    var isLimited = false
    /// Requests that have not been answered, and since when the first of them is the next to be.
    var requests = 0
    var since = MonotonicTime(microseconds: 0)
    var isSlowNoted = false
    /// How often lifting has failed.
    var failures = 0

    mutating func ask(at now: MonotonicTime) {
      if requests == 0 { begin(at: now) }
      requests += 1
    }

    mutating func end(at now: MonotonicTime) {
      requests -= 1
      begin(at: now)
    }

    private mutating func begin(at now: MonotonicTime) {
      since = now
      isSlowNoted = false
    }
  }

  /// What has failed.
  enum Failure {
    case limiting
    /// It is to be tried again.
    case lifting
    case liftingAgain
  }

  private var devices: [Device]
  private var isGivenUp = false

  init(_ throttled: [Bool]) { devices = throttled.map { Device(canBeLimited: $0) } }

  /// Whether no limit is set, or nobody waits any longer for it to be gone.
  var areLifted: Bool { isGivenUp || devices.allSatisfy { !$0.isLimited && $0.requests == 0 } }

  /// Devices of which nobody knows whether they are limited, or that are; none while they are waited for.
  var unanswered: [Int] { devices.indices.filter { devices[$0].isLimited || devices[$0].requests > 0 } }

  /// Whether there is a device that takes limits.
  var canLimit: Bool { devices.contains(where: \.canBeLimited) }

  /// Shares so many bytes a second out evenly: nobody knows who needs them.
  mutating func set(_ rate: UInt64, at now: MonotonicTime) -> [SessionEffect] {
    let count = UInt64(devices.count { $0.canBeLimited })
    return devices.indices.filter { devices[$0].canBeLimited }.map { index in
      devices[index].isLimited = true
      devices[index].ask(at: now)
      return .limit(device: index, bytesPerSecond: max(1, rate / count))
    }
  }

  mutating func lift(at now: MonotonicTime) -> [SessionEffect] {
    devices.indices.filter { devices[$0].isLimited }.map { index in
      devices[index].isLimited = false
      devices[index].ask(at: now)
      return .limit(device: index, bytesPerSecond: nil)
    }
  }

  /// A request was answered.
  mutating func end(_ device: Int, at now: MonotonicTime) {
    if devices.indices.contains(device) { devices[device].end(at: now) }
  }

  /// A request has failed. A device whose limiter fails is not limited again; its limit is lifted all the same in the end,
  /// which is tried twice.
  mutating func fail(_ device: Int, at now: MonotonicTime) -> Failure {
    devices[device].canBeLimited = false
    if devices[device].isLimited {
      devices[device].end(at: now)
      return .limiting
    }
    devices[device].failures += 1
    if devices[device].failures == 1 { return .lifting }
    devices[device].end(at: now)
    return .liftingAgain
  }

  /// When the next request will have taken so many microseconds; nil where none is under way of which that was not said.
  func slow(after limit: UInt64) -> MonotonicTime? {
    devices.filter { $0.requests > 0 && !$0.isSlowNoted }.map { $0.since.adding(microseconds: limit) }.min()
  }

  /// Says of each request once that it takes longer than so many microseconds.
  mutating func noteSlow(after limit: UInt64, at now: MonotonicTime) -> [SessionEffect] {
    var effects: [SessionEffect] = []
    for index in devices.indices where devices[index].requests > 0 && !devices[index].isSlowNoted {
      guard devices[index].since.adding(microseconds: limit) <= now else { continue }
      devices[index].isSlowNoted = true
      let waited = now.microseconds(since: devices[index].since)
      effects.append(.note(.slow(.limiting(device: index), microseconds: waited)))
    }
    return effects
  }

  /// What was not answered by now is not waited for.
  mutating func giveUp() { isGivenUp = true }
}
