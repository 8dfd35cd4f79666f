// SPDX-License-Identifier: Apache-2.0
import Glibc
import LinuxIO
import Migration
import VFIO

/// A device of the module in tools/lab/synthetic, made for as long as the benchmark runs: docs/synthetic-devices.md.
final class SyntheticDevice {
  private let folder: String
  let device: KernelDevice
  let described: SessionDevice
  /// The device's descriptor, for who makes the ioctls himself.
  let number: Int32

  init(_ name: String) throws {
    folder = "/sys/kernel/config/vfio_synthetic/\(name)"
    if unsafe mkdir(folder, 0o755) != 0 { fail("\(folder) can't be made: this runs in the lab") }
    for (setting, value) in [("state_bytes", "4K"), ("live", "1")] {
      try Self.write(value, to: "\(folder)/\(setting)")
    }
    guard let child = Files.names(in: "/sys/bus/vfio-synthetic/devices/\(name)/vfio-dev").first,
      let deviceName = DeviceName("/dev/vfio/devices/\(child)")
    else { fail("\(name) has no node") }
    device = try IOMMUFD().openDevice(node: "\(deviceName)", name: deviceName)
    described = SessionDevice(
      name: name, driver: "bench", features: try device.migrationFeatures(), state: try device.migrationState())
    number = try device.handOver()
  }

  func set(_ setting: String, _ value: String) throws { try Self.write(value, to: "\(folder)/\(setting)") }

  private static func write(_ value: String, to path: String) throws {
    let file = try Descriptor.open(path, O_WRONLY)
    let bytes = Array((value + "\n").utf8)
    _ = try file.write(bytes.span)
  }
}
