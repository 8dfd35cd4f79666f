// SPDX-License-Identifier: Apache-2.0
import FakeDevices
import Foundation
import LinuxIO
import Migration
import Synchronization
import Testing
import Transport

@testable import Engine

/// Every call of a save and of a load made to fail in turn, on threads and real descriptors.
@Suite(.serialized)
struct FaultTests {
  static let images = [[UInt8]((0..<5000).map { UInt8($0 % 251) }), [UInt8]((0..<3000).map { UInt8($0 % 241) })]
  static let features: [MigrationFeatures] = [[.stopCopy, .p2p, .preCopy], [.stopCopy, .p2p]]

  /// The descriptors that these tests and the engine open: nameless files, and what ends waits. Other suites run at the
  /// same time and have others.
  private func descriptors() -> Int {
    Files.names(in: "/proc/self/fd").count { number in
      let target = Files.link("/proc/self/fd/\(number)") ?? ""
      return target.hasPrefix("/var/tmp/#") || target == "anon_inode:[eventfd]"
    }
  }

  private func devices(_ script: Script, images: [[UInt8]]) -> [FakeDevice] {
    zip(images, Self.features).enumerated().map { index, pair in
      FakeDevice("/dev/fake\(index)", features: pair.1, image: pair.0, script: script)
    }
  }

  private func described(_ devices: [FakeDevice]) -> [SessionDevice] {
    devices.map { SessionDevice(name: "\($0.name)", driver: "fake", features: $0.graph.features, state: $0.state) }
  }

  private func saveSession(_ devices: [SessionDevice]) throws -> SaveSession {
    var configuration = SaveSession.Configuration()
    configuration.quiescing = Self.quiescing
    return SaveSession(devices: devices, plan: try plan(devices), configuration: configuration)
  }

  private func loadSession(_ devices: [SessionDevice]) throws -> LoadSession {
    var configuration = LoadSession.Configuration()
    configuration.quiescing = Self.quiescing
    return LoadSession(devices: devices, plan: try plan(devices), configuration: configuration)
  }

  /// With every kind of request that there is.
  private static let quiescing: QuiesceConfiguration = {
    var configuration = QuiesceConfiguration()
    configuration.vcpusAreStopped = true
    configuration.flushes = true
    return configuration
  }()

  private func plan(_ devices: [SessionDevice]) throws -> QuiescePlan {
    try QuiescePlan(devices: devices, reachability: .assumed(count: devices.count))
  }

  private func run<Machine: SessionMachine>(
    _ machine: Machine, _ devices: [FakeDevice], _ channel: any Channel, _ script: Script
  ) throws -> SessionOutcome {
    let runner = try SessionRunner(devices: devices, channel: channel, checksum: .xxh3, buffers: 8)
    script.interrupt.withLock { $0 = { runner.interrupt(reason: "a test") } }
    let ended = try runner.run(machine)
    script.interrupt.withLock { $0 = nil }
    return try #require(ended.outcome)
  }

  private func save(_ devices: [FakeDevice], _ script: Script, to file: borrowing Descriptor) throws -> SessionOutcome {
    let channel = try DescriptorChannel(owning: file.duplicate())
    return try run(try saveSession(described(devices)), devices, channel, script)
  }

  private func load(_ devices: [FakeDevice], _ script: Script, from file: borrowing Descriptor) throws -> SessionOutcome
  {
    file.seek(to: 0)
    let channel = try DescriptorChannel(owning: file.duplicate())
    return try run(try loadSession(described(devices)), devices, channel, script)
  }

