// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Migration

@Suite("The destination, step by step")
struct LoadSessionTests {
  static func manifest(_ count: Int) -> StreamItem {
    .manifest(
      StreamManifest(
        devices: (0..<count).map {
          StreamManifest.Device(name: "source\($0)", driver: "d", features: [.stopCopy, .p2p, .preCopy])
        }))
  }

  static func bench(_ devices: Int = 1, answers: Bool = false, resetAllowed: Bool = false) -> SessionBench<LoadSession>
  {
    var configuration = LoadSession.Configuration()
    configuration.answers = answers
    configuration.resetAllowed = resetAllowed
    var bench = SessionBench(
      LoadSession(devices: (0..<devices).map { sessionDevice($0) }, configuration: configuration))
    bench.handle(.received(buffer: 0, manifest(devices)))
    return bench
  }

  @Test("the VMMs' own states have a cap together, also while they wait; more of them fails the load")
  func cap() {
    var configuration = LoadSession.Configuration()
    configuration.maximumVMMStateBytes = 10
    var bench = SessionBench(
      LoadSession(devices: (0..<2).map { sessionDevice($0) }, configuration: configuration))
    bench.handle(.received(buffer: 0, Self.manifest(2)))
    bench.handle(.received(buffer: 1, .vmmState(device: 0, bytes: [UInt8](repeating: 1, count: 6))))
    bench.obey(devices: 2)
    #expect(bench.machine.vmmStates[0]?.count == 6)
    bench.handle(.received(buffer: 2, .vmmState(device: 1, bytes: [UInt8](repeating: 2, count: 5))))
    bench.obey(devices: 2)
    guard case .stream(let error) = bench.machine.outcome?.fault else {
      Issue.record("it was taken: \(bench.machine.outcome.map { "\($0)" } ?? "no outcome")")
      return
    }
    #expect("\(error)".contains("more than 10 bytes"))
    #expect(bench.machine.vmmStates[1] == nil)
  }

  @Test("nothing is touched before the manifest has come")
  func waits() {
    let bench = SessionBench(LoadSession(devices: [sessionDevice(0)]))
    #expect(bench.request(0) == nil)
    #expect(bench.machine.deadline == nil)
    #expect(bench.wants(.receive(buffer: 0)) && bench.wants(.receive(buffer: 3)))
  }

  @Test("resuming is left only after the stream's end, when every byte is in")
  func endsLast() {
    var bench = Self.bench()
    bench.obey(devices: 1)
    bench.handle(.received(buffer: 1, .deviceData(device: 0, bytes: 5)))
    bench.handle(.received(buffer: 2, .deviceEnd(device: 0, bytes: 5)))
    #expect(bench.request(0) == nil)
    bench.handle(.received(buffer: 3, .end))
    #expect(bench.request(0) == nil)
    bench.handle(.written(device: 0, buffer: 1, nil))
    #expect(bench.request(0) == .setState(.stop))
    bench.obey(devices: 1)
    #expect(bench.machine.outcome?.fault == nil)
    #expect(bench.machine.outcome?.devices[0].state == .running)
  }

  @Test("frames that come before the devices are ready wait, in order, in their buffers")
  func early() {
    var bench = Self.bench()
    bench.handle(.received(buffer: 1, .deviceData(device: 0, bytes: 5)))
    bench.handle(.received(buffer: 2, .deviceData(device: 0, bytes: 6)))
    #expect(!bench.wants(.write(device: 0, buffer: 1, bytes: 5)))
    bench.obey(devices: 1)
    let writes = bench.pending.filter { if case .write = $0 { true } else { false } }
    #expect(writes == [.write(device: 0, buffer: 1, bytes: 5), .write(device: 0, buffer: 2, bytes: 6)])
  }

  @Test("every initial-complete is answered once, also one that a void has overtaken")
  func answers() {
    var bench = Self.bench(answers: true)
    bench.obey(devices: 1)
    bench.handle(.received(buffer: 1, .deviceData(device: 0, bytes: 5)))
    bench.handle(.received(buffer: 2, .initialComplete(device: 0)))
    #expect(bench.sent.isEmpty)
    bench.handle(.received(buffer: 2, .void(device: 0)))
    bench.handle(.written(device: 0, buffer: 1, nil))
    #expect(bench.sent == [.initialLoaded])
    #expect(bench.request(0) == .reset)
    bench.obey(devices: 1)
    bench.handle(.received(buffer: 1, .initialComplete(device: 0)))
    #expect(bench.sent == [.initialLoaded, .initialLoaded])
  }

