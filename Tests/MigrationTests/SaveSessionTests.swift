// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@Suite("The source, step by step")
struct SaveSessionTests {
  /// One device in pre-copy, with its first reads under way.
  static func inPreCopy(awaitsAnswers: Bool = false, devices: Int = 1) -> SessionBench<SaveSession> {
    var configuration = SaveSession.Configuration()
    configuration.awaitsAnswers = awaitsAnswers
    configuration.pace.interval = 1000
    var bench = SessionBench(
      SaveSession(devices: (0..<devices).map { sessionDevice($0) }, configuration: configuration))
    bench.obey(devices: devices) { _, request in request == .preCopyInfo }
    return bench
  }

  static func info(_ initial: UInt64, _ dirty: UInt64) -> Result<ControlAnswer, DeviceError> {
    .success(.preCopyInfo(PreCopyInfo(initialBytes: initial, dirtyBytes: dirty)))
  }

  @Test("initial data counts as sent only when the reads that brought it have come in")
  func markAfterReads() throws {
    var bench = Self.inPreCopy()
    let read = bench.takeRead(0)
    let first = try #require(read)
    // The device gave the rest of its initial data to this read, and then told so to another thread, which was faster.
    bench.answer(0, Self.info(0, 5 << 20))
    #expect(!bench.sent.contains(.initialComplete))
    while let buffer = bench.takeRead(0) { bench.handle(.read(device: 0, buffer: buffer, .success(.end))) }
    bench.handle(.read(device: 0, buffer: first, .success(.bytes(100))))
    let sent = bench.sent
    let data = try #require(sent.firstIndex(of: .deviceData))
    let mark = try #require(sent.firstIndex(of: .initialComplete))
    #expect(data < mark)
  }

  @Test("an answer to initial data that has become void does not count for what was sent since")
  func staleAnswer() throws {
    var bench = Self.inPreCopy(awaitsAnswers: true)
    func drain() {
      while let buffer = bench.takeRead(0) { bench.handle(.read(device: 0, buffer: buffer, .success(.end))) }
    }
    drain()
    bench.answer(0, Self.info(0, 0))
    #expect(bench.sent.filter { $0 == .initialComplete }.count == 1)
    // The guest resets the device; it is found in RUNNING and enters pre-copy again.
    bench.pass(1000)
    bench.handle(.time)
    bench.answer(0, .failure(DeviceError(.preCopyInfo, .errno(.noDevice))))
    #expect(bench.answer(0, .success(.state(.running))) == .readState)
    #expect(bench.answer(0) == .setState(.preCopy))
    drain()
    bench.answer(0, Self.info(0, 0))
    #expect(bench.sent.filter { $0 == .initialComplete }.count == 2)
    #expect(bench.sent.filter { $0 == .void }.count == 1)
    bench.handle(.received(buffer: nil, .initialLoaded(device: 0)))
    #expect(bench.request(0) != .setState(.preCopyP2P))
    bench.handle(.received(buffer: nil, .initialLoaded(device: 0)))
    #expect(bench.request(0) == .setState(.preCopyP2P))
  }

  @Test("answers about devices that there are not, or that were not asked for, change nothing")
  func oddAnswers() {
    var bench = Self.inPreCopy(awaitsAnswers: true)
    bench.handle(.received(buffer: nil, .initialLoaded(device: 7)))
    bench.handle(.received(buffer: nil, .initialLoaded(device: 0)))
    bench.handle(.received(buffer: nil, .skipped(type: 70)))
    while let buffer = bench.takeRead(0) { bench.handle(.read(device: 0, buffer: buffer, .success(.end))) }
    bench.answer(0, Self.info(0, 0))
    #expect(bench.request(0) == nil)
    bench.handle(.received(buffer: nil, .initialLoaded(device: 0)))
    #expect(bench.request(0) == .setState(.preCopyP2P))
  }

  @Test("no time is asked for that nothing would come of")
  func deadlines() {
    var bench = Self.inPreCopy(devices: 2)
    while let buffer = bench.takeRead(0) { bench.handle(.read(device: 0, buffer: buffer, .success(.end))) }
    // One device has answered, and is due again; the other's question hangs.
    bench.answer(0, Self.info(1000, 5 << 20))
    bench.pass(2000)
    bench.handle(.time)
    bench.handle(.interrupt(reason: "a test"))
    bench.answer(0, Self.info(1000, 5 << 20))
    bench.pass(6_000_000)
    bench.handle(.time)
    #expect(bench.machine.deadline.map { $0 > bench.now } ?? true)
    #expect(bench.machine.outcome == nil)
    bench.handle(.interrupt(reason: "a test"))
    bench.obey(devices: 2)
    while let buffer = bench.takeRead(1) { bench.handle(.read(device: 1, buffer: buffer, .success(.end))) }
    while let buffer = bench.takeRead(0) { bench.handle(.read(device: 0, buffer: buffer, .success(.end))) }
    #expect(bench.machine.outcome?.fault == .interrupted("a test"))
    #expect(bench.machine.outcome?.devices.map(\.isHung) == [false, true])
  }

