// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Migration

/// What each side makes of words that come at the wrong time, or that it does not know.
@Suite("Words of who runs")
struct CommitmentTests {
  /// A destination whose stream promises a commit, up to the end frame; the write of the only data is under way.
  static func loading() -> SessionBench<LoadSession> {
    var configuration = LoadSession.Configuration()
    configuration.answers = true
    var bench = SessionBench(LoadSession(devices: [sessionDevice(0)], configuration: configuration))
    let record = StreamManifest.Device(name: "source", driver: "d", features: [.stopCopy, .p2p, .preCopy])
    bench.handle(.received(buffer: 0, .manifest(StreamManifest(devices: [record], commits: true))))
    bench.obey(devices: 1)
    bench.handle(.received(buffer: 1, .deviceData(device: 0, bytes: 5)))
    bench.handle(.received(buffer: 2, .deviceEnd(device: 0, bytes: 5)))
    bench.handle(.received(buffer: 3, .end))
    return bench
  }

  static func loaded() -> SessionBench<LoadSession> {
    var bench = loading()
    bench.handle(.written(device: 0, buffer: 1, nil))
    bench.obey(devices: 1)
    #expect(bench.sent.last == .loaded)
    bench.confirmSends()
    return bench
  }

  /// A source that has sent everything and waits.
  static func saved() -> SessionBench<SaveSession> {
    var configuration = SaveSession.Configuration()
    configuration.preCopy = false
    configuration.awaitsAnswers = true
    configuration.commits = true
    var bench = SessionBench(SaveSession(devices: [sessionDevice(0)], configuration: configuration))
    bench.obey(devices: 1)
    while let buffer = bench.takeRead(0) { bench.handle(.read(device: 0, buffer: buffer, .success(.end))) }
    bench.confirmSends()
    return bench
  }

  @Test("nothing runs before the commit, and it is answered when everything runs")
  func good() {
    var bench = Self.loaded()
    #expect(bench.request(0) == nil && bench.machine.outcome == nil)
    bench.handle(.received(buffer: 1, .commit))
    bench.obey(devices: 1)
    #expect(bench.sent.last == .running)
    bench.confirmSends()
    #expect(bench.machine.outcome?.fault == nil && bench.machine.outcome?.commitment == .complete)
  }

  @Test("a commit that comes too early is refused, and the devices are reset")
  func early() {
    var bench = Self.loading()
    bench.handle(.received(buffer: 4, .commit))
    bench.handle(.written(device: 0, buffer: 1, nil))
    bench.obey(devices: 1)
    bench.confirmSends()
    #expect(bench.machine.outcome?.commitment == Commitment.none)
    #expect(bench.machine.outcome?.devices[0].wasReset == true)
    guard case .stream = bench.machine.outcome?.fault else {
      Issue.record("\(String(describing: bench.machine.outcome))")
      return
    }
  }

  @Test("frames that nobody knows yet do not hide the commit")
  func optionalFrames() {
    var bench = Self.loading()
    bench.handle(.written(device: 0, buffer: 1, nil))
    for buffer in 4...6 { bench.handle(.received(buffer: buffer, .skipped(type: 99))) }
    bench.obey(devices: 1)
    bench.handle(.received(buffer: 7, .commit))
    #expect(bench.request(0) == .setState(.runningP2P))
  }

  @Test("a destination that loses the link after it said loaded says that only the source knows")
  func offered() {
    var bench = Self.loaded()
    bench.handle(.channelFailed(ChannelError("reading", channel: "c", errno: .inputOutput)))
    bench.obey(devices: 1)
    #expect(bench.machine.outcome?.commitment == .offered)
    #expect(bench.machine.outcome?.devices[0].wasReset == true)
  }

  @Test("devices that run after a second attempt are said to run")
  func secondAttempt() {
    var bench = Self.loaded()
    bench.handle(.received(buffer: 1, .commit))
    bench.answer(0, .failure(DeviceError(.setState(.runningP2P), .errno(.inputOutput))))
    bench.answer(0, .success(.state(.stop)))
    bench.obey(devices: 1)
    #expect(bench.sent.last == .running)
    bench.confirmSends()
    #expect(bench.machine.outcome?.commitment == .complete && bench.machine.outcome?.fault != nil)
  }

  @Test("a stream of answers is no stream for a destination")
  func answersToADestination() {
    var bench = SessionBench(LoadSession(devices: [sessionDevice(0)]))
    bench.handle(.received(buffer: 0, .loaded))
    #expect(bench.machine.outcome?.fault != nil && bench.request(0) == nil)
  }

  @Test("a source takes nothing for an answer that is none, and goes back")
  func noAnswer() {
    for item in [StreamItem.end, .commit, .deviceEnd(device: 0, bytes: 0), .running] {
      var bench = Self.saved()
      bench.handle(.received(buffer: nil, item))
      bench.obey(devices: 1)
      #expect(bench.machine.outcome?.devices[0].state == .running, "\(item)")
      #expect(bench.machine.outcome?.commitment == Commitment.none && bench.machine.outcome?.fault != nil)
    }
  }

