// SPDX-License-Identifier: Apache-2.0
import FakeDevices
import LinuxIO
import Migration
import Testing

@testable import Helper

/// What fuzzing has found of the helper (docs/fuzzing.md), each with the shortest way to it.
@Suite("What a fuzzer has found of the helper")
struct FuzzFindingTests {
  @Test("a session that has ended for a number that is taken twice, or for another version, does nothing more")
  func endIsTheEnd() {
    var bench = HelperSessionBench()
    let number = bench.ask(.addDevice(HelperSessionBench.device(1)))
    bench.actions = bench.session.handle(.request(number, .status))
    #expect(bench.actions.count == 2)
    #expect(bench.session.handle(.request(9, .status)).isEmpty)
    #expect(bench.session.handle(.finished(number, .device(HelperSessionBench.info(1)))).isEmpty)
    var stranger = HelperSessionBench(greeted: false)
    stranger.ask(.hello(major: 2, minor: 0, features: [], version: ""))
    stranger.actions = []
    stranger.ask(.hello(major: 1, minor: 0, features: [], version: ""))
    #expect(stranger.actions.isEmpty)
  }

  @Test("the reply to each request can be read: TRACKING_ADD's was not known", arguments: WireSamples.requests)
  func everyReply(request: HelperRequest) throws {
    let packet = request.packet(number: 7)
    let (_, type) = HelperPacket.head(of: packet.span)
    let failure = HelperReply.failure(HelperFailure(.refused, "no")).packet(to: type, number: 7)
    #expect(
      try HelperPacket.message(failure.span, descriptors: 0)
        == .reply(number: 7, to: type, .failure(HelperFailure(.refused, "no"))))
    do throws(HelperPacketError) {
      let done = HelperReply.done.packet(to: type, number: 7)
      let message = try HelperPacket.message(done.span, descriptors: 0)
      #expect(message == .reply(number: 7, to: type, .done))
    } catch {
      // Others have more to say than that it is done; none is unknown.
      #expect(error.failure.code == .badPacket)
    }
  }

  @Test("a reset of a device that is gone says so: it said that it was done, in a packet that is no answer to that")
  func resetOfNothing() throws {
    let mailbox = try HelperMailbox()
    let driver = try HelperDriver(host: FakeHost([]), limits: HelperLimits(), mailbox: mailbox)
    driver.perform(7, .reset([1]), ReceivedDescriptors())
    let letters = try Self.letters(mailbox) { !$0.isEmpty }
    guard case .finished(7, .failure(let failure)) = letters.first else {
      Issue.record("it is done")
      return
    }
    #expect(failure.code == .noSuch && failure.device == 1)
  }

  /// Takes what comes until that is enough.
  private static func letters(
    _ mailbox: HelperMailbox, until isEnough: ([HelperSession.Input]) -> Bool
  ) throws -> [HelperSession.Input] {
    let (silent, other) = try PacketSocket.pair()
    defer { other.hangUp() }
    var letters: [HelperSession.Input] = []
    while !isEnough(letters) {
      _ = try mailbox.bell.wait(for: silent.descriptor, writes: false)
      letters += mailbox.take(isRung: true).map(\.input)
    }
    return letters
  }

  @Test(
    "that a session has begun is told before all that it tells: its end could come first, and the word for another request"
  )
  func beginningIsToldFirst() throws {
    let mailbox = try HelperMailbox()
    let device = FakeDevice("0000:00:01.0", features: [.stopCopy], image: [], script: Script())
    let driver = try HelperDriver(host: FakeHost([device]), limits: HelperLimits(), mailbox: mailbox)
    driver.perform(1, .adopt(HelperSessionBench.device(1)), ReceivedDescriptors())
    _ = try Self.letters(mailbox) { !$0.isEmpty }
    driver.perform(2, .resume([1], []), ReceivedDescriptors())
    let letters = try Self.letters(mailbox) { letters in
      letters.contains { if case .sessionEnded = $0 { true } else { false } }
    }
    #expect(letters.first == .finished(2, .done))
    driver.letGo()
  }

  @Test("a request about a device that can't be taken over has its reply, also where that turns out as it comes")
  func requestsBehindAFailedAddition() throws {
    for _ in 0..<200 {
      let mailbox = try HelperMailbox()
      let driver = try HelperDriver(host: FakeHost([]), limits: HelperLimits(), mailbox: mailbox)
      driver.perform(1, .adopt(HelperSessionBench.device(1)), ReceivedDescriptors())
      for number in 2..<UInt32(12) { driver.perform(number, .describe(1), ReceivedDescriptors()) }
      driver.perform(12, .release(1), ReceivedDescriptors())
      let letters = try Self.letters(mailbox) { $0.count == 12 }
      let numbers = letters.compactMap { letter -> UInt32? in
        if case .finished(let number, _) = letter { number } else { nil }
      }
      #expect(Set(numbers) == Set(1...12))
    }
  }

  @Test("nothing that needs trackers is taken before they are known to be on: a page size of 0 was told")
  func trackersThatAreBeingStarted() {
    var bench = HelperSessionBench(devices: [1])
    let start = bench.ask(.startTracking(pageSize: 4096))
    let needs: [HelperRequest] = [
      .readTracking, .addDirtyPages, .stopTracking, .beginSave(HelperSessionBench.save(.byVMM)),
    ]
    for request in needs {
      let refusal = bench.refusal(request)
      #expect(refusal?.code == .wrongPhase)
    }
    bench.finish(start, .bitmap(pageSize: 4096, words: 1, dirty: 1))
    let taken = bench.refusal(.readTracking)
    #expect(taken == nil)
  }
}
