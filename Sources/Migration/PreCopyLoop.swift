// SPDX-License-Identifier: Apache-2.0

/// How guest memory and the state of devices are read ahead of the stop, as far as the caller chooses.
public struct PreCopyConfiguration: Hashable, Sendable {
  /// What is left to do where the guest dirties more than can be sent.
  public enum LastResort: String, CaseIterable, Hashable, Sendable {
    /// The move fails, and the guest goes on running where it is.
    case giveUp = "give-up"
    /// The guest is stopped, for however long it takes.
    case force
  }

  /// Microseconds that the guest may stand still: it is stopped once the forecast is within this.
  public var downtimeLimit: UInt64 = 300_000
  /// Microseconds between the beginnings of two rounds, at least.
  public var interval: UInt64 = 10_000
  /// Each round begins when the caller orders it, and no sooner. The caller decides what comes of it: nothing is given up here.
  public var roundsOnOrder = false
  /// So many passes in a row that don't get the rest down by an eighth are enough. In a pass as much has gone out as was left
  /// at its beginning: with pages alone it is a round, with much device state it is many. A round in which there was nothing
  /// to send is one too.
  public var patience = 3
  /// So many passes in all.
  public var mostPasses = 100
  /// By device: whether what comes in to it may be limited (DA9). Devices without a ``RateLimiter`` can't be.
  public var throttled: [Bool] = []
  /// Bytes a second below which nothing is limited, all devices together.
  public var leastInbound: UInt64 = 1_000_000
  /// What is left to do in the end.
  public var lastResort = LastResort.giveUp
  /// Microseconds that bringing the devices to a stop takes, vCPUs included, where that was measured before. Otherwise it
  /// is taken from the arcs that the devices have made by then, which say nothing of the vCPUs.
  public var quiescing: UInt64?
  /// Microseconds that the destination takes from the last byte on, where that was measured before. Otherwise it is taken
  /// from the time in which it answered, and the devices' arcs here.
  public var loading: UInt64?

  /// The defaults.
  public init() {}
}

/// Rounds of guest pages, and when there have been enough of them: decisions only.
///
/// A round is a reading of the trackers and the sending of what it found. Whoever owns the loop carries both out and tells it
/// when they end; after each reading it decides.
struct PreCopyLoop: Hashable, Sendable {
  /// What the session knows of the devices when a decision is due.
  struct DeviceFigures: Hashable, Sendable {
    var bytesLeft: UInt64 = 0
    /// Microseconds in which the slowest gives them away.
    var microseconds: UInt64 = 0
    /// A device whose initial bytes the destination has not taken in.
    var unready: Int?
    /// Whether one of them is being read, however long it takes.
    var isReading = false
    /// Whether what comes in to one of them can be limited.
    var canBeLimited = false
    var quiescing: UInt64 = 0
    var loading: UInt64 = 0
  }

  private enum Activity: Hashable {
    case resting(until: MonotonicTime)
    case reading(since: MonotonicTime)
    case sending(since: MonotonicTime)
  }

  let configuration: PreCopyConfiguration
  private var activity: Activity
  /// Readings so far.
  private(set) var round = 0
  /// What was decided last.
  private(set) var decision: PreCopyDecision?
  /// The guest is to be stopped. Until that begins, which reads that are under way can put off, rounds go on and may find that
  /// it is too early after all.
  private(set) var isStopDecided = false
  /// The stop was decided whatever it costs.
  private var isForced = false
  private var hasStopBegun = false
  private var isRoundOrdered = false
  /// The reading after the last device's stop was asked for, and what it found has been sent.
  private(set) var isLast = false
  private(set) var isOver = false
  /// What comes in to the devices is limited to so many bytes a second, all together.
  private(set) var inbound: UInt64?

