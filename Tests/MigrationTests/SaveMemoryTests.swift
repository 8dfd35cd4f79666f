// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Migration

@Suite("The source with guest memory, step by step")
struct SaveMemoryTests {
  private static func configuration() -> SaveSession.Configuration {
    var configuration = SaveSession.Configuration()
    configuration.pace.interval = 1000
    var memory = PreCopyConfiguration()
    memory.throttled = [true]
    configuration.memory = memory
    return configuration
  }

  /// On the way from one saving state to another no data session is opened.
  private static let moved = Result<ControlAnswer, DeviceError>.success(.moved(openedData: false))
  private static let gigabyte = DirtyReading(pages: 1 << 18, bytes: 1 << 30)
  private static let page = DirtyReading(pages: 1, bytes: 4096)

  /// One device in pre-copy that has given all it has; the first round has been sent in a second.
  private static func afterFirstRound(_ configuration: SaveSession.Configuration = configuration()) -> SessionBench<
    SaveSession
  > {
    var bench = SessionBench(SaveSession(devices: [sessionDevice(0)], configuration: configuration))
    bench.expect(.readPages(.first))
    bench.handle(.dirty(gigabyte))
    bench.expect(.sendPages)
    bench.obey(devices: 1) { _, request in request == .preCopyInfo }
    bench.answer(0, SaveSessionTests.info(0, 0))
    bench.drain()
    bench.pass(1_000_000)
    bench.handle(.pagesSent(bytes: 1 << 30))
    return bench
  }

  @Test("memory is read for the last time after the device has stopped, and the stream ends after it was sent")
  func lastReading() {
    var bench = Self.afterFirstRound()
    bench.expect(.readPages(.next))
    bench.handle(.dirty(Self.page))
    bench.expect(.sendPages)
    bench.answer(0, SaveSessionTests.info(0, 0))
    bench.drain()
    #expect(bench.request(0) == .setState(.preCopyP2P))
    bench.handle(.pagesSent(bytes: 4096))
    bench.answer(0, Self.moved)
    #expect(bench.request(0) == .setState(.stopCopy))
    #expect(!bench.wants(.readPages(.last)))
    bench.answer(0, Self.moved)
    bench.expect(.readPages(.last))
    bench.drain()
    #expect(bench.sent.contains(.deviceEnd) && !bench.sent.contains(.end))
    bench.handle(.dirty(Self.page))
    bench.expect(.sendPages)
    #expect(!bench.sent.contains(.end))
    bench.handle(.pagesSent(bytes: 4096))
    #expect(bench.sent.contains(.end))
  }

  @Test("the last reading waits until what was read before is out")
  func sendingOutlastsStop() {
    var bench = Self.afterFirstRound()
    bench.expect(.readPages(.next))
    bench.handle(.dirty(Self.page))
    bench.answer(0, SaveSessionTests.info(0, 0))
    bench.drain()
    bench.answer(0, Self.moved)
    bench.answer(0, Self.moved)
    #expect(!bench.wants(.readPages(.last)))
    bench.handle(.pagesSent(bytes: 4096))
    bench.expect(.readPages(.last))
  }

  @Test("a stop that waits for a read is decided again by what is dirtied meanwhile")
  func waitsForRead() {
    var configuration = Self.configuration()
    configuration.buffers = 1
    var bench = SessionBench(SaveSession(devices: [sessionDevice(0)], configuration: configuration))
    bench.expect(.readPages(.first))
    bench.handle(.dirty(Self.gigabyte))
    bench.obey(devices: 1) { _, request in request == .preCopyInfo }
    bench.answer(0, SaveSessionTests.info(0, 4096))
    // This read takes its time.
    bench.expect(.read(device: 0, buffer: 0))
    bench.pass(1_000_000)
    bench.handle(.pagesSent(bytes: 1 << 30))
    bench.expect(.readPages(.next))
    bench.handle(.dirty(Self.page))
    bench.expect(.sendPages)
    #expect(bench.machine.decision?.verdict == .stop)
    bench.pass(10_000)
    bench.handle(.pagesSent(bytes: 4096))
    bench.expect(.readPages(.next))
    // The read ends during the reading: its answer is waited for, and takes the decision back.
    bench.handle(.read(device: 0, buffer: 0, .success(.end)))
    #expect(bench.request(0) != .setState(.preCopyP2P))
    bench.handle(.dirty(Self.gigabyte))
    #expect(bench.machine.decision?.verdict == .goOn)
    #expect(bench.request(0) != .setState(.preCopyP2P))
    bench.pass(1_000_000)
    bench.handle(.pagesSent(bytes: 1 << 30))
    bench.expect(.readPages(.next))
    bench.handle(.dirty(Self.page))
    bench.drain()
    bench.answer(0, SaveSessionTests.info(0, 0))
    #expect(bench.machine.decision?.verdict == .stop)
    #expect(bench.request(0) == .setState(.preCopyP2P))
  }

