// SPDX-License-Identifier: Apache-2.0
import FakeDevices
import Foundation
import LinuxIO
import Migration
import Testing

@testable import Helper

/// The whole server over real sockets, with devices made of memory.
@Suite("The helper, from socket to device", .serialized)
struct HelperServerTests {
  private static let features: MigrationFeatures = [.stopCopy, .p2p, .preCopy]

  private static func device(_ index: Int, bytes: Int = 300_000, script: Script = Script()) -> FakeDevice {
    FakeDevice(
      "0000:00:0\(index).0", features: features, image: (0..<bytes).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ index) },
      script: script)
  }

  private static func wanted(_ device: any MigratableDevice, _ id: UInt32) -> HelperDevice {
    HelperDevice(
      device: id, name: device.name, space: 1, tracker: .auto, support: .none, iommufdNumber: nil, pageTable: nil,
      logLimits: nil)
  }

  /// Two ends of a stream.
  static func streamPair() throws -> (SentFile, SentFile) {
    var numbers: [Int32] = [0, 0]
    try #require(
      unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &numbers) == 0)
    return (
      SentFile(Descriptor(owning: numbers[0], subject: "a stream")),
      SentFile(Descriptor(owning: numbers[1], subject: "a stream"))
    )
  }

  /// A VMM that has said hello and handed over its devices.
  static func vmm(
    _ devices: [any MigratableDevice], tag: CompatibilityTag? = nil, over: @escaping @Sendable () -> Void = {}
  ) throws -> TestVMM {
    let vmm = try TestVMM(devices, tag: tag?.encoded ?? [], over: over)
    #expect(
      try vmm.ask(.hello(major: 1, minor: 1, features: [.pages], version: "test"))
        == .hello(minor: 1, features: [.pages], HelperLimits(), version: "test"))
    let file = SentFile(try Descriptor.inMemory(name: "stands for a device"))
    for (index, device) in devices.enumerated() {
      guard case .device(let info) = try vmm.ask(.addDevice(wanted(device, UInt32(index + 1))), file) else {
        Issue.record("device \(index + 1) was not taken")
        continue
      }
      #expect(info.features == features && info.state == .running && info.driver == "fake")
      #expect(info.tracker == .everything)
    }
    return vmm
  }

  static func isReady(_ event: HelperEvent) -> Bool { if case .ready = event { true } else { false } }
  static func isLoaded(_ event: HelperEvent) -> Bool { event == .loaded }

  @Test("a source and a destination: devices, what the VMM keeps of them, and who runs when")
  func move() throws {
    let (here, there) = ([Self.device(0), Self.device(1)], [Self.device(0, bytes: 0), Self.device(1, bytes: 0)])
    let (source, destination) = (try Self.vmm(here), try Self.vmm(there))
    let (near, far) = try Self.streamPair()
    #expect(try destination.ask(.beginLoad(HelperSessionBench.load), far) == .done)
    #expect(try source.ask(.beginSave(HelperSessionBench.save()), near) == .done)
    try source.wait(for: Self.isReady)
    #expect(here.allSatisfy { $0.state == .preCopy })
    guard case .failure(let early) = try source.ask(.quiesce(bytesSent: 0)) else {
      Issue.record("it stops devices under running vCPUs")
      return
    }
    #expect(early.code == .wrongPhase)
    #expect(try source.ask(.vcpusStopped) == .done)
    guard case .estimate = try source.ask(.quiesce(bytesSent: 0)) else {
      Issue.record("it does not quiesce")
      return
    }
    #expect(here.allSatisfy { $0.state == .stopCopy })
    let kept: [UInt8] = Array("configuration space".utf8)
    let blob = SentFile(try Descriptor.inMemory(name: "a blob"))
    try blob.descriptor.writeAll(kept.span, at: 0)
    #expect(try source.ask(.blob(device: 2, offset: 0, size: UInt32(kept.count)), blob) == .done)
    #expect(try source.ask(.complete(bytesSent: 0)) == .done)
    #expect(here.allSatisfy { $0.state == .stop })
    try destination.wait(for: Self.isLoaded)
    #expect(there.allSatisfy { $0.state == .stop })
    #expect(try destination.ask(.readBlob(device: 1)) == .blob(device: 1, size: 0))
    #expect(try destination.ask(.readBlob(device: 2)) == .blob(device: 2, size: UInt32(kept.count)))
    var arrived = [UInt8](repeating: 0, count: kept.count)
    var span = arrived.mutableSpan
    #expect(try destination.file?.descriptor.read(into: &span, at: 0) == kept.count)
    #expect(arrived == kept)
    #expect(try source.ask(.commit) == .done)
    #expect(try destination.ask(.resume) == .done)
    #expect(there.allSatisfy { $0.state == .running } && here.allSatisfy { $0.state == .stop })
    #expect(there.map(\.image) == here.map(\.image))
    source.hangUp()
    destination.hangUp()
    #expect(source.ending() == HelperServer.Ending(status: 0, words: nil))
    #expect(destination.ending() == HelperServer.Ending(status: 0, words: nil))
  }

  @Test("a destination whose devices do not match is refused before they are touched, and its VMM is told what differs")
  func mismatch() throws {
    var (theirs, own) = (CompatibilityTag(), CompatibilityTag())
    (theirs[.driverSource], own[.driverSource]) = ("one", "another")
    (theirs[.driver], own[.driver]) = ("one", "another")
    let (here, there) = (Self.device(0), Self.device(0, bytes: 0))
    let (source, destination) = (try Self.vmm([here], tag: theirs), try Self.vmm([there], tag: own))
    let (near, far) = try Self.streamPair()
    #expect(try destination.ask(.beginLoad(HelperSessionBench.load), far) == .done)
    #expect(try source.ask(.beginSave(HelperSessionBench.save()), near) == .done)
    try destination.wait { if case .failed = $0 { true } else { false } }
    let failures = destination.events.compactMap { if case .failed(let failure) = $0 { failure } else { nil } }
    #expect(failures.first?.code == .stream && failures.first?.text.contains("loose policy") == true, "\(failures)")
    let arcs = destination.events.count { if case .arc = $0 { true } else { false } }
    #expect(arcs == 0 && there.state == .running)
    source.hangUp()
    destination.hangUp()
    _ = (source.ending(), destination.ending())
  }

  /// How far a source has come.
  enum Step: CaseIterable { case begun, ready, stopped, quiesced, complete }

  static func source(
    at step: Step, _ devices: [any MigratableDevice], _ stream: SentFile, over: @escaping @Sendable () -> Void = {}
  ) throws -> TestVMM {
    let source = try vmm(devices, over: over)
    _ = try source.ask(.beginSave(HelperSessionBench.save()), stream)
    if step == .begun { return source }
    try source.wait(for: isReady)
    if step == .ready { return source }
    _ = try source.ask(.vcpusStopped)
    if step == .stopped { return source }
    _ = try source.ask(.quiesce(bytesSent: 0))
    if step == .quiesced { return source }
    _ = try source.ask(.complete(bytesSent: 0))
    return source
  }

  @Test("an abort at any step takes the devices back, and the move can begin anew", arguments: Step.allCases)
  func abort(step: Step) throws {
    let here = [Self.device(0), Self.device(1)]
    let (near, _) = try Self.pipeToNowhere()
    let source = try Self.source(at: step, here, near)
    #expect(try source.ask(.abort) == .done)
    #expect(here.allSatisfy { $0.state == .running })
    guard case .status(let status) = try source.ask(.status) else {
      Issue.record("no status")
      return
    }
    #expect(status.phase == .setup && !status.vcpusAreStopped)
    let (again, _) = try Self.pipeToNowhere()
    #expect(try source.ask(.beginSave(HelperSessionBench.save()), again) == .done)
    #expect(try source.ask(.abort) == .done)
    source.hangUp()
    #expect(source.ending()?.status == 0)
  }

  /// A destination with two devices that are loaded; calls on the first go by the script.
  private static func loaded(_ script: Script) throws -> (TestVMM, [FakeDevice]) {
    let there = [device(0, bytes: 0, script: script), device(1, bytes: 0)]
    let destination = try vmm(there)
    let (near, far) = try streamPair()
    #expect(try destination.ask(.beginLoad(HelperSessionBench.load), far) == .done)
    let source = try source(at: .complete, [device(0), device(1)], near)
    try destination.wait(for: isLoaded)
    source.hangUp()
    return (destination, there)
  }

  @Test("an abort of what was loaded resets every device, also behind one that can't be")
  func abortLoaded() throws {
    let clean = Script()
    let (destination, there) = try Self.loaded(clean)
    let calls = clean.calls
    #expect(try destination.ask(.abort) == .done)
    #expect(there.allSatisfy { $0.state == .running && $0.image.isEmpty })
    // The next call of the first device is its reset.
    let (other, failing) = try Self.loaded(Script(at: calls + 1, .fail(.inputOutput, leaves: .old)))
    guard case .failure(let failure) = try other.ask(.abort) else {
      Issue.record("a reset that fails is not told")
      return
    }
    #expect(failure.code == .device && failure.device == 1)
    #expect(failing[1].state == .running && failing[1].image.isEmpty)
    destination.hangUp()
    other.hangUp()
  }

  @Test("a VMM that dies takes no device towards running", arguments: Step.allCases)
  func death(step: Step) throws {
    let here = [Self.device(0)]
    let (near, _) = try Self.pipeToNowhere()
    let source = try Self.source(at: step, here, near)
    if step == .begun { try source.wait(for: Self.isReady) }
    let before = here[0].state
    source.hangUp()
    let ending = source.ending()
    #expect(ending?.status == 1 && ending?.words?.contains("0000:00:00.0") == true, "\(ending?.words ?? "it goes on")")
    #expect(here[0].state == before && before != .running)
  }

  @Test("a stream that breaks is told, and the devices go back")
  func broken() throws {
    let here = [Self.device(0)]
    let (near, far) = try Self.streamPair()
    let source = try Self.vmm(here)
    _ = try source.ask(.beginSave(HelperSessionBench.save()), near)
    shutdown(far.descriptor.rawValue, Int32(SHUT_RDWR))
    try source.wait {
      if case .failed(let failure) = $0 { failure.code == .link || failure.code == .stream } else { false }
    }
    #expect(here[0].state == .running)
    #expect(try source.ask(.describe(device: 1)) != .done)
    source.hangUp()
    #expect(source.ending()?.status == 0)
  }

  @Test("a packet that is none is refused, and the connection ends")
  func badPackets() throws {
    let vmm = try Self.vmm([Self.device(0)])
    try vmm.send(bytes: [1, 2, 3])
    guard case .failure(let failure) = try vmm.reply(to: 0) else {
      Issue.record("it is taken")
      return
    }
    #expect(failure.code == .badPacket)
    #expect(vmm.ending()?.status == 1)
  }

  /// What a helper ends by itself for.
  enum Cause: CaseIterable { case signal, badPacket }

  @Test("a helper that ends in the middle of a stop has told of the arcs that were made", arguments: Cause.allCases)
  func lastNews(cause: Cause) throws {
    // Nothing wakes the server for the first arc of the stop: it waits there to be told with what follows, which does not come.
    let (arrived, released) = (BlockingQueue<Void>(), BlockingQueue<Void>())
    let fake = Self.device(0)
    let watched = WatchedDevice(fake) { state in
      guard state == .stopCopy else { return }
      arrived.put(())
      _ = released.take()
    }
    defer { released.close() }
    let source = try Self.source(at: .stopped, [watched], try Self.pipeToNowhere().0)
    _ = try source.send(.quiesce(bytesSent: 0))
    try #require(arrived.take(until: monotonicMicroseconds() + 10_000_000) != nil)
    switch cause {
    case .signal: source.terminate("told to end")
    case .badPacket: try source.send(bytes: [1, 2, 3])
    }
    let ending = source.ending()
    #expect(ending?.status == 1)
    if cause == .signal { #expect(ending?.words == "told to end in quiescing: 0000:00:00.0 pre-copy-p2p") }
    #expect(throws: TestVMM.Gone.self) { try source.wait { _ in false } }
    let arcs = source.events.compactMap { event -> MigrationState? in
      if case .arc(1, _, let to, error: nil, _) = event { to } else { nil }
    }
    #expect(arcs == [.preCopy, .preCopyP2P])
  }

  @Test("devices are let go of within a second, also in the middle of a move, and no descriptor stays")
  func removal() async {
    await #expect(processExitsWith: .success) { try Self.removesAndCounts() }
  }

  private static func removesAndCounts() throws {
    let runs = 8
    try removes()
    let before = descriptors()
    for _ in 0..<runs { try removes() }
    // Threads are left to end by themselves, and the runtime opens something of its own now and then; what each run leaks
    // stays.
    for _ in 0..<500 where descriptors() >= before + runs { Pause.milliseconds(10) }
    #expect(descriptors() < before + runs)
  }

  private static func descriptors() -> Int { Files.names(in: "/proc/self/fd").count }

  private static func removes() throws {
    let here = [device(0), device(1)]
    let (near, _) = try pipeToNowhere()
    let source = try source(at: .quiesced, here, near)
    let began = monotonicMicroseconds()
    #expect(try source.ask(.removeDevice(1)) == .done)
    #expect(monotonicMicroseconds() - began < 1_000_000)
    #expect(here.allSatisfy { $0.state == .running })
    guard case .failure(let failure) = try source.ask(.describe(device: 1)) else {
      Issue.record("it is still there")
      return
    }
    #expect(failure.code == .noSuch)
    source.hangUp()
    #expect(source.ending()?.status == 0)
  }

  @Test("what a VMM sent before it went is read, though nobody hears the replies; that it is gone is said once")
  func gone() throws {
    let hello = HelperRequest.hello(major: 1, minor: 0, features: [], version: "test").packet(number: 1)
    let question = HelperRequest.describe(device: 1).packet(number: 2)
    let hungUp = try TestVMM.afterwards([hello, question, question])
    #expect(hungUp.0 == HelperServer.Ending(status: 0, words: nil))
    #expect(hungUp.log == [])
    // The last of them is not a packet of the protocol, and only who reads so far knows.
    let broken = try TestVMM.afterwards([hello, question, [1, 2, 3]])
    #expect(broken.0.status == 1)
    #expect(broken.log == [])
  }

  /// A file for a stream that nobody reads.
  static func pipeToNowhere() throws -> (SentFile, SentFile) {
    let file = SentFile(try Descriptor.inMemory(name: "a stream"))
    return (file, file)
  }
}
