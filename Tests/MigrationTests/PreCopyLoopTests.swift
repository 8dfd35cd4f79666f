// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Migration

@Suite("The pre-copy loop")
struct PreCopyLoopTests {
  /// A loop on a bench: a test says what readings find, and what sending takes.
  private struct Bench {
    var loop: PreCopyLoop
    var now = MonotonicTime(microseconds: 0)
    var devices = PreCopyLoop.DeviceFigures()

    init(_ configuration: PreCopyConfiguration = PreCopyConfiguration()) { loop = PreCopyLoop(configuration, at: now) }

    /// A whole round: the reading finds this many bytes, which go out at this rate.
    mutating func round(_ bytes: UInt64, bytesPerMicrosecond: UInt64 = 1000) -> PreCopyDecision? {
      if let due = loop.due { now = max(now, due) }
      _ = loop.beginReading(at: now)
      let decision = loop.take(DirtyReading(pages: bytes / 4096, bytes: bytes), devices, at: now)
      now = now.adding(microseconds: bytes / bytesPerMicrosecond)
      loop.endSending(bytes, at: now)
      return decision
    }
  }

  @Test("the first round sends everything and decides nothing, whatever it finds")
  func first() throws {
    var bench = Bench()
    #expect(bench.loop.due == MonotonicTime(microseconds: 0))
    let round = bench.round(4096)
    let decision = try #require(round)
    #expect(decision.verdict == .goOn && decision.round == 1 && decision.forecast.downtime == nil)
    #expect(
      decision.description == "round 1: 4.0 kB of pages and 0 B of device state left; nothing measured yet: go on")
  }

  @Test("it stops at the limit, and not a microsecond above")
  func limit() {
    var configuration = PreCopyConfiguration()
    configuration.downtimeLimit = 50_000
    for (bytes, verdict) in [(49_000_000, PreCopyDecision.Verdict.stop), (49_001_000, .goOn)] {
      var bench = Bench(configuration)
      bench.devices.loading = 1000
      _ = bench.round(1_000_000_000)
      let decision = bench.round(UInt64(bytes))
      #expect(decision?.verdict == verdict)
      #expect(bench.loop.isStopDecided == (verdict == .stop))
    }
  }

  @Test(
    "it foretells from what was measured: pages beside the stop, then what is written meanwhile and the devices, then loading"
  )
  func forecast() {
    var forecast = PreCopyForecast()
    #expect(forecast.downtime == nil)
    forecast.bandwidth = 1_000_000_000
    forecast.pageBytes = 30_000_000
    forecast.quiescing = 10_000
    // 30 ms of pages outlast 10 ms of quiescing.
    #expect(forecast.downtime == 30_000)
    forecast.quiescing = 40_000
    #expect(forecast.downtime == 40_000)
    // 500 MB/s for 40 ms are 20 MB.
    forecast.dirtyRate = 500_000_000
    #expect(forecast.downtime == 60_000)
    forecast.deviceBytes = 5_000_000
    #expect(forecast.downtime == 65_000)
    // The trackers are read beside that, and before what was written goes out.
    forecast.reading = 5000
    #expect(forecast.downtime == 65_000)
    forecast.reading = 12_000
    #expect(forecast.downtime == 72_000)
    forecast.reading = 0
    // A device that gives it away in 90 ms, from its stop on.
    forecast.deviceMicroseconds = 90_000
    #expect(forecast.downtime == 130_000)
    forecast.loading = 7000
    #expect(forecast.downtime == 137_000)
    forecast.deviceBytes = .max
    forecast.bandwidth = 1
    #expect(forecast.downtime == .max)
  }

  @Test("it does not stop before the destination has every device's initial data, and names the device it waits for")
  func initial() {
    var bench = Bench()
    bench.devices.unready = 1
    _ = bench.round(1_000_000_000)
    #expect(bench.round(4096)?.verdict == .awaitInitial(device: 1))
    bench.devices.unready = nil
    #expect(bench.round(4096)?.verdict == .stop)
  }

  @Test("rounds that don't get smaller end as the caller chose, after as many as it has patience for")
  func outrun() throws {
    for lastResort in PreCopyConfiguration.LastResort.allCases {
      var configuration = PreCopyConfiguration()
      configuration.patience = 2
      configuration.lastResort = lastResort
      var bench = Bench(configuration)
      let verdicts = (0..<4).compactMap { _ in bench.round(1_000_000_000)?.verdict }
      #expect(verdicts == [.goOn, .goOn, .goOn, lastResort == .force ? .force : .giveUp])
    }
  }

  @Test("progress by less than an eighth is none, and by an eighth is some")
  func progress() {
    var configuration = PreCopyConfiguration()
    configuration.patience = 1
    var bench = Bench(configuration)
    _ = bench.round(8_000_000_000)
    #expect(bench.round(8_000_000_000)?.verdict == .goOn)
    #expect(bench.round(7_000_000_000)?.verdict == .goOn)
    #expect(bench.round(6_126_000_000)?.verdict == .giveUp)
  }

  @Test("limits come first where there are limiters: half of the link's rate, then half of that, down to the least")
  func throttle() {
    var configuration = PreCopyConfiguration()
    configuration.patience = 1
    configuration.leastInbound = 250_000_000
    var bench = Bench(configuration)
    bench.devices.canBeLimited = true
    var verdicts: [PreCopyDecision.Verdict] = []
    while verdicts.last != .giveUp, verdicts.count < 20 {
      if let verdict = bench.round(2_000_000_000)?.verdict { verdicts.append(verdict) }
    }
    // The round in which a limit was set says nothing of it, and the one after it is the first to be held against.
    #expect(
      verdicts == [
        .goOn, .goOn, .throttle(bytesPerSecond: 500_000_000), .goOn, .goOn, .throttle(bytesPerSecond: 250_000_000),
        .goOn,
        .goOn, .giveUp,
      ])
  }

  @Test("it ends at the most passes even where each leaves less than the one before")
  func mostPasses() {
    var configuration = PreCopyConfiguration()
    configuration.mostPasses = 5
    configuration.lastResort = .force
    var bench = Bench(configuration)
    var left: UInt64 = 1 << 40
    var rounds = 0
    while !bench.loop.isStopDecided, rounds < 20 {
      _ = bench.round(left)
      left -= left / 4
      rounds += 1
    }
    // The first sends everything and judges nothing.
    #expect(rounds == 7)
  }

  @Test("rounds of few pages beside much device state are no passes: as long as that goes out, it goes on")
  func largeDevice() {
    var bench = Bench()
    bench.devices.bytesLeft = 40_000_000_000
    _ = bench.round(1_000_000_000)
    var rounds = 0
    // 10 GB/s of device state, in rounds of 10 ms.
    while bench.devices.bytesLeft > 0, !bench.loop.isStopDecided, rounds < 1000 {
      bench.devices.bytesLeft -= 100_000_000
      bench.loop.count(deviceBytes: 100_000_000)
      let verdict = bench.round(4096)?.verdict
      #expect(verdict == .goOn || verdict == .stop, "round \(rounds): \(verdict.map { "\($0)" } ?? "")")
      rounds += 1
    }
    #expect(bench.loop.isStopDecided && rounds > 300)
  }

  @Test("where nothing is left and the stop itself takes too long it comes to an end too")
  func tooShortALimit() {
    var configuration = PreCopyConfiguration()
    configuration.downtimeLimit = 1000
    var bench = Bench(configuration)
    bench.devices.loading = 5000
    _ = bench.round(1_000_000_000)
    var verdicts: [PreCopyDecision.Verdict] = []
    while verdicts.last != .giveUp, verdicts.count < 20 {
      if let verdict = bench.round(0)?.verdict { verdicts.append(verdict) }
    }
    #expect(verdicts == [.goOn, .goOn, .goOn, .giveUp])
    // A driver that takes its time is no lack of progress.
    bench = Bench(configuration)
    bench.devices.isReading = true
    bench.devices.bytesLeft = 1 << 30
    _ = bench.round(1_000_000_000)
    _ = bench.round(0)
    for _ in 0..<50 { #expect(bench.round(0)?.verdict == .goOn) }
  }

  @Test("it waits for the destination as long as it takes, once little is left")
  func waits() {
    var bench = Bench()
    bench.devices.unready = 0
    _ = bench.round(1_000_000_000)
    for _ in 0..<500 { #expect(bench.round(4096)?.verdict == .awaitInitial(device: 0)) }
  }

  @Test("a device that begins anew is no lack of progress, and what it dirties at once is no rate")
  func beginsAnew() throws {
    var bench = Bench()
    for bytes: UInt64 in [100_000_000_000, 5_000_000_000, 400_000_000] { _ = bench.round(bytes) }
    bench.loop.reconsider()
    for bytes: UInt64 in [100_000_000_000, 20_000_000_000, 4_000_000_000, 800_000_000, 160_000_000] {
      let decision = bench.round(bytes)
      #expect(decision?.verdict == (bytes == 160_000_000 ? .stop : .goOn), "\(decision.map { "\($0)" } ?? "")")
      if bytes == 100_000_000_000 { #expect(try #require(decision).forecast.dirtyRate < 5_000_000_000) }
    }
  }

  @Test("a round begins no sooner than the interval after the one before")
  func interval() {
    var configuration = PreCopyConfiguration()
    configuration.interval = 10_000
    configuration.downtimeLimit = 0
    var bench = Bench(configuration)
    _ = bench.round(1000)
    #expect(bench.loop.due == MonotonicTime(microseconds: 10_000))
    _ = bench.round(30_000_000)
    #expect(bench.loop.due == MonotonicTime(microseconds: 40_000))
  }

  @Test("while a stop that was decided can't begin rounds go on, and may find that it is too early after all")
  func secondLook() {
    var bench = Bench()
    _ = bench.round(1_000_000_000)
    #expect(bench.round(4096)?.verdict == .stop)
    #expect(bench.loop.due == bench.now.adding(microseconds: 9996))
    #expect(bench.round(900_000_000)?.verdict == .goOn)
    #expect(!bench.loop.isStopDecided)
    #expect(bench.round(4096)?.verdict == .stop)
    #expect(bench.round(4096)?.verdict == .stop)
    #expect(bench.loop.isStopDecided)
  }

  @Test("a stop that is put off again and again is taken back so often, and then stays")
  func staysDecided() {
    var bench = Bench()
    _ = bench.round(1_000_000_000)
    var stops = 0
    for _ in 0..<20 where stops < 2 || bench.loop.isStopDecided == false {
      _ = bench.round(4096)
      let again = bench.round(900_000_000)
      stops = again?.verdict == .stop ? stops + 1 : 0
    }
    #expect(stops >= 1 && bench.loop.isStopDecided)
    #expect(bench.loop.round < 20)
  }

  @Test("a stop that is forced stays so, whatever is found before it begins")
  func staysForced() {
    var configuration = PreCopyConfiguration()
    configuration.lastResort = .force
    configuration.downtimeLimit = 0
    var bench = Bench(configuration)
    var decision: PreCopyDecision?
    for _ in 0..<10 where decision?.verdict != .force { decision = bench.round(1_000_000_000) }
    #expect(decision?.verdict == .force)
    #expect(bench.round(500_000_000)?.verdict == .force)
    bench.loop.reconsider()
    #expect(bench.round(500_000_000)?.verdict == .goOn)
  }

  @Test("the time that readings take is in the forecast, but for the first, which turns the trackers on")
  func readingTime() throws {
    var bench = Bench()
    for round in 1...2 {
      if let due = bench.loop.due { bench.now = max(bench.now, due) }
      _ = bench.loop.beginReading(at: bench.now)
      bench.now = bench.now.adding(microseconds: 70_000)
      let taken = bench.loop.take(DirtyReading(pages: 1, bytes: 4096), bench.devices, at: bench.now)
      let decision = try #require(taken)
      #expect(decision.forecast.reading == (round == 1 ? 0 : 70_000))
      bench.now = bench.now.adding(microseconds: 4)
      bench.loop.endSending(4096, at: bench.now)
    }
  }

  @Test("the last reading is asked for after the stop, and decides nothing")
  func last() {
    var bench = Bench()
    _ = bench.round(1_000_000_000)
    #expect(bench.round(4096)?.verdict == .stop)
    bench.loop.beginStop()
    #expect(bench.loop.due == nil && bench.loop.isResting)
    #expect(bench.loop.beginLastReading(at: bench.now) == .last)
    #expect(bench.loop.take(DirtyReading(pages: 1, bytes: 4096), bench.devices, at: bench.now) == nil)
    #expect(!bench.loop.isOver)
    bench.loop.endSending(4096, at: bench.now)
    #expect(bench.loop.isOver)
  }

  @Test("small measurements say little beside large ones, and large ones push older ones out")
  func rates() {
    var rate = MeasuredRate()
    #expect(rate.bytesPerSecond == 0)
    rate.add(1_000_000_000, microseconds: 1_000_000)
    rate.add(1000, microseconds: 1000)
    #expect((990_000_000...1_000_000_000).contains(rate.bytesPerSecond))
    for _ in 0..<20 { rate.add(1_000_000_000, microseconds: 2_000_000) }
    #expect((499_000_000...501_000_000).contains(rate.bytesPerSecond))
    rate.add(.max, microseconds: .max)
    #expect(rate.bytesPerSecond > 0)
  }

  @Test("products that don't fit become as much as fits")
  func overflow() {
    #expect(scaled(.max, by: .max, over: 1) == .max)
    #expect(scaled(.max, by: .max, over: .max) == .max)
    #expect(scaled(6, by: 7, over: 4) == 10)
    #expect(sum(.max, 1) == .max)
  }
}
