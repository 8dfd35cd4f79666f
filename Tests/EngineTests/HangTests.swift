// SPDX-License-Identifier: Apache-2.0
import FakeDevices
import LinuxIO
import Migration
import Synchronization
import Testing
import Transport

@testable import Engine

@Suite("A device that does not answer")
struct HangTests {
  /// Waits in one arc until it is let go.
  private final class StuckDevice: MigratableDevice {
    private let device: FakeDevice
    private let arc: MigrationState
    let release = BlockingQueue<Void>()
    /// Told of every arc that was made.
    let arcs = BlockingQueue<MigrationState>()

    init(_ device: FakeDevice, in arc: MigrationState) {
      self.device = device
      self.arc = arc
    }

    var name: DeviceName { device.name }
    func migrationFeatures() throws(DeviceError) -> MigrationFeatures { try device.migrationFeatures() }
    func migrationState() throws(DeviceError) -> MigrationState { try device.migrationState() }
    func stopCopySize() throws(DeviceError) -> UInt64? { try device.stopCopySize() }
    func flush() throws(DeviceError) { try device.flush() }
    func reset() throws(DeviceError) { try device.reset() }
    func setMigrationState(_ state: MigrationState) throws(DeviceError) -> (any MigrationData)? {
      if state == arc { _ = release.take() }
      defer { arcs.put(state) }
      return try device.setMigrationState(state)
    }
  }

  @Test(
    "the others do the same step meanwhile, and a second interrupt ends the session without it",
    arguments: [MigrationState.preCopyP2P, .stopCopy])
  func hangs(arc: MigrationState) throws {
    let script = Script()
    let devices = (0..<6).map { index in
      FakeDevice(
        "/dev/fake\(index)", features: [.stopCopy, .p2p, .preCopy], image: [UInt8](repeating: 1, count: 3000),
        script: script)
    }
    // The first: whoever takes its job is lost for those of the others.
    let stuck = StuckDevice(devices[0], in: arc)
    let described = devices.map {
      SessionDevice(name: "\($0.name)", driver: "fake", features: $0.graph.features, state: $0.state)
    }
    var configuration = SaveSession.Configuration()
    configuration.quiescing.vcpusAreStopped = true
    configuration.quiescing.stepLimit = 20_000
    let session = SaveSession(
      devices: described, plan: try QuiescePlan(devices: described, reachability: .assumed(count: devices.count)),
      configuration: configuration)
    let runner = try SessionRunner(
      devices: [stuck as any MigratableDevice] + devices.dropFirst().map { $0 as any MigratableDevice },
      channel: DescriptorChannel(owning: Descriptor.inMemory(name: "stream")),
      checksum: .xxh3, buffers: configuration.buffers)
    let notes = Mutex<[SessionNote]>([])
    let ended = try runner.run(
      session,
      observer: SessionRunner.Observer(note: { note, _ in
        notes.withLock { $0.append(note) }
        guard case .hung(0, .setState(arc), _) = note else { return }
        runner.interrupt(reason: "a test")
        runner.interrupt(reason: "a test")
      }))
    let outcome = try #require(ended.outcome)
    #expect(outcome.fault == .interrupted("a test"))
    #expect(outcome.devices.map(\.isHung) == [true] + Array(repeating: false, count: 5))
    #expect(outcome.devices.dropFirst().allSatisfy { $0.state == .running })
    #expect(devices.dropFirst().allSatisfy { $0.state == .running })
    let made = notes.withLock { notes in
      notes.compactMap { note -> Int? in
        guard case .arc(let report) = note, report.to == arc, report.error == nil else { return nil }
        return report.device
      }
    }
    #expect(Set(made) == Set(1..<6), "the others made that arc while one hung in it")
    // Nothing else is asked of the device when it comes back.
    while stuck.arcs.take(until: 0) != nil {}
    stuck.release.put(())
    #expect(stuck.arcs.take() == arc)
    #expect(stuck.arcs.take(until: 0) == nil)
  }
}