  @Test("a device that begins anew has the whole limit of a step")
  func limitAfterVoid() {
    var bench = Self.bench()
    bench.obey(devices: 1)
    bench.pass(4_900_000)
    bench.handle(.received(buffer: 1, .void(device: 0)))
    #expect(bench.request(0) == .reset)
    #expect(bench.machine.deadline == MonotonicTime(microseconds: 9_900_000))
  }

  @Test("a request for resuming that failed and left the device in stop has cost it nothing: it is not reset")
  func untouched() {
    var bench = Self.bench(resetAllowed: true)
    bench.obey(devices: 1) { $1 == .setState(.resuming) }
    bench.answer(0, .failure(DeviceError(.setState(.resuming), .errno(.noMemory))))
    bench.answer(0, .success(.state(.stop)))
    bench.obey(devices: 1) { $1 == .reset }
    #expect(bench.machine.outcome?.devices[0] == DeviceOutcome(name: "device0", state: .running))
  }

  @Test("a device that was in resuming is reset in any case, because half a state is worth nothing")
  func touched() {
    for place in [MigrationState.resuming, .error] {
      var bench = Self.bench()
      bench.obey(devices: 1) { $1 == .setState(.resuming) }
      bench.answer(0, .failure(DeviceError(.setState(.resuming), .errno(.noMemory))))
      bench.answer(0, .success(.state(place)))
      #expect(bench.answer(0) == .reset)
      #expect(bench.machine.outcome?.devices[0].wasReset == true)
    }
  }

