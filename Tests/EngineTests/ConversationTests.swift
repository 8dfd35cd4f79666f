// SPDX-License-Identifier: Apache-2.0
import Engine
import FakeDevices
import Glibc
import LinuxIO
import Migration
import Synchronization
import Testing
import Transport

/// A source and a destination that talk over a socket, and peers that are no good.
@Suite("Source and destination over a socket", .serialized)
struct ConversationTests {
  /// A side that is gone is written to.
  init() { Signals.ignoreBrokenPipes() }

  private static let features: MigrationFeatures = [.stopCopy, .p2p, .preCopy]
  private static let image = [UInt8]((0..<5000).map { UInt8($0 % 251) })

  private static func device(_ image: [UInt8], _ script: Script = Script()) -> FakeDevice {
    FakeDevice("/dev/fake0", features: features, image: image, script: script)
  }

  private static func described(_ devices: [FakeDevice]) -> [SessionDevice] {
    devices.enumerated().map {
      SessionDevice(name: "device\($0)", driver: "fake", features: features, state: $1.state)
    }
  }

  private static func saveSession(_ devices: [FakeDevice]) throws -> SaveSession {
    var configuration = SaveSession.Configuration()
    configuration.awaitsAnswers = true
    configuration.commits = true
    configuration.quiescing.vcpusAreStopped = true
    let described = described(devices)
    let plan = try QuiescePlan(devices: described, reachability: .assumed(count: devices.count))
    return SaveSession(devices: described, plan: plan, configuration: configuration)
  }

  private static func loadSession(_ devices: [FakeDevice]) throws -> LoadSession {
    var configuration = LoadSession.Configuration()
    configuration.answers = true
    configuration.quiescing.vcpusAreStopped = true
    let described = described(devices)
    let plan = try QuiescePlan(devices: described, reachability: .assumed(count: devices.count))
    return LoadSession(devices: described, plan: plan, configuration: configuration)
  }