  @Test("what was let go of stays stopped, and an answer that comes late is still believed")
  func lateAnswer() {
    for isAnswered in [false, true] {
      var bench = Self.saved()
      bench.handle(.received(buffer: nil, .loaded))
      #expect(bench.sent == [.commit])
      // The first can't take back what was let go of, and its answer is near; the second waits no longer.
      bench.handle(.interrupt(reason: "a test"))
      #expect(bench.machine.outcome == nil && bench.request(0) == nil)
      bench.handle(.interrupt(reason: "a test"))
      if isAnswered { bench.handle(.received(buffer: nil, .running)) }
      bench.obey(devices: 1)
      #expect(bench.machine.outcome?.devices[0].state == .stop)
      #expect(bench.machine.outcome?.commitment == (isAnswered ? .complete : .unanswered))
      #expect(bench.machine.outcome?.fault == .interrupted("a test"))
    }
  }

  /// The frame with which a destination gives up, if it was sent.
  static func reason(_ bench: SessionBench<LoadSession>) -> String? {
    for case .send(let frame) in bench.pending where frame.header.knownType == .givenUp {
      guard case .bytes(let bytes) = frame.payload else { return nil }
      return String(decoding: bytes, as: UTF8.self)
    }
    return nil
  }

  @Test("a stream that ends early is one fault, however many buffers wait for its frames")
  func lostOnce() {
    var bench = Self.loading()
    let end = StreamError(.incomplete, place: "a frame", offset: 0)
    for _ in 0..<3 { bench.handle(.streamFailed(end)) }
    bench.handle(.channelFailed(ChannelError("writing", channel: "c", errno: .inputOutput)))
    bench.handle(.written(device: 0, buffer: 1, nil))
    bench.obey(devices: 1)
    #expect(bench.machine.outcome?.fault == .stream(end) && bench.machine.outcome?.cleanupFaults == [])
  }

  @Test("a destination that gives up says why at once, and ends when that is out and its devices are back")
  func givesUp() {
    var bench = Self.loading()
    bench.handle(.written(device: 0, buffer: 1, DeviceError(.writeData, .errno(.inputOutput))))
    #expect(Self.reason(bench)?.contains("device0: ") == true)
    bench.obey(devices: 1)
    #expect(bench.machine.outcome == nil)
    bench.confirmSends()
    #expect(bench.machine.outcome?.devices[0].wasReset == true)
    #expect(bench.machine.outcome?.commitment == Commitment.none)
  }

  @Test("a source that reads nothing is not waited for")
  func givesUpUnheard() {
    var bench = Self.loading()
    bench.handle(.interrupt(reason: "a test"))
    bench.handle(.written(device: 0, buffer: 1, nil))
    bench.obey(devices: 1)
    #expect(bench.machine.outcome == nil)
    bench.pass(1_000_000)
    bench.handle(.time)
    #expect(bench.machine.outcome == nil && bench.machine.deadline != nil)
    bench.pass(1_000_000)
    bench.handle(.time)
    #expect(bench.machine.outcome?.fault == .interrupted("a test"))
  }

  @Test("a destination whose devices do not come to run after the commit says so, and says nothing when they do")
  func givesUpLate() {
    var bench = Self.loaded()
    bench.handle(.received(buffer: 1, .commit))
    bench.obey(devices: 1) { _, request in request == .setState(.runningP2P) }
    while bench.request(0) != nil {
      if bench.request(0) == .readState {
        bench.answer(0, .success(.state(.stop)))
      } else {
        bench.answer(0, .failure(DeviceError(.setState(.runningP2P), .errno(.inputOutput))))
      }
    }
    #expect(Self.reason(bench) != nil && !bench.sent.contains(.running))
    bench.confirmSends()
    #expect(bench.machine.outcome?.commitment == .unanswered)
  }

  @Test("where no commit was promised a destination ends without a word")
  func noFarewell() {
    var configuration = LoadSession.Configuration()
    configuration.answers = true
    var bench = SessionBench(LoadSession(devices: [sessionDevice(0)], configuration: configuration))
    let record = StreamManifest.Device(name: "source", driver: "other", features: [.stopCopy])
    bench.handle(.received(buffer: 0, .manifest(StreamManifest(devices: [record]))))
    #expect(bench.sent.isEmpty && bench.machine.outcome?.fault != nil)
  }

  @Test("a source whose destination gives up goes back until it has let go, and stays stopped after that")
  func givenUp() {
    for isCommitted in [false, true] {
      var bench = Self.saved()
      if isCommitted { bench.handle(.received(buffer: nil, .loaded)) }
      bench.handle(.received(buffer: nil, .givenUp(StreamReason("no reason"))))
      bench.obey(devices: 1)
      #expect(bench.machine.outcome?.fault == .givenUp(StreamReason("no reason")))
      #expect(bench.machine.outcome?.commitment == (isCommitted ? .unanswered : Commitment.none))
      #expect(bench.machine.outcome?.devices[0].state == (isCommitted ? .stop : .running))
    }
  }
}