  @Test(
    "a device that fails before it was asked to resume, or after its state is whole, is reset only where that is allowed"
  )
  func resetsAreAllowed() {
    for resetAllowed in [false, true] {
      var before = Self.bench(resetAllowed: resetAllowed)
      before.answer(0, .failure(DeviceError(.setState(.runningP2P), .errno(.inputOutput))))
      before.answer(0, .success(.state(.error)))
      #expect((before.request(0) == .reset) == resetAllowed)
      var after = Self.bench(resetAllowed: resetAllowed)
      after.obey(devices: 1)
      after.handle(.received(buffer: 1, .deviceEnd(device: 0, bytes: 0)))
      after.handle(.received(buffer: 2, .end))
      #expect(after.answer(0) == .setState(.stop))
      after.answer(0, .failure(DeviceError(.setState(.runningP2P), .errno(.inputOutput))))
      after.answer(0, .success(.state(.error)))
      #expect((after.request(0) == .reset) == resetAllowed)
      if !resetAllowed { #expect(after.machine.outcome?.devices[0].state == .error) }
    }
  }

  @Test("a source that has sent everything may be gone before its frames are taken in")
  func sourceGone() {
    var bench = Self.bench(answers: true)
    bench.handle(.received(buffer: 1, .deviceEnd(device: 0, bytes: 0)))
    bench.handle(.received(buffer: 2, .end))
    bench.handle(.channelFailed(ChannelError("writing", channel: "c", errno: ErrorNumber(rawValue: 32))))
    bench.obey(devices: 1)
    #expect(bench.machine.outcome?.fault == nil && bench.machine.outcome != nil)
  }

  @Test("interrupted while it waits for the stream it is over at once")
  func interruptedEarly() {
    var bench = SessionBench(LoadSession(devices: [sessionDevice(0)]))
    bench.handle(.interrupt(reason: "a test"))
    #expect(bench.machine.outcome?.fault == .interrupted("a test"))
    #expect(bench.request(0) == nil)
  }

  @Test("a stream that does not fit is refused with the names of both devices")
  func mismatches() {
    let devices = [sessionDevice(0)]
    func mismatch(_ change: (inout StreamManifest.Device) -> Void) -> String? {
      var device = StreamManifest.Device(name: "source", driver: "d", features: [.stopCopy])
      change(&device)
      return LoadSession.mismatch(manifest: StreamManifest(devices: [device]), devices: devices)
    }
    #expect(mismatch { _ in } == nil)
    #expect(mismatch { $0.tag = [1] } == nil)
    #expect(mismatch { $0.driver = "e" }?.contains("source was saved by the driver e, and device0 has d") == true)
    #expect(
      LoadSession.mismatch(manifest: StreamManifest(devices: twoDevices), devices: devices)?
        .contains("the stream holds 2 devices") == true)
    var tagged = sessionDevice(0, [.stopCopy])
    tagged.tag = [2]
    let source = StreamManifest.Device(name: "source", driver: "d", features: [.stopCopy, .preCopy], tag: [1])
    #expect(
      LoadSession.mismatch(manifest: StreamManifest(devices: [source]), devices: [tagged])?
        .contains("has stop-copy only") == true)
    tagged.features.insert(.preCopy)
    #expect(
      LoadSession.mismatch(manifest: StreamManifest(devices: [source]), devices: [tagged])?
        .contains("device0 is no match for source (loose policy): a compatibility tag can't be read") == true)
  }

  @Test("what fits and the guest's peers may notice is told of each device, and nothing where a side says nothing")
  func warnings() {
    var (source, destination) = (CompatibilityTag(), CompatibilityTag())
    source[.eswitchRules] = "3 (7f3a91c2d0e4b6aa)"
    destination[.eswitchRules] = "none"
    source[.kernel] = "6.12"
    func warnings(_ tag: [UInt8]) -> [String] {
      var device = sessionDevice(0)
      device.tag = tag
      let from = StreamManifest.Device(name: "source", driver: "d", features: [.stopCopy], tag: source.encoded)
      return LoadSession.warnings(manifest: StreamManifest(devices: [from]), devices: [device])
        .map { "\($0.device): \($0.finding)" }
    }
    #expect(
      warnings(destination.encoded) == [
        "0: eswitch_rules is different: 3 (7f3a91c2d0e4b6aa) on the source, none on the destination"
      ])
    #expect(warnings(source.encoded).isEmpty && warnings([]).isEmpty && warnings([1]).isEmpty)
  }

  @Test("that is told of each device before anything is asked of one")
  func told() throws {
    var (source, destination) = (CompatibilityTag(), CompatibilityTag())
    (source[.trust], destination[.trust]) = ("on", "off")
    source[.mac] = "02:00:00:00:00:01"
    var devices = [sessionDevice(0), sessionDevice(1)]
    (devices[0].tag, devices[1].tag) = (source.encoded, destination.encoded)
    let records = devices.map {
      StreamManifest.Device(name: "source", driver: "d", features: $0.features, tag: source.encoded)
    }
    var bench = SessionBench(LoadSession(devices: devices))
    bench.handle(.received(buffer: 0, .manifest(StreamManifest(devices: records))))
    let findings = bench.pending.compactMap { effect -> String? in
      if case .note(.unlike(let device, let finding)) = effect { "\(device): \(finding)" } else { nil }
    }
    #expect(
      findings == [
        "1: mac is missing: 02:00:00:00:00:01 on the source, unknown on the destination",
        "1: trust is different: on on the source, off on the destination",
      ])
    let first = try #require(bench.pending.firstIndex { if case .control = $0 { true } else { false } })
    let last = try #require(bench.pending.lastIndex { if case .note(.unlike) = $0 { true } else { false } })
    #expect(last < first)
  }

  @Test(
    "tags that the policy refuses end the session before anything is asked of a device", arguments: TagPolicy.allCases)
  func tags(policy: TagPolicy) throws {
    var (source, destination) = (CompatibilityTag(), CompatibilityTag())
    source[.firmware] = "2.0"
    destination[.firmware] = policy == .strict ? "2.1" : "1.9"
    var device = sessionDevice(0)
    device.tag = destination.encoded
    var configuration = LoadSession.Configuration()
    configuration.tagPolicy = policy
    var bench = SessionBench(LoadSession(devices: [device], configuration: configuration))
    let record = StreamManifest.Device(name: "source", driver: "d", features: device.features, tag: source.encoded)
    bench.handle(.received(buffer: 0, .manifest(StreamManifest(devices: [record]))))
    guard policy != .none else {
      #expect(bench.machine.outcome == nil && bench.request(0) != nil)
      return
    }
    #expect(bench.request(0) == nil)
    guard case .mismatch(let reason) = bench.machine.outcome?.fault else {
      Issue.record("it ended with \(String(describing: bench.machine.outcome))")
      return
    }
    #expect(reason.contains("firmware is \(policy == .strict ? "newer" : "older")"))
    #expect(bench.machine.outcome?.devices[0].state == .running)
  }
}