  @Test("a driver that opens no data session where it must is a fault, not a wait without end")
  func noDescriptor() {
    for preCopy in [true, false] {
      var configuration = SaveSession.Configuration()
      configuration.preCopy = preCopy
      var bench = SessionBench(SaveSession(devices: [sessionDevice(0)], configuration: configuration))
      let opening = ControlRequest.setState(preCopy ? .preCopy : .stopCopy)
      bench.obey(devices: 1) { $1 == opening }
      bench.answer(0, .success(.moved(openedData: false)))
      bench.obey(devices: 1)
      let target: MigrationState = preCopy ? .preCopy : .stopCopy
      #expect(bench.machine.outcome?.fault == .device(0, DeviceError(.setState(target), .noDataDescriptor)))
      #expect(bench.machine.outcome?.devices[0].state == .running)
    }
  }

  /// A session whose whole stream was handed to the channel.
  static func finishing() throws -> SessionBench<SaveSession> {
    var configuration = SaveSession.Configuration()
    configuration.preCopy = false
    configuration.awaitsAnswers = true
    var bench = SessionBench(SaveSession(devices: [sessionDevice(0)], configuration: configuration))
    bench.obey(devices: 1)
    while let buffer = bench.takeRead(0) { bench.handle(.read(device: 0, buffer: buffer, .success(.end))) }
    #expect(bench.wants(.finishChannel))
    bench.confirmSends()
    return bench
  }

  static let endOfAnswers = StreamError(.incomplete, place: "frame 0", offset: 24)

  @Test("a destination that is done, and gone, is no fault")
  func destinationGone() throws {
    var early = try Self.finishing()
    early.handle(.streamFailed(Self.endOfAnswers))
    early.handle(.channelFinished)
    early.obey(devices: 1)
    #expect(early.machine.outcome?.fault == nil && early.machine.outcome != nil)
    #expect(early.machine.isStreamComplete)
    var late = try Self.finishing()
    late.handle(.channelFinished)
    late.handle(.channelFailed(ChannelError("reading", channel: "c", errno: ErrorNumber(rawValue: 104))))
    late.obey(devices: 1)
    #expect(late.machine.outcome?.fault == nil && late.machine.outcome != nil)
  }

  @Test("a channel that can't be finished is a fault, and the devices go back")
  func finishFails() throws {
    var bench = try Self.finishing()
    let error = ChannelError("finishing", channel: "c", errno: .inputOutput)
    bench.handle(.channelFailed(error))
    bench.obey(devices: 1)
    #expect(bench.machine.outcome?.fault == .channel(error))
    #expect(bench.machine.outcome?.devices[0].state == .running)
    #expect(!bench.machine.isStreamComplete)
  }

  @Test("a read that outlives its session is given up by the second interrupt, and the device is reported")
  func readHangs() throws {
    var bench = Self.inPreCopy()
    _ = bench.takeRead(0)
    bench.handle(.interrupt(reason: "a test"))
    bench.obey(devices: 1)
    while let buffer = bench.takeRead(0) {
      bench.handle(.read(device: 0, buffer: buffer, .failure(DeviceError(.readData, .errno(.noDevice)))))
    }
    #expect(bench.machine.outcome == nil)
    bench.handle(.interrupt(reason: "again"))
    #expect(bench.machine.outcome?.devices[0].isHung == true)
    #expect(bench.machine.outcome?.fault == .interrupted("a test"))
  }

  @Test("a fault does not wait for a channel that nobody reads from")
  func stuckChannel() {
    var bench = Self.inPreCopy()
    if let buffer = bench.takeRead(0) { bench.handle(.read(device: 0, buffer: buffer, .success(.bytes(10)))) }
    bench.handle(.interrupt(reason: "a test"))
    bench.obey(devices: 1)
    while let buffer = bench.takeRead(0) { bench.handle(.read(device: 0, buffer: buffer, .success(.end))) }
    #expect(bench.sent.contains(.deviceData))
    #expect(bench.machine.outcome?.fault == .interrupted("a test"))
  }

  @Test("devices that can't be saved are refused by name, with the reason")
  func refusals() {
    #expect(SaveSession.refusal(devices: [sessionDevice(0), sessionDevice(1, state: .stop)]) == nil)
    #expect(SaveSession.refusal(devices: [sessionDevice(0, [])])?.contains("device0 can't be migrated") == true)
    #expect(SaveSession.refusal(devices: [sessionDevice(0, state: .error)])?.contains("only a reset") == true)
    for state in [MigrationState.preCopy, .preCopyP2P, .stopCopy, .resuming] {
      #expect(SaveSession.refusal(devices: [sessionDevice(0, state: state)])?.contains("somebody is migrating") == true)
    }
    var long = sessionDevice(0)
    long.vmmState = [UInt8](repeating: 0, count: StreamFormat.maximumDataSize + 1)
    #expect(SaveSession.refusal(devices: [long])?.contains("device0 is longer") == true)
    var odd = sessionDevice(0)
    odd.name = "device\n"
    #expect(SaveSession.refusal(devices: [odd])?.contains("printable") == true)
  }
}