  @Test("a reading, or a change of a limit, that takes longer than a device may is said once")
  func slowCalls() throws {
    var bench = Self.afterFirstRound()
    bench.expect(.readPages(.next))
    bench.answer(0, SaveSessionTests.info(0, 0))
    bench.drain()
    let due = try #require(bench.machine.deadline)
    bench.pass(5_000_000)
    #expect(due <= bench.now)
    for _ in 1...2 { bench.handle(.time) }
    #expect(bench.pending.count { $0 == .note(.slow(.readingPages, microseconds: 5_000_000)) } == 1)

    var limits = InboundLimits([true])
    _ = limits.set(1000, at: MonotonicTime(microseconds: 100))
    #expect(limits.slow(after: 50) == MonotonicTime(microseconds: 150))
    #expect(limits.noteSlow(after: 50, at: MonotonicTime(microseconds: 149)).isEmpty)
    let slow = SessionEffect.note(.slow(.limiting(device: 0), microseconds: 60))
    #expect(limits.noteSlow(after: 50, at: MonotonicTime(microseconds: 160)) == [slow])
    #expect(limits.slow(after: 50) == nil)
    // The next request, which waits behind it, has a time of its own.
    _ = limits.lift(at: MonotonicTime(microseconds: 170))
    limits.end(0, at: MonotonicTime(microseconds: 200))
    #expect(limits.slow(after: 50) == MonotonicTime(microseconds: 250))
    limits.end(0, at: MonotonicTime(microseconds: 210))
    #expect(limits.slow(after: 50) == nil)
  }

  @Test("a guest's reset during pre-copy starts the device's tracking anew, and takes back that it is to stop")
  func reset() {
    var bench = Self.afterFirstRound()
    bench.expect(.readPages(.next))
    bench.pass(1000)
    bench.handle(.time)
    bench.answer(0, .failure(DeviceError(.preCopyInfo, .errno(.noDevice))))
    bench.handle(.dirty(Self.page))
    #expect(bench.answer(0, .success(.state(.running))) == .readState)
    #expect(bench.wants(.restartTracking(device: 0)))
    #expect(bench.sent.contains(.void))
    #expect(bench.answer(0) == .setState(.preCopy))
    // Its initial data has to go out again first.
    #expect(bench.request(0) != .setState(.preCopyP2P))
  }

  @Test("memory that can't be sent takes the device back to where it was")
  func sendingFails() {
    var bench = Self.afterFirstRound()
    let error = MovingMemoryError("sending", errno: .inputOutput)
    bench.expect(.readPages(.next))
    bench.handle(.dirty(Self.page))
    bench.handle(.memoryFailed(error))
    bench.obey(devices: 1)
    #expect(bench.machine.outcome?.fault == .memory(error))
    #expect(bench.machine.outcome?.devices[0].state == .running)
  }

  /// Three rounds that get no smaller, and so a limit.
  private static func limited(_ bench: inout SessionBench<SaveSession>) -> UInt64? {
    for _ in 0..<6 {
      bench.expect(.readPages(.next))
      bench.handle(.dirty(gigabyte))
      for case .limit(0, let rate) in bench.pending { return rate }
      bench.answer(0, SaveSessionTests.info(0, 0))
      bench.drain()
      bench.pass(1_000_000)
      bench.handle(.pagesSent(bytes: 1 << 30))
    }
    return nil
  }

