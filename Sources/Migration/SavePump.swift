// SPDX-License-Identifier: Apache-2.0

/// The data session of one device on the source: what was asked of it, what came, and whether enough came before the
/// stop.
struct SavePump: Hashable, Sendable {
  private let limits: PreCopyPace.Limits
  /// Whether the device is read on after it is ready, because others decide when the group stops.
  private let keepsDraining: Bool
  private var pace: PreCopyPace

  /// The driver holds the device's data session.
  var isOpen = false
  /// The device has no more data, for now or, in STOP_COPY, at all.
  var isAtEnd = false
  /// The stream says that the device's state is complete.
  var hasEnded = false
  /// An error that a guest's reset explains; the device is asked for its state before anything else.
  var suspicion: DeviceError?
  /// When the pre-copy info is to be asked for; nil while it is, or not to be.
  var infoDue: MonotonicTime?
  var stopCopySize: UInt64?

  private(set) var restarts = 0
  private(set) var bytes: UInt64 = 0
  private(set) var preCopyBytes: UInt64 = 0
  private(set) var left: UInt64?

  private var readsAsked: UInt64 = 0
  private var readsEnded: UInt64 = 0
  private var bytesSinceInfo: UInt64 = 0
  /// When the last pre-copy info came, and what it said was left.
  private var infoTime: MonotonicTime?
  private var infoLeft: UInt64 = 0
  /// How fast the running device changes what has been read.
  private var changeRate = MeasuredRate()
  /// The device has given all its initial data to the first so many reads. These may still be on their way here,
  /// because the info and the reads are answered by different threads.
  private var initialOutAfter: UInt64?
  private var initialIsMarked = false
  private var readRate = MeasuredRate()
  private var readingSince: MonotonicTime?
  private var bytesSinceReading: UInt64 = 0
  /// The number of the frame that was the last mark, counted by the session, and when it was out.
  var markFrame: UInt64 = 0
  private var markedAt: MonotonicTime?
  /// Microseconds from there to the answer: how far behind the destination is.
  private(set) var answerLag: UInt64?
  private var marks = 0
  private var answers = 0

  init(limits: PreCopyPace.Limits, keepsDraining: Bool = false) {
    self.limits = limits
    self.keepsDraining = keepsDraining
    pace = PreCopyPace(limits: limits)
  }

  /// Reads under way.
  var reads: Int { Int(readsAsked - readsEnded) }

  var expectedBytes: UInt64? {
    guard let left else { return stopCopySize }
    let (sum, overflow) = bytes.addingReportingOverflow(left)
    return overflow ? .max : sum
  }

  /// Bytes that will be left to read of a device that runs on until then: by the last pre-copy info and by how fast it has
  /// changed since infos were asked for; or by the driver's estimate of STOP_COPY where it gave none.
  func bytesLeft(at then: MonotonicTime) -> UInt64 {
    guard let left else { return stopCopySize ?? 0 }
    let time = infoTime.map { then.microseconds(since: $0) } ?? 0
    let changed = scaled(changeRate.bytesPerSecond, by: time, over: 1_000_000)
    // More than all of it can't have changed; the estimate may be older than most of it.
    let all = stopCopySize.map { max($0, bytes) } ?? .max
    return max(left, min(sum(left, changed), all))
  }

  /// Microseconds in which the device gives so much away, as fast as it did so far.
  func microseconds(reading bytes: UInt64) -> UInt64 {
    let rate = readRate.bytesPerSecond
    return rate == 0 ? 0 : scaled(bytes, by: 1_000_000, over: rate)
  }

  mutating func askRead(at now: MonotonicTime) {
    if reads == 0 {
      readingSince = now
      bytesSinceReading = 0
    }
    readsAsked += 1
  }

  mutating func endRead(bytes: Int, at now: MonotonicTime) {
    readsEnded += 1
    bytesSinceReading += UInt64(bytes)
    guard let since = readingSince, bytesSinceReading > 0 else { return }
    readRate.add(bytesSinceReading, microseconds: now.microseconds(since: since))
    readingSince = now
    bytesSinceReading = 0
  }

  mutating func count(_ bytes: Int, isPreCopy: Bool) {
    self.bytes += UInt64(bytes)
    bytesSinceInfo += UInt64(bytes)
    left = left.map { $0 > UInt64(bytes) ? $0 - UInt64(bytes) : 0 }
    if isPreCopy { preCopyBytes += UInt64(bytes) }
  }

  mutating func take(_ info: PreCopyInfo, at now: MonotonicTime) {
    pace.take(info, bytesRead: bytesSinceInfo, isDrained: isAtEnd)
    if let infoTime {
      // What is there now or was read meanwhile, and was not there before, has changed.
      let seen = sum(info.remainingBytes, bytesSinceInfo)
      let changed = seen > infoLeft ? seen - infoLeft : 0
      changeRate.add(changed, microseconds: now.microseconds(since: infoTime))
    }
    infoTime = now
    infoLeft = info.remainingBytes
    bytesSinceInfo = 0
    left = info.remainingBytes
    if info.restartedInitial {
      // The destination has to have the new initial data too.
      initialOutAfter = nil
      initialIsMarked = false
    }
    if info.initialBytes == 0, initialOutAfter == nil { initialOutAfter = readsAsked }
    // What is left of a device that is ready is read after the stop; where nothing is left there is nothing to read.
    isAtEnd = info.remainingBytes == 0 || (pace.isReady && !keepsDraining)
  }

  /// Whether the mark is due that all initial data is in the stream. True once.
  mutating func marksInitial() -> Bool {
    guard !initialIsMarked, let initialOutAfter, readsEnded >= initialOutAfter else { return false }
    initialIsMarked = true
    marks += 1
    return true
  }

  mutating func noteFrameOut(_ number: UInt64, at now: MonotonicTime) { if number == markFrame { markedAt = now } }

  /// The destination has answered a mark. It answers each one, those included that a void has overtaken.
  mutating func takeAnswer(at now: MonotonicTime) {
    answers = min(answers + 1, marks)
    guard answers == marks, let markedAt else { return }
    // After a void it has reset the device first, which is no part of any stop.
    answerLag = min(answerLag ?? .max, now.microseconds(since: markedAt))
  }

  /// Whether enough was read ahead of the stop.
  func isReady(awaitsAnswer: Bool) -> Bool {
    guard isOpen else { return true }
    guard pace.isReady, isAtEnd, reads == 0, suspicion == nil else { return false }
    return hasInitial(awaitsAnswer: awaitsAnswer)
  }

  /// Whether reading on would bring the stop no nearer, for a device that is read on all the same.
  func hasSettled(awaitsAnswer: Bool) -> Bool { !isOpen || (pace.isReady && hasInitial(awaitsAnswer: awaitsAnswer)) }

  /// Whether the destination has what it should have before the stop.
  func hasInitial(awaitsAnswer: Bool) -> Bool {
    // A device that is ready although its initial data never ended has no mark that could be answered.
    guard pace.initialIsOut else { return pace.isReady }
    return !awaitsAnswer || (initialIsMarked && answers == marks)
  }

  /// The device's state is read anew from its start.
  mutating func restart() {
    restarts += 1
    bytes = 0
    preCopyBytes = 0
    bytesSinceInfo = 0
    bytesSinceReading = 0
    left = nil
    infoTime = nil
    initialOutAfter = nil
    initialIsMarked = false
    isAtEnd = false
    pace = PreCopyPace(limits: limits)
  }
}
