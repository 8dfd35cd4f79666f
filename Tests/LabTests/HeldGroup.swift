// SPDX-License-Identifier: Apache-2.0
import Engine
import LinuxIO
import Migration
import Testing
import Transport
import VFIO

/// A group that this process holds and moves itself, with the command's engine but without the command: a session takes
/// milliseconds, and its outcome and reports can be looked at.
final class HeldGroup {
  let peers: PeerGroup
  let plan: QuiescePlan
  private(set) var devices: [KernelDevice] = []
  private static let activity = "peers state"

  init(
    _ name: String, _ shape: GroupShape, isActive: Bool = true,
    _ settings: KeyValuePairs<String, String> = ["arc_time": "all 200", "state_rate": "500"]
  ) throws {
    let peers = try PeerGroup(name, shape, settings)
    self.peers = peers
    do {
      plan = try QuiescePlan(
        devices: zip(peers.devices, shape.features).map { .init(name: $0.name, features: $1) },
        reachability: shape.reachability)
      for device in peers.devices { devices.append(try device.open()) }
      guard isActive else { return }
      for device in peers.devices { try device.set("activity", Self.activity) }
      try peers.getAcquainted()
    } catch {
      devices = []
      peers.remove()
      throw error
    }
  }

  func remove() {
    devices = []
    peers.remove()
  }

  /// Empties a device, as its VMM would, and has its guest's driver start it.
  func restart(_ index: Int) throws {
    try devices[index].reset()
    try start(index)
  }

  func start(_ index: Int) throws { try peers.devices[index].set("activity", Self.activity) }

  /// The devices as a session is told of them.
  func described() throws -> [SessionDevice] {
    try zip(peers.devices, devices).map { synthetic, device in
      SessionDevice(
        name: synthetic.name, driver: "vfio-synthetic", features: try device.migrationFeatures(),
        state: try device.migrationState())
    }
  }

  /// Where the kernel says that the devices are. Waits for arcs that are on their way.
  func states() throws -> [MigrationState?] { try peers.devices.map { try $0.state } }

  /// Whether the devices run, all of them.
  var isRunning: Bool {
    get throws { try states().allSatisfy { $0 == .running } }
  }

  // MARK: Sessions

  func saveSession(_ change: (inout SaveSession.Configuration) -> Void = { _ in }) throws -> SaveSession {
    var configuration = SaveSession.Configuration()
    configuration.buffers = devices.count
    configuration.quiescing.vcpusAreStopped = true
    change(&configuration)
    return SaveSession(devices: try described(), plan: plan, configuration: configuration)
  }

  func loadSession(_ change: (inout LoadSession.Configuration) -> Void = { _ in }) throws -> LoadSession {
    var configuration = LoadSession.Configuration()
    configuration.buffers = devices.count
    configuration.quiescing.vcpusAreStopped = true
    change(&configuration)
    return LoadSession(devices: try described(), plan: plan, configuration: configuration)
  }

  /// Runs a session over a stream from its beginning.
  func run<Machine: SessionMachine>(
    _ session: Machine, _ stream: Stream, note: @escaping @Sendable (SessionRunner, SessionNote) -> Void = { _, _ in }
  ) throws -> (session: Machine, outcome: SessionOutcome) {
    let runner = try runner(stream)
    let ended = try runner.run(session, observer: .init(note: { what, _ in note(runner, what) }))
    return (ended, try #require(ended.outcome))
  }

  func runner(_ stream: Stream) throws -> SessionRunner {
    try SessionRunner(devices: devices, channel: try stream.channel(), checksum: .xxh3, buffers: devices.count)
  }

  /// A stream of this group, which runs on.
  func saved() throws -> Stream {
    let stream = try Stream()
    let ended = try run(try saveSession(), stream)
    try #require(ended.outcome.fault == nil, "\(ended.outcome)")
    return stream
  }

  // MARK: Judging

  /// Holds a session's outcome against what the kernel says of every device: each is where it is said to be, and nothing
  /// was written to one that was stopped.
  func check(_ outcome: SessionOutcome, _ place: Comment) throws {
    for (synthetic, device) in zip(peers.devices, outcome.devices) where !device.isHung {
      let state = try synthetic.state
      let referee = try synthetic.referee
      #expect(device.state == state, place)
      #expect(device.wasReset == (referee["resets"] > 0), place)
      #expect(referee.violations == 0, place)
    }
  }

  /// Writes still arrive, and nothing has happened that must not.
  func checkWrites(except expected: Set<String> = [], _ place: Comment) throws {
    try peers.waitUntilReceived(5)
    for (index, referee) in try peers.referees().enumerated() {
      #expect(referee.complaints(except: expected) == [], "device \(index): \(place)")
    }
  }
}

/// A stream in memory, to be written from its beginning and read from there.
final class Stream {
  private let file: Descriptor

  init() throws { file = try Descriptor.inMemory(name: "stream") }

  func channel() throws -> DescriptorChannel {
    #expect(file.seek(to: 0) == 0)
    return try DescriptorChannel(owning: file.duplicate())
  }
}