  @Test("a limit is lifted before the session is over, and its answer is waited for")
  func liftsLimit() throws {
    var bench = Self.afterFirstRound()
    let rate = try #require(Self.limited(&bench))
    bench.expect(.limit(device: 0, bytesPerSecond: rate))
    bench.handle(.limited(device: 0, nil))
    bench.handle(.interrupt(reason: "test"))
    bench.expect(.limit(device: 0, bytesPerSecond: nil))
    bench.obey(devices: 1)
    #expect(bench.machine.outcome == nil)
    bench.handle(.limited(device: 0, nil))
    #expect(bench.machine.outcome?.fault == .interrupted("test"))
  }

  @Test("a limit that can't be lifted is tried once more, and then is among what went wrong on the way back")
  func staysLimited() throws {
    let error = RateLimiterError(
      device: "d", kind: .police, operation: "lifting", subject: "e", cause: .kernel(.inputOutput, words: ""))
    var bench = Self.afterFirstRound()
    let rate = try #require(Self.limited(&bench))
    bench.expect(.limit(device: 0, bytesPerSecond: rate))
    bench.handle(.limited(device: 0, nil))
    bench.handle(.interrupt(reason: "test"))
    bench.obey(devices: 1)
    for _ in 1...2 {
      #expect(bench.machine.outcome == nil)
      bench.expect(.limit(device: 0, bytesPerSecond: nil))
      bench.handle(.limited(device: 0, error))
    }
    #expect(bench.machine.outcome?.cleanupFaults == [.stillLimited(0, error)])
    #expect(bench.wants(.note(.stillLimited(device: 0, error))))
  }

