// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Migration

/// A session whose caller decides when it stops and when it ends, as a VMM's helper does.
@Suite("The source on order")
struct SaveOrderTests {
  private static func configuration(memory: Bool) -> SaveSession.Configuration {
    var configuration = SaveSession.Configuration()
    configuration.pace.interval = 1000
    configuration.keepStopped = true
    configuration.stopsOnOrder = true
    configuration.finishesOnOrder = true
    if memory {
      configuration.memory = PreCopyConfiguration()
      configuration.memory?.roundsOnOrder = true
    }
    return configuration
  }

  private static func bench(memory: Bool, preCopy: Bool = true) -> SessionBench<SaveSession> {
    var configuration = configuration(memory: memory)
    configuration.preCopy = preCopy
    return SessionBench(SaveSession(devices: [sessionDevice(0)], configuration: configuration))
  }

  private static let ready = SessionEffect.note(.ready)
  private static let moved = Result<ControlAnswer, DeviceError>.success(.moved(openedData: false))
  private static let gigabyte = DirtyReading(pages: 1 << 18, bytes: 1 << 30)
  private static let page = DirtyReading(pages: 1, bytes: 4096)

  @Test("it says that it is ready, reads on, and stops when that is ordered")
  func stops() {
    var bench = Self.bench(memory: false)
    bench.obey(devices: 1) { _, request in request == .preCopyInfo }
    for _ in 0..<40 {
      bench.answer(0, SaveSessionTests.info(0, 0))
      bench.drain()
      bench.pass(1000)
      bench.handle(.time)
    }
    #expect(bench.pending.count { $0 == Self.ready } == 1)
    #expect(bench.request(0) == .preCopyInfo)
    bench.handle(.order(.stop))
    bench.answer(0, SaveSessionTests.info(0, 0))
    bench.drain()
    #expect(bench.request(0) == .setState(.preCopyP2P))
  }

  @Test(
    "without pre-copy it waits for the order as well, and an order that comes first is kept", arguments: [true, false])
  func withoutPreCopy(early: Bool) {
    var bench = Self.bench(memory: false, preCopy: false)
    if early { bench.handle(.order(.stop)) }
    #expect(bench.answer(0, .success(.stopCopySize(1))) == .stopCopySize)
    if !early {
      #expect(bench.wants(Self.ready))
      #expect(bench.request(0) == nil)
      bench.handle(.order(.stop))
    }
    #expect(bench.request(0) == .setState(.runningP2P))
  }

  @Test("the stream ends when that is ordered, and has what the VMM keeps of the device before its end")
  func finishes() {
    var bench = Self.bench(memory: false, preCopy: false)
    bench.handle(.order(.stop))
    bench.obey(devices: 1)
    bench.drain()
    #expect(bench.sent.contains(.deviceEnd) && !bench.sent.contains(.end))
    bench.handle(.order(.finish(vmmStates: [[1, 2, 3]])))
    #expect(Array(bench.sent.suffix(2)) == [.vmmState, .end])
    #expect(bench.machine.outcome == nil)
  }

  @Test("rounds begin on order, and one that finds no end gives nothing up")
  func rounds() {
    var bench = Self.bench(memory: true)
    bench.obey(devices: 1) { _, request in request == .preCopyInfo }
    #expect(!bench.wants(.readPages(.first)))
    bench.handle(.order(.round))
    bench.expect(.readPages(.first))
    for _ in 0..<20 {
      bench.handle(.dirty(Self.gigabyte))
      bench.expect(.sendPages)
      bench.answer(0, SaveSessionTests.info(0, 0))
      bench.drain()
      bench.pass(1_000_000)
      bench.handle(.pagesSent(bytes: 1 << 30))
      #expect(!bench.wants(.readPages(.next)))
      bench.handle(.order(.round))
      bench.expect(.readPages(.next))
    }
    #expect(bench.machine.decision?.verdict == .giveUp)
    #expect(bench.machine.outcome == nil && bench.machine.fault == nil)
    bench.handle(.dirty(Self.page))
    #expect(bench.machine.decision?.verdict == .stop)
    #expect(bench.wants(Self.ready))
    bench.answer(0, SaveSessionTests.info(0, 0))
    bench.drain()
    #expect(bench.request(0) != .setState(.preCopyP2P))
    // The pages come back with the order.
    bench.handle(.order(.stop))
    bench.handle(.pagesSent(bytes: 4096))
    #expect(bench.request(0) == .setState(.preCopyP2P))
    bench.answer(0, Self.moved)
    bench.answer(0, Self.moved)
    // The last is nobody's choice.
    bench.expect(.readPages(.last))
  }

  @Test("what is no longer so is said anew when it is so again")
  func readyAgain() {
    var bench = Self.bench(memory: true)
    bench.obey(devices: 1) { _, request in request == .preCopyInfo }
    bench.answer(0, SaveSessionTests.info(0, 0))
    bench.drain()
    for (index, reading) in [Self.gigabyte, Self.page, Self.gigabyte, Self.page].enumerated() {
      bench.handle(.order(.round))
      bench.expect(.readPages(index == 0 ? .first : .next))
      bench.handle(.dirty(reading))
      bench.pass(1_000_000)
      bench.handle(.pagesSent(bytes: reading.bytes))
    }
    #expect(bench.pending.count { $0 == Self.ready } == 2)
  }
}