  private var lastReading: MonotonicTime?
  /// Microseconds that the last reading took.
  private var readingTook: UInt64 = 0
  /// The reading that is under way was said to take long.
  private var isSlowNoted = false
  private var bandwidth = MeasuredRate()
  private var dirtyRate: UInt64 = 0
  private var deviceBytes: UInt64 = 0
  /// What was left when the pass began, and what has gone out in it.
  private var leftBefore: UInt64 = 0
  private var sentSince: UInt64 = 0
  /// Of that, what had gone out when the round before was judged.
  private var sentBefore: UInt64 = 0
  private var passes = 0
  private var least = UInt64.max
  private var withoutProgress = 0
  /// Something changed within the pass: a limit was set, or a device began anew. What it has brought says nothing.
  private var isSettling = false
  /// So many of the next readings tell of more than was dirtied since the one before them: a log has begun anew.
  private var readingsWithoutRate = 0
  /// How often a stop that was decided has not come to begin.
  private var stopsTakenBack = 0

  init(_ configuration: PreCopyConfiguration, at now: MonotonicTime) {
    self.configuration = configuration
    activity = .resting(until: now)
  }

  /// When the next reading is due; nil while one is under way, or sending, or none is wanted.
  var due: MonotonicTime? {
    guard !hasStopBegun, !configuration.roundsOnOrder || isRoundOrdered, case .resting(let time) = activity else {
      return nil
    }
    return time
  }

  /// Whether a reading was asked for and has not been answered.
  var isReading: Bool { if case .reading = activity { true } else { false } }

  /// Whether nothing was asked for that has not been answered.
  var isResting: Bool { if case .resting = activity { true } else { false } }

  /// The next reading is asked for.
  mutating func beginReading(at now: MonotonicTime) -> DirtyMoment {
    activity = .reading(since: now)
    isSlowNoted = false
    isRoundOrdered = false
    return round == 0 ? .first : .next
  }

  /// The caller wants a round. It is over when what it reads is sent.
  mutating func orderRound() { isRoundOrdered = true }

  /// The stop begins: from here on there is nothing to decide.
  mutating func beginStop() { hasStopBegun = true }

  /// All devices have stopped: the last reading is asked for.
  mutating func beginLastReading(at now: MonotonicTime) -> DirtyMoment {
    _ = beginReading(at: now)
    isLast = true
    return .last
  }

  /// When the reading that is under way will have taken so many microseconds; nil where none is, or that was said.
  func slow(after limit: UInt64) -> MonotonicTime? {
    guard case .reading(let since) = activity, !isSlowNoted else { return nil }
    return since.adding(microseconds: limit)
  }

  /// Says once that a reading takes longer than so many microseconds.
  /// - Returns: how many it has taken.
  mutating func noteSlow(after limit: UInt64, at now: MonotonicTime) -> UInt64? {
    guard case .reading(let since) = activity, let due = slow(after: limit), due <= now else { return nil }
    isSlowNoted = true
    return now.microseconds(since: since)
  }

  /// So many bytes of device state are on their way out.
  mutating func count(deviceBytes bytes: Int) {
    deviceBytes &+= UInt64(bytes)
    sentSince = sum(sentSince, UInt64(bytes))
  }

  /// Takes what was read, and decides. What was read is to be sent in any case but ``PreCopyDecision/Verdict/giveUp``.
  /// - Returns: nil where there is nothing to decide, because the stop has begun.
  mutating func take(_ reading: DirtyReading, _ devices: DeviceFigures, at now: MonotonicTime) -> PreCopyDecision? {
    round += 1
    if case .reading(let since) = activity { readingTook = now.microseconds(since: since) }
    activity = .sending(since: now)
    deviceBytes = 0
    let isFirst = lastReading == nil
    if let before = lastReading, readingsWithoutRate == 0 {
      dirtyRate = scaled(reading.bytes, by: 1_000_000, over: max(1, now.microseconds(since: before)))
    }
    lastReading = now
    readingsWithoutRate = max(0, readingsWithoutRate - 1)
    if hasStopBegun { return nil }
    var forecast = PreCopyForecast()
    forecast.pageBytes = reading.bytes
    forecast.deviceBytes = devices.bytesLeft
    forecast.deviceMicroseconds = devices.microseconds
    forecast.bandwidth = bandwidth.bytesPerSecond
    forecast.dirtyRate = dirtyRate
    // The first turns the trackers on, and tells nothing of the others.
    forecast.reading = isFirst ? 0 : readingTook
    forecast.quiescing = devices.quiescing
    forecast.loading = devices.loading
    var verdict = isFirst ? .goOn : isForced ? .force : verdict(forecast, devices)
    if isStopDecided, verdict != .stop, verdict != .force {
      stopsTakenBack += 1
      // A read that puts the stop off, and devices that change meanwhile: going on would only lead here again.
      if stopsTakenBack > configuration.patience, devices.unready == nil { verdict = .stop }
    }
    isStopDecided = verdict == .stop || verdict == .force
    isForced = verdict == .force
    if case .throttle(let rate) = verdict { inbound = rate }
    let decision = PreCopyDecision(
      round: round, forecast: forecast, limit: configuration.downtimeLimit, verdict: verdict)
    self.decision = decision
    return decision
  }