  /// What holds after every run, whatever went wrong in it.
  private func check(_ outcome: SessionOutcome, _ devices: [FakeDevice], _ what: String) {
    for (told, device) in zip(outcome.devices, devices) {
      #expect(
        told.state == device.state,
        "\(what): the report says \(String(describing: told.state)), it is in \(device.state)")
      #expect(told.state == .running || outcome.fault != nil, "\(what)")
      #expect(!told.isHung, "\(what)")
    }
  }

  /// The first error is the one reported: the one that the script made, and no other.
  private func expectFirst(_ number: ErrorNumber, _ outcome: SessionOutcome, _ script: Script, _ what: String) {
    let failed = script.failed.withLock { $0 }
    // The size is shown and nothing depends on it; a session of pre-copy that ends with ENODEV may be a guest's reset.
    guard let failed, failed != .stopCopySize else { return }
    let mayBeReset = [.noDevice, .invalidArgument].contains(number) && [.readData, .preCopyInfo].contains(failed)
    guard case .device(_, let error) = outcome.fault else {
      #expect(mayBeReset, "\(what): \(failed) failed, and the outcome is \(String(describing: outcome.fault))")
      return
    }
    #expect(error == DeviceError(failed, .errno(number)), "\(what)")
  }

  private func goodStream() throws -> Descriptor {
    let file = try Descriptor.temporary()
    let script = Script()
    #expect(try save(devices(script, images: Self.images), script, to: file).fault == nil)
    return file
  }

  @Test("two devices are saved and loaded through a file, and every byte arrives")
  func clean() throws {
    let file = try goodStream()
    let script = Script()
    let targets = devices(script, images: [[], []])
    let outcome = try load(targets, script, from: file)
    check(outcome, targets, "clean")
    #expect(outcome.fault == nil)
    #expect(targets.map(\.image) == Self.images)
  }

  static let numbers: [ErrorNumber] = [.inputOutput, .interrupted, .noDevice, .invalidArgument, .tooManyFiles]

  // Descriptors are counted in a process of the test's own: others open some at the same time.

  @Test(
    "each call of a save fails in turn: a defined state, the first error, no descriptor leaked",
    arguments: Script.Leaves.allCases)
  func saveFails(leaves: Script.Leaves) async {
    await #expect(processExitsWith: .success) { [leaves] in try Self().eachSaveFails(leaves) }
  }

  private func eachSaveFails(_ leaves: Script.Leaves) throws {
    let clean = Script()
    let file = try Descriptor.temporary()
    #expect(try save(devices(clean, images: Self.images), clean, to: file).fault == nil)
    // Threads make the number of calls vary a little: some rounds beyond the last call fail nothing.
    for call in 1...(clean.calls + 4) {
      let number = Self.numbers[call % Self.numbers.count]
      let before = descriptors()
      do {
        let script = Script(at: call, .fail(number, leaves: leaves))
        let sources = devices(script, images: Self.images)
        let outcome = try save(sources, script, to: Descriptor.temporary())
        check(outcome, sources, "call \(call), \(leaves)")
        expectFirst(number, outcome, script, "call \(call), \(leaves)")
        #expect(sources.map(\.image) == Self.images || outcome.devices.contains { $0.wasReset })
        for source in sources where source.state != .running {
          #expect(source.state == .error, "call \(call), \(leaves): left in \(source.state)")
        }
      }
      #expect(descriptors() == before, "call \(call), \(leaves): descriptors leaked")
    }
  }

  @Test("each call of a load fails in turn: loaded whole, or reset and said so", arguments: Script.Leaves.allCases)
  func loadFails(leaves: Script.Leaves) async {
    await #expect(processExitsWith: .success) { [leaves] in try Self().eachLoadFails(leaves) }
  }

  private func eachLoadFails(_ leaves: Script.Leaves) throws {
    let file = try goodStream()
    let clean = Script()
    #expect(try load(devices(clean, images: [[], []]), clean, from: file).fault == nil)
    for call in 1...(clean.calls + 4) {
      let number = Self.numbers[call % Self.numbers.count]
      let before = descriptors()
      do {
        let script = Script(at: call, .fail(number, leaves: leaves))
        let targets = devices(script, images: [[], []])
        let outcome = try load(targets, script, from: file)
        check(outcome, targets, "call \(call), \(leaves)")
        expectFirst(number, outcome, script, "call \(call), \(leaves)")
        for (told, (target, image)) in zip(outcome.devices, zip(targets, Self.images)) {
          // A device runs with all of its state or with none, never with half of it.
          if told.state == .running {
            #expect(target.image == image || target.image.isEmpty, "call \(call), \(leaves)")
          }
          if told.state == .running, target.image.isEmpty { #expect(told.wasReset || outcome.fault != nil) }
        }
      }
      #expect(descriptors() == before, "call \(call), \(leaves): descriptors leaked")
    }
  }

  @Test("an interrupt at each call of a save or a load takes everything back")
  func interrupts() async {
    await #expect(processExitsWith: .success) { try Self().eachInterrupt() }
  }

  private func eachInterrupt() throws {
    let file = try goodStream()
    let clean = Script()
    #expect(try save(devices(clean, images: Self.images), clean, to: Descriptor.temporary()).fault == nil)
    for call in 1...(clean.calls + 4) {
      let before = descriptors()
      do {
        let script = Script(at: call, .interrupt)
        let sources = devices(script, images: Self.images)
        let outcome = try save(sources, script, to: Descriptor.temporary())
        check(outcome, sources, "save, call \(call)")
        #expect(sources.allSatisfy { $0.state == .running })
        #expect(sources.map(\.image) == Self.images)
      }
      do {
        let script = Script(at: call, .interrupt)
        let targets = devices(script, images: [[], []])
        let outcome = try load(targets, script, from: file)
        check(outcome, targets, "load, call \(call)")
        #expect(targets.allSatisfy { $0.state == .running })
        #expect(targets.map(\.image) == (outcome.fault == nil ? Self.images : [[], []]))
      }
      #expect(descriptors() == before, "call \(call): descriptors leaked")
    }
  }

  @Test("a guest that resets its device at any call of pre-copy does not end the save, and the stream is whole")
  func guestResets() throws {
    let clean = Script()
    #expect(try save(devices(clean, images: Self.images), clean, to: Descriptor.temporary()).fault == nil)
    for call in 1...(clean.calls + 4) {
      let file = try Descriptor.temporary()
      let script = Script(at: call, .guestReset)
      let sources = devices(script, images: Self.images)
      let outcome = try save(sources, script, to: file)
      check(outcome, sources, "call \(call)")
      #expect(outcome.fault == nil, "call \(call): \(String(describing: outcome.fault))")
      let quiet = Script()
      let targets = devices(quiet, images: [[], []])
      #expect(try load(targets, quiet, from: file).fault == nil, "call \(call)")
      #expect(targets.map(\.image) == Self.images, "call \(call)")
    }
  }

  @Test("a full disk ends a save, names the channel, and the devices run")
  func channelFails() throws {
    let script = Script()
    let sources = devices(script, images: Self.images)
    let channel = try DescriptorChannel(owning: Descriptor.open("/dev/full", O_WRONLY))
    let outcome = try run(try saveSession(described(sources)), sources, channel, script)
    guard case .channel(let error) = outcome.fault else {
      Issue.record("\(String(describing: outcome.fault))")
      return
    }
    #expect(error.channel == "/dev/full" && error.errno.name == "ENOSPC")
    #expect(sources.allSatisfy { $0.state == .running })
  }

  @Test("a reader that goes away ends a save that waits for it")
  func pipeBreaks() throws {
    Signals.ignoreBrokenPipes()
    var ends: [Int32] = [0, 0]
    try #require(unsafe pipe(&ends) == 0)
    close(ends[0])
    let script = Script()
    let sources = devices(script, images: Self.images)
    let channel = try DescriptorChannel(owning: Descriptor(owning: ends[1], subject: "a pipe"))
    let outcome = try run(try saveSession(described(sources)), sources, channel, script)
    guard case .channel(let error) = outcome.fault else {
      Issue.record("\(String(describing: outcome.fault))")
      return
    }
    #expect(error.errno.name == "EPIPE")
    #expect(sources.allSatisfy { $0.state == .running })
  }

  @Test(
    "an interrupt ends a save whose reader takes nothing, from a pipe with a name or without", arguments: [false, true])
  func stuckReader(named: Bool) throws {
    var ends: [Int32] = [0, 0]
    if named {
      let path = FileManager.default.temporaryDirectory.appendingPathComponent("fifo-\(UUID().uuidString)").path
      try #require(unsafe mkfifo(path, 0o600) == 0)
      ends[0] = unsafe open(path, O_RDONLY | O_NONBLOCK)
      ends[1] = unsafe open(path, O_WRONLY)
      unsafe unlink(path)
    } else {
      try #require(unsafe pipe(&ends) == 0)
    }
    defer { close(ends[0]) }
    // 5 MB of state do not fit into a pipe that nobody reads.
    let image = [UInt8](repeating: 7, count: 5 << 20)
    let script = Script(at: 40, .interrupt)
    let source = FakeDevice("/dev/fake", features: [.stopCopy], image: image, script: script)
    let channel = try DescriptorChannel(owning: Descriptor(owning: ends[1], subject: "a pipe"))
    let outcome = try run(try saveSession(described([source])), [source], channel, script)
    #expect(outcome.fault == .interrupted("a test"))
    #expect(source.state == .running)
  }
}
