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
    guard fault == nil, let due = loop?.due, due <= now, let moment = loop?.beginReading() else { return [] }
    return [.readPages(moment)]
  }

  /// All devices have stopped: what is dirty now is the last of it (contract 4).
  mutating func readLastPages() -> [SessionEffect] {
    guard let loop, loop.isResting, !loop.isLast, let moment = self.loop?.beginLastReading() else { return [] }
    return [.readPages(moment)] + liftLimits()
  }

  mutating func take(_ reading: DirtyReading, at now: MonotonicTime) -> [SessionEffect] {
    guard fault == nil, loop?.isReading == true else { return [] }
    let known = figures(at: now)
    guard let decision = loop?.take(reading, known, at: now) else { return [.sendPages] }
    var effects: [SessionEffect] = [.note(.decided(decision))]
    switch decision.verdict {
    case .goOn, .awaitInitial, .stop, .force: break
    case .throttle(let rate): effects += limits.set(rate)
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
  mutating func liftLimits() -> [SessionEffect] {
    loop?.release()
    return limits.lift()
  }

  mutating func endLimit(_ device: Int, _ error: RateLimiterError?) -> [SessionEffect] {
    guard let error else {
      limits.end(device)
      return []
    }
    switch limits.fail(device) {
    case .limiting: return [.note(.notLimited(device: device, error))]
    case .lifting: return [.limit(device: device, bytesPerSecond: nil)]
    case .liftingAgain:
      cleanupFaults.append(.stillLimited(device, error))
      return [.note(.stillLimited(device: device, error))]
    }
  }
}

/// Which devices of a session take in less than they could (DA9).
struct InboundLimits: Hashable, Sendable {
  private struct Device: Hashable {
    var canBeLimited: Bool
    /// A limit was asked for since the last time that it was lifted.
    var isLimited = false
    /// Requests that have not been answered.
    var requests = 0
    /// How often lifting has failed.
    var failures = 0
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
  mutating func set(_ rate: UInt64) -> [SessionEffect] {
    let count = UInt64(devices.count { $0.canBeLimited })
    return devices.indices.filter { devices[$0].canBeLimited }.map { index in
      devices[index].isLimited = true
      devices[index].requests += 1
      return .limit(device: index, bytesPerSecond: max(1, rate / count))
    }
  }

  mutating func lift() -> [SessionEffect] {
    devices.indices.filter { devices[$0].isLimited }.map { index in
      devices[index].isLimited = false
      devices[index].requests += 1
      return .limit(device: index, bytesPerSecond: nil)
    }
  }

  /// A request was answered.
  mutating func end(_ device: Int) { if devices.indices.contains(device) { devices[device].requests -= 1 } }

  /// A request has failed. A device whose limiter fails is not limited again; its limit is lifted all the same in the end,
  /// which is tried twice.
  mutating func fail(_ device: Int) -> Failure {
    devices[device].canBeLimited = false
    if devices[device].isLimited {
      devices[device].requests -= 1
      return .limiting
    }
    devices[device].failures += 1
    if devices[device].failures == 1 { return .lifting }
    devices[device].requests -= 1
    return .liftingAgain
  }

  /// What was not answered by now is not waited for.
  mutating func giveUp() { isGivenUp = true }
}