  private mutating func verdict(_ forecast: PreCopyForecast, _ devices: DeviceFigures) -> PreCopyDecision.Verdict {
    let isNear = forecast.downtime.map { $0 <= configuration.downtimeLimit } ?? false
    if isNear, devices.unready == nil {
      // The rest is down: passes without progress that come after this are not in a row with those before.
      withoutProgress = 0
      return .stop
    }
    // Near enough: only the destination is waited for, and no amount of sending brings that about.
    if isNear, let unready = devices.unready { return .awaitInitial(device: unready) }
    let left = sum(forecast.pageBytes, forecast.deviceBytes)
    let isIdle = sentSince == sentBefore && !devices.isReading
    sentBefore = sentSince
    guard isIdle || sentSince >= leftBefore - leftBefore / 8 else { return .goOn }
    leftBefore = left
    (sentSince, sentBefore) = (0, 0)
    passes += 1
    if isSettling {
      isSettling = false
    } else if left < least, least - left >= least / 8 {
      least = left
      withoutProgress = 0
    } else {
      withoutProgress += 1
    }
    guard withoutProgress >= configuration.patience || passes > configuration.mostPasses else { return .goOn }
    let throttled = devices.canBeLimited ? throttle(forecast) : nil
    return throttled ?? (configuration.lastResort == .force ? .force : .giveUp)
  }

  /// Half of what can be sent, or of what was let in so far; nil where less would be too little.
  private mutating func throttle(_ forecast: PreCopyForecast) -> PreCopyDecision.Verdict? {
    guard passes <= configuration.mostPasses else { return nil }
    let next = (inbound ?? min(forecast.bandwidth, max(forecast.dirtyRate, 1))) / 2
    guard next >= configuration.leastInbound else { return nil }
    beginAnew()
    return .throttle(bytesPerSecond: next)
  }

  /// What was read last has been sent.
  mutating func endSending(_ bytes: UInt64, at now: MonotonicTime) {
    guard case .sending(let since) = activity else { return }
    let took = now.microseconds(since: since)
    sentSince = sum(sentSince, bytes)
    if bytes > 0 { bandwidth.add(sum(bytes, deviceBytes), microseconds: took) }
    let next = (lastReading ?? now).adding(microseconds: configuration.interval)
    activity = .resting(until: max(now, next))
    isOver = isLast
  }

  /// What there was before is no measure for what comes.
  private mutating func beginAnew() {
    withoutProgress = 0
    least = .max
    isSettling = true
  }

  /// A device begins anew, and perhaps a log of everything: a stop that was decided is to be decided again, if it has not
  /// begun.
  mutating func reconsider() {
    isForced = false
    passes = 0
    stopsTakenBack = 0
    // One that is under way may have been made before.
    readingsWithoutRate = isReading ? 2 : 1
    reconsiderInitial()
  }

  /// A device begins anew with its initial data. It may do so as often as it likes, so this puts nothing off for ever.
  mutating func reconsiderInitial() {
    if !isForced { isStopDecided = false }
    beginAnew()
  }

  /// Nothing is limited any more.
  mutating func release() { inbound = nil }
}
