// SPDX-License-Identifier: Apache-2.0
import LinuxIO
import Migration
import Testing

@testable import Helper

@Suite("What a VMM is told of what it did not ask for")
struct HelperEventTests {
  private typealias Bench = HelperSessionBench

  private func events(_ bench: Bench) -> [HelperEvent] {
    bench.actions.compactMap { if case .event(let event) = $0 { event } else { nil } }
  }

  @Test("RESET: a device that its guest has reset, and one that was reset on the way back")
  func reset() {
    var bench = Bench.at(.preCopy)
    bench.feed(.note(.restarted(device: 1, times: 3)))
    guard case .reset(2, .preCopy, let restarted) = events(bench).first else {
      Issue.record("\(bench.actions)")
      return
    }
    #expect(restarted.contains("its guest has reset it (3)"))
    bench = Bench.at(.loading)
    bench.feed(.note(.reset(device: 0)))
    guard case .reset(1, .loading, let emptied) = events(bench).first else {
      Issue.record("\(bench.actions)")
      return
    }
    #expect(emptied.contains("is lost") && bench.actions.count == 1)
  }

  @Test(
    "THROTTLE: with each decision that finds more dirtied than goes out, behind it, and with no other",
    arguments: [(1001, 1000, true), (1000, 1000, false), (1001, 0, false)] as [(UInt64, UInt64, Bool)])
  func throttle(dirtied: UInt64, sent: UInt64, isTold: Bool) {
    var forecast = PreCopyForecast()
    (forecast.dirtyRate, forecast.bandwidth) = (dirtied, sent)
    let decision = PreCopyDecision(round: 1, forecast: forecast, limit: 1, verdict: .goOn)
    var bench = Bench.at(.preCopy)
    for _ in 1...2 {
      bench.actions = []
      bench.feed(.note(.decided(decision)))
      let told = events(bench)
      guard case .decision = told.first else {
        Issue.record("\(bench.actions)")
        return
      }
      #expect(
        Array(told.dropFirst())
          == (isTold
            ? [.throttle(.preCopy, "the guest dirties \(dirtied) bytes a second, and \(sent) go out")] : []))
    }
  }

  @Test("TRACKER: a tracker that fails in a reading is told once, with its device and what tracks that now")
  func tracker() throws {
    let move = try TestMove()
    var device = Bench.device(7)
    device.name = try #require(DeviceName("0000:17:00.2"))
    var bench = Bench(devices: [1])
    bench.finish(bench.ask(.addDevice(device)), .device(Bench.info(7)))
    bench.finish(bench.ask(.beginSave(Bench.save())))
    let mailbox = try HelperMailbox()
    let memory = ObservedMemory(move.sender, move.tracking, mailbox)
    func told() -> [HelperEvent] {
      bench.actions = []
      for letter in mailbox.take(isRung: false) { bench.feed(letter.input) }
      return events(bench)
    }
    _ = memory.read(.first)
    #expect(told() == [])
    move.source.tracker.failNext()
    _ = memory.read(.next)
    let failure = try #require(move.tracking.failures.first)
    #expect(
      told() == [.tracker(device: 7, .preCopy, "\(failure.error); tracked by \(TrackerKind.everything) from now on")])
    _ = memory.read(.next)
    #expect(told() == [])
  }
}
