// SPDX-License-Identifier: Apache-2.0
import FakeDevices
import Foundation
import LinuxIO
import Migration
import Testing

@testable import Helper

/// A device of which a test knows when it is asked to change its state.
final class WatchedDevice: MigratableDevice {
  private let device: FakeDevice
  private let before: @Sendable (MigrationState) -> Void

  init(_ device: FakeDevice, before: @escaping @Sendable (MigrationState) -> Void) {
    self.device = device
    self.before = before
  }

  var name: DeviceName { device.name }
  func migrationFeatures() throws(DeviceError) -> MigrationFeatures { try device.migrationFeatures() }
  func migrationState() throws(DeviceError) -> MigrationState { try device.migrationState() }
  func setMigrationState(_ state: MigrationState) throws(DeviceError) -> (any MigrationData)? {
    before(state)
    return try device.setMigrationState(state)
  }
  func stopCopySize() throws(DeviceError) -> UInt64? { try device.stopCopySize() }
  func flush() throws(DeviceError) { try device.flush() }
  func reset() throws(DeviceError) { try device.reset() }
}

@Suite("Nothing moves for a guest that is gone")
struct DeviceGateTests {
  private static func device(_ index: Int) -> FakeDevice {
    FakeDevice(
      "0000:00:0\(index).0", features: [.stopCopy, .p2p, .preCopy], image: [UInt8](repeating: 7, count: 10_000),
      script: Script())
  }

  @Test("behind a shut gate a device is looked at, and neither moved nor reset")
  func shut() throws {
    let fake = Self.device(0)
    let gate = DeviceGate()
    let device = GatedDevice(fake, behind: gate)
    _ = try device.setMigrationState(.stop)
    gate.shut()
    #expect(throws: DeviceError(.setState(.running), .notAsked)) { _ = try device.setMigrationState(.running) }
    #expect(throws: DeviceError(.reset, .notAsked)) { try device.reset() }
    #expect(try device.migrationState() == .stop && fake.image.count == 10_000)
    #expect(try device.stopCopySize() == 10_000)
  }

  /// What a VMM has its devices run again by.
  enum Way: CaseIterable { case abortStopped, abortComplete, resumeLoaded }

  @Test(
    "a VMM that dies in the middle of the way to running: the call that is under way is the last",
    arguments: Way.allCases)
  func hangUp(way: Way) throws {
    // The first device is held up where it is first asked to go there.
    let arrived = BlockingQueue<MigrationState>()
    let released = BlockingQueue<Void>()
    let isArmed = Flag()
    let fakes = [Self.device(0), Self.device(1)]
    let watched = WatchedDevice(fakes[0]) { state in
      guard isArmed.take() else { return }
      arrived.put(state)
      _ = released.take()
    }
    let over = BlockingQueue<Void>()
    let vmm = try Self.vmm([watched, fakes[1]], beforeGoing: way) { over.put(()) }
    isArmed.set()
    _ = try vmm.send(way == .resumeLoaded ? .resume : .abort)
    let target = try #require(arrived.take(until: monotonicMicroseconds() + 10_000_000))
    vmm.hangUp()
    let ending = vmm.ending()
    #expect(ending?.status == 1 && ending?.words?.contains("0000:00:01.0") == true, "\(ending?.words ?? "it goes on")")
    released.put(())
    try #require(over.take(until: monotonicMicroseconds() + 10_000_000) != nil)
    #expect(fakes[0].state == target && target != .running)
    #expect(fakes[1].state != .running)
  }

  private static func vmm(
    _ devices: [any MigratableDevice], beforeGoing way: Way, over: @escaping @Sendable () -> Void
  ) throws -> TestVMM {
    switch way {
    case .abortStopped:
      return try HelperServerTests.source(at: .quiesced, devices, HelperServerTests.pipeToNowhere().0, over: over)
    case .abortComplete:
      return try HelperServerTests.source(at: .complete, devices, HelperServerTests.pipeToNowhere().0, over: over)
    case .resumeLoaded:
      let (near, far) = try HelperServerTests.streamPair()
      let destination = try HelperServerTests.vmm(devices, over: over)
      #expect(try destination.ask(.beginLoad(HelperSessionBench.load), far) == .done)
      let source = try HelperServerTests.source(at: .complete, [device(0), device(1)], near)
      try destination.wait(for: HelperServerTests.isLoaded)
      source.hangUp()
      return destination
    }
  }
}

/// Set once, taken once.
final class Flag: Sendable {
  private let queue = BlockingQueue<Void>()
  func set() { queue.put(()) }
  func take() -> Bool { queue.take(until: 0) != nil }
}