  /// Two ends of a TCP connection.
  private static func pair() throws -> (any ConnectedChannel, any ConnectedChannel) {
    let waiting = try RendezvousTests.Waiting("tcp:127.0.0.1:0")
    let here = try RendezvousTests.caller(try #require(waiting.next())).call()
    // Whoever waits is served when it hears the first byte; the stream's own has to come first, so it is read by nobody
    // else.
    try here.write([0].span, Span())
    let there = try waiting.end()
    #expect(try RendezvousTests.read(there) == [0])
    return (here, there)
  }

  /// A session in a thread of its own.
  private final class Running<Machine: SessionMachine>: Sendable {
    private let thread: BlockingThread

    private final class Box: Sendable { let machine = Mutex<Machine?>(nil) }
    private let box: Box

    init(_ machine: Machine, _ devices: [FakeDevice], _ channel: any ConnectedChannel, lingers: Bool = true) throws {
      let runner = try SessionRunner(devices: devices, channel: channel, checksum: .xxh3, buffers: 8)
      let box = Box()
      self.box = box
      thread = try BlockingThread(name: "session") {
        let ended = try? runner.run(machine)
        channel.hangUp(within: lingers && ended?.outcome?.fault != nil ? 60_000_000 : 0)
        box.machine.withLock { $0 = ended }
      }
    }

    func outcome() throws -> SessionOutcome {
      thread.join()
      return try #require(box.machine.withLock { $0 }?.outcome)
    }
  }

  @Test("a move: every byte arrives, the destination runs, the source is stopped, and both say so")
  func move() throws {
    let (here, there) = try Self.pair()
    let (source, target) = (Self.device(Self.image), Self.device([]))
    let load = try Running(try Self.loadSession([target]), [target], there)
    let save = try Running(try Self.saveSession([source]), [source], here)
    let (saved, loaded) = (try save.outcome(), try load.outcome())
    #expect(saved.fault == nil && saved.commitment == .complete && source.state == .stop)
    #expect(loaded.fault == nil && loaded.commitment == .complete && target.state == .running)
    #expect(target.image == Self.image)
  }

  @Test("a destination whose devices do not fit says why, and the source goes back and says it too")
  func mismatch() throws {
    let (here, there) = try Self.pair()
    let source = Self.device(Self.image)
    let targets = [Self.device([1]), Self.device([2])]
    let load = try Running(try Self.loadSession(targets), targets, there)
    let save = try Running(try Self.saveSession([source]), [source], here)
    let (saved, loaded) = (try save.outcome(), try load.outcome())
    guard case .mismatch(let reason) = loaded.fault else {
      Issue.record("\(loaded)")
      return
    }
    #expect(saved.fault == .givenUp(StreamReason(reason)) && saved.commitment == .none)
    #expect(source.state == .running && source.image == Self.image)
    #expect(targets.map(\.image) == [[1], [2]] && targets.allSatisfy { $0.contents.withLock { $0.resets } == 0 })
  }

  @Test("whichever call fails at the destination before the commit, the source hears of it and has its devices back")
  func destinationFails() throws {
    var number = 0
    var told = 0
    while true {
      number += 1
      let (here, there) = try Self.pair()
      let script = Script(at: number, .fail(.inputOutput, leaves: .old))
      let (source, target) = (Self.device(Self.image), Self.device([], script))
      let load = try Running(try Self.loadSession([target]), [target], there)
      let save = try Running(try Self.saveSession([source]), [source], here)
      let (saved, loaded) = (try save.outcome(), try load.outcome())
      guard script.failed.withLock({ $0 }) != nil else { break }
      if loaded.commitment == .none {
        #expect(saved.commitment == .none && source.state == .running, "call \(number): \(saved)")
        guard case .givenUp(let reason) = saved.fault else {
          Issue.record("call \(number): \(saved)")
          continue
        }
        #expect("\(reason)".hasPrefix("device0: "), "\(reason)")
        told += 1
      } else {
        #expect(saved.commitment != .none && source.state == .stop, "call \(number): \(saved)")
      }
    }
    #expect(told > 5)
  }

  @Test("before a session has begun a source can be told that there will be none")
  func refusal() throws {
    let (here, there) = try Self.pair()
    let source = Self.device(Self.image)
    let save = try Running(try Self.saveSession([source]), [source], here)
    try there.giveUp(StreamReason("no room\u{1b}[2J\nfor \u{e9}"), checksum: .xxh3)
    there.hangUp(within: 60_000_000)
    let saved = try save.outcome()
    guard case .givenUp(let reason) = saved.fault else {
      Issue.record("\(saved)")
      return
    }
    // It is printed on a terminal, whoever sent it.
    #expect("\(reason)" == "no room?[2J?for ??")
    #expect(source.state == .running)
  }

  /// What a peer sends that knows no better, or too well.
  private static let garbage: [(String, [UInt8])] = {
    let preamble = StreamFormat.preamble(checksum: .xxh3)
    func frame(_ type: FrameType, length: Int) -> [UInt8] {
      FrameHeader(type: type, sequence: 0, length: length).encoded(payload: Span(), checksum: .xxh3)
    }
    return [
      ("a web browser", Array("GET / HTTP/1.1\r\nHost: example\r\n\r\n".utf8)), ("nothing", []), ("one byte", [0x89]),
      ("zeros", [UInt8](repeating: 0, count: 4096)), ("a preamble alone", preamble),
      ("a frame of 4 GiB", preamble + frame(.manifest, length: 0xffff_ffff)),
      ("a manifest that does not come", preamble + frame(.manifest, length: 4 << 20)),
      ("data before anything", preamble + frame(.deviceData, length: 1 << 20)),
      ("running before its time", preamble + frame(.running, length: 0)),
      ("a commit before its time", preamble + frame(.commit, length: 0)),
    ]
  }()

  @Test("a peer that sends garbage and hangs up costs one move, and every device is back where it was")
  func garbage() throws {
    for (what, bytes) in Self.garbage {
      for isSource in [true, false] {
        let (here, there) = try Self.pair()
        let device = Self.device(Self.image)
        let outcome: () throws -> SessionOutcome
        if isSource {
          let running = try Running(try Self.saveSession([device]), [device], here, lingers: false)
          outcome = { try running.outcome() }
        } else {
          let running = try Running(try Self.loadSession([device]), [device], here, lingers: false)
          outcome = { try running.outcome() }
        }
        if !bytes.isEmpty { try there.write(bytes.span, Span()) }
        there.hangUp(within: 60_000_000)
        let ended = try outcome()
        #expect(ended.fault != nil && ended.commitment == .none, "\(what): \(ended)")
        #expect(device.state == .running && device.image == Self.image, "\(what)")
      }
    }
  }

  @Test("a peer that is gone between commit and running leaves the source stopped, and the source says that it may run")
  func lostAfterCommit() throws {
    let (here, there) = try Self.pair()
    let source = Self.device(Self.image)
    let save = try Running(try Self.saveSession([source]), [source], here)
    var frames = FrameSource(channel: there, checksum: .xxh3)
    let buffer = try TransferBuffer(count: StreamFormat.maximumDataSize)
    var sequence: UInt64 = 0
    func say(_ type: FrameType, device: Int? = nil) throws {
      let start = sequence == 0 ? StreamFormat.preamble(checksum: .xxh3) : []
      let header = FrameHeader(type: type, device: device, sequence: sequence, length: 0)
      try there.write(start.span, header.encoded(payload: Span(), checksum: .xxh3).span)
      sequence += 1
    }
    while true {
      let item = try frames.next(buffer: buffer)
      if case .initialComplete(let device) = item { try say(.initialLoaded, device: device) }
      if item == .end { try say(.loaded) }
      if item == .commit { break }
    }
    there.hangUp(within: 60_000_000)
    let saved = try save.outcome()
    #expect(saved.commitment == .unanswered && saved.fault != nil && source.state == .stop, "\(saved)")
  }
}