  @Test("a device whose limiter fails is not limited again, and what may come in is shared by the others")
  func sharesLimit() {
    let now = MonotonicTime(microseconds: 0)
    var limits = InboundLimits([true, false, true])
    #expect(
      limits.set(1000, at: now) == [.limit(device: 0, bytesPerSecond: 500), .limit(device: 2, bytesPerSecond: 500)])
    limits.end(0, at: now)
    #expect(limits.fail(2, at: now) == .limiting)
    #expect(limits.set(1000, at: now) == [.limit(device: 0, bytesPerSecond: 1000)])
    limits.end(0, at: now)
    #expect(!limits.areLifted)
    // What failed half way is lifted as well.
    #expect(limits.lift(at: now) == [.limit(device: 0, bytesPerSecond: nil), .limit(device: 2, bytesPerSecond: nil)])
    limits.end(0, at: now)
    limits.end(2, at: now)
    #expect(limits.areLifted)
  }

  @Test("the devices are not stopped before the destination has their initial data, however little is left")
  func awaitsInitial() {
    var configuration = Self.configuration()
    configuration.awaitsAnswers = true
    var bench = Self.afterFirstRound(configuration)
    bench.expect(.readPages(.next))
    bench.handle(.dirty(Self.page))
    #expect(bench.machine.decision?.verdict == .awaitInitial(device: 0))
    bench.handle(.received(buffer: nil, .initialLoaded(device: 0)))
    bench.pass(10_000)
    bench.handle(.pagesSent(bytes: 4096))
    bench.expect(.readPages(.next))
    bench.handle(.dirty(Self.page))
    #expect(bench.machine.decision?.verdict == .stop)
  }

  @Test(
    "what a device changes until its stop is in the forecast, at the rate that two infos show, but never more than all of it"
  )
  func changes() throws {
    for size: UInt64 in [1 << 30, 5 << 20] {
      var configuration = Self.configuration()
      configuration.memory?.quiescing = 20_000
      configuration.memory?.interval = 1000
      var bench = SessionBench(SaveSession(devices: [sessionDevice(0)], configuration: configuration))
      bench.answer(0, .success(.stopCopySize(size)))
      bench.expect(.readPages(.first))
      bench.handle(.dirty(Self.gigabyte))
      bench.answer(0)
      // A mebibyte in a millisecond, twice.
      for left: UInt64 in [0, 1 << 20, 2 << 20] {
        bench.answer(0, SaveSessionTests.info(0, left))
        bench.pass(1000)
        bench.handle(.time)
      }
      bench.handle(.pagesSent(bytes: 1 << 30))
      bench.expect(.readPages(.next))
      bench.handle(.dirty(Self.page))
      // 2 MiB, a millisecond since the last info, and 20 until the stop.
      let foretold = try #require(bench.machine.decision?.forecast.deviceBytes)
      let all = min(23 << 20, size)
      #expect((all / 100 * 98...all).contains(foretold), "\(foretold)")
    }
  }

  @Test("initial data that a driver begins anew with is marked and waited for again")
  func initialAgain() {
    var configuration = Self.configuration()
    configuration.awaitsAnswers = true
    var bench = Self.afterFirstRound(configuration)
    bench.handle(.received(buffer: nil, .initialLoaded(device: 0)))
    bench.expect(.readPages(.next))
    bench.pass(1000)
    bench.handle(.time)
    bench.answer(0, .success(.preCopyInfo(PreCopyInfo(initialBytes: 4096, dirtyBytes: 0, restartedInitial: true))))
    bench.handle(.dirty(Self.page))
    #expect(bench.machine.decision?.verdict == .awaitInitial(device: 0))
    bench.drain()
    bench.pass(1000)
    bench.handle(.time)
    bench.answer(0, SaveSessionTests.info(0, 0))
    bench.drain()
    #expect(bench.sent.count { $0 == .initialComplete } == 2)
  }

  @Test(
    "a reset found when the device is stopped fails the session where the caller gives up, and is sent where he forces")
  func resetAtLastMoment() {
    for lastResort in PreCopyConfiguration.LastResort.allCases {
      var configuration = Self.configuration()
      configuration.memory?.lastResort = lastResort
      var bench = Self.afterFirstRound(configuration)
      bench.expect(.readPages(.next))
      bench.handle(.dirty(Self.page))
      bench.answer(0, SaveSessionTests.info(0, 0))
      bench.drain()
      bench.answer(0, Self.moved)
      // A session opens where none should.
      bench.answer(0, .success(.moved(openedData: true)))
      #expect(bench.sent.contains(.void))
      let goesBack = bench.request(0) == .setState(.stop)
      #expect(goesBack == (lastResort == .giveUp))
    }
  }

  @Test("a second interrupt waits for no limiter")
  func givesUpLimiter() throws {
    var bench = Self.afterFirstRound()
    let rate = try #require(Self.limited(&bench))
    bench.handle(.interrupt(reason: "test"))
    #expect(bench.wants(.limit(device: 0, bytesPerSecond: rate)) && bench.wants(.limit(device: 0, bytesPerSecond: nil)))
    bench.obey(devices: 1)
    #expect(bench.machine.outcome == nil)
    bench.handle(.interrupt(reason: "test"))
    #expect(bench.machine.outcome != nil)
  }

  @Test("a device whose state can't be read ahead stops as soon as memory is nearly over")
  func withoutPreCopy() {
    var bench = SessionBench(
      SaveSession(devices: [sessionDevice(0, [.stopCopy, .p2p])], configuration: Self.configuration()))
    bench.answer(0, .success(.stopCopySize(1 << 20)))
    bench.expect(.readPages(.first))
    bench.handle(.dirty(Self.gigabyte))
    bench.pass(1_000_000)
    bench.handle(.pagesSent(bytes: 1 << 30))
    bench.expect(.readPages(.next))
    #expect(bench.request(0) == nil)
    bench.handle(.dirty(Self.page))
    #expect(bench.machine.decision?.forecast.deviceBytes == 1 << 20)
    #expect(bench.request(0) == .setState(.runningP2P))
  }
}

extension SessionBench<SaveSession> {
  /// Takes an effect off the list, which has to be there.
  mutating func expect(_ effect: SessionEffect, sourceLocation: SourceLocation = #_sourceLocation) {
    guard let index = pending.firstIndex(of: effect) else {
      Issue.record("\(effect) is not wanted", sourceLocation: sourceLocation)
      return
    }
    drop(index)
  }

  /// The device gives nothing to any read.
  mutating func drain() {
    while let buffer = takeRead(0) { handle(.read(device: 0, buffer: buffer, .success(.end))) }
  }
}
