// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing
import VFIO

/// A synthetic device, made and set by configfs: docs/synthetic-devices.md says what each setting means.
///
/// Whoever makes one removes it when nothing holds it any more: `defer { device.remove() }` before it is opened.
final class Synthetic {
  static let configuration = "/sys/kernel/config/vfio_synthetic"
  static let debug = "/sys/kernel/debug/vfio_synthetic"

  /// The two kinds of IOMMU that a device may have.
  enum IOMMU: String, CaseIterable {
    case emulated, own
  }

  /// No two have one name, so that what a failed test left behind is not met again.
  private static let made = Counter()

  let name: String
  /// `/dev/vfio/devices/vfioN`.
  let node: String

  private var folder: String { "\(Self.configuration)/\(name)" }
  private var sysfs: String { "/sys/bus/vfio-synthetic/devices/\(name)" }

  /// Makes a device with these settings and puts it on its bus.
  init(_ kind: String = "device", _ settings: KeyValuePairs<String, String> = [:]) throws {
    name = "\(kind)\(Self.made.next())"
    let folder = "\(Self.configuration)/\(name)"
    let result = unsafe mkdir(folder, 0o755)
    let error = errno
    if result != 0 { throw SystemError("making", folder, errno: error) }
    do {
      for (setting, value) in settings { try Self.write(value, to: "\(folder)/\(setting)") }
      try Self.write("1", to: "\(folder)/live")
      let child = try #require(Files.names(in: "/sys/bus/vfio-synthetic/devices/\(name)/vfio-dev").first)
      node = "/dev/vfio/devices/\(child)"
    } catch {
      unsafe rmdir(folder)
      throw error
    }
  }

  /// Takes it off its bus, which waits until nobody holds it.
  func remove() {
    let result = unsafe rmdir(folder)
    let error = errno
    if result != 0 { Issue.record("\(SystemError("removing", folder, errno: error))") }
  }

  /// The kernel takes what one write gives as the whole setting.
  private static func write(_ value: String, to path: String) throws(SystemError) {
    let file = try Descriptor.open(path, O_WRONLY)
    let bytes = Array((value + "\n").utf8)
    _ = try file.write(bytes.span)
  }

  func set(_ setting: String, _ value: String) throws(SystemError) {
    try Self.write(value, to: "\(folder)/\(setting)")
  }

  func get(_ setting: String) throws -> String { try Files.readText("\(folder)/\(setting)") }

  /// Opens it by its character device, with an iommufd of its own.
  func open() throws -> KernelDevice {
    try IOMMUFD().openDevice(node: node, name: try #require(DeviceName(node)))
  }

  /// The IOMMU group's number.
  var group: Int {
    get throws { try #require(Files.link("\(sysfs)/iommu_group").flatMap { Int(Files.lastComponent($0)) }) }
  }

  /// The state as the kernel's own debugfs reports it. Waits while an arc is on its way.
  var state: MigrationState? {
    get throws { MigrationState(name: try Lab.debugState(name)) }
  }

  /// The digest of its state, in hex.
  var digest: String {
    get throws { try Files.readText("\(Self.debug)/\(name)/digest") }
  }

  /// What the referee has seen of it.
  var referee: Referee {
    get throws { try Referee(Data(contentsOf: URL(fileURLWithPath: "\(Self.debug)/\(name)/referee.json"))) }
  }

  func resetReferee() throws { try Self.write("0", to: "\(Self.debug)/\(name)/referee") }

  private final class Counter: Sendable {
    private let lock = NSLock()
    nonisolated(unsafe) private var count = 0

    func next() -> Int {
      lock.withLock {
        unsafe count += 1
        return unsafe count
      }
    }
  }
}

/// What the referee has seen of one device.
struct Referee {
  private let entries: [String: Any]

  init(_ json: Data) throws {
    entries = try #require(try JSONSerialization.jsonObject(with: json) as? [String: Any])
  }

  init(_ entries: [String: Any]) { self.entries = entries }

  /// All devices and all groups, by name.
  static func everything() throws -> (devices: [String: Referee], groups: [String: Any]) {
    let json = try Data(contentsOf: URL(fileURLWithPath: "\(Synthetic.debug)/referee.json"))
    let object = try #require(try JSONSerialization.jsonObject(with: json) as? [String: Any])
    let devices = try #require(object["devices"] as? [String: [String: Any]])
    return (devices.mapValues { Referee($0) }, try #require(object["groups"] as? [String: Any]))
  }

  /// A counter; one that is not there is a failure, not a zero.
  subscript(counter: String) -> Int {
    guard let value = entries[counter] as? Int else {
      Issue.record("the referee has no number \(counter)")
      return -1
    }
    return value
  }

  func text(_ entry: String) -> String? { entries[entry] as? String }

  /// What must not happen between devices: arrivals where the uAPI leaves them undefined, starts in a P2P or stopped
  /// state.
  var violations: Int {
    self["peer_arrived_stop"] + self["peer_arrived_stop_copy"] + self["peer_arrived_resuming"]
      + self["peer_started_quiesced"]
  }

  /// Why a group's migration was not right; empty when it was.
  var complaints: [String] { complaints() }

  /// - Parameter expected: counters that need not be zero, because the test has seen to that.
  func complaints(except expected: Set<String> = []) -> [String] {
    let mustBeZero = [
      "peer_arrived_stop", "peer_arrived_stop_copy", "peer_arrived_resuming", "peer_arrived_error",
      "peer_arrived_closed", "peer_started_quiesced", "peer_lost", "peer_doubled", "dma_after_stop", "bar_quiesced",
      "config_quiesced", "arcs_refused", "arcs_failed", "loads_refused",
    ]
    return mustBeZero.filter { !expected.contains($0) && self[$0] != 0 }.map { "\($0) is \(self[$0])" }
  }
}
