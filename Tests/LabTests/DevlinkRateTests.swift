// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing

@testable import Topology

/// A NIC of the kernel's netdevsim with two virtual functions behind a switch.
struct SimulatedSwitch {
  static let number = 77
  let name = "netdevsim\(number)"

  init() throws {
    try Self.write("\(Self.number) 1", to: "/sys/bus/netdevsim/new_device")
    try Self.write("2", to: "/sys/bus/netdevsim/devices/\(name)/sriov_numvfs")
    _ = try run("devlink", "dev", "eswitch", "set", "netdevsim/\(name)", "mode", "switchdev")
  }

  func port(_ function: UInt16) throws -> DevlinkPort {
    let number = try KernelNetwork().port(ofFunction: function, bus: "netdevsim", device: name)
    return DevlinkPort(bus: "netdevsim", device: name, number: number)
  }

  /// The most that a function may send as the driver has it, in Mbit/s: the judge, which is not devlink.
  func rate(_ function: UInt16) throws -> Int {
    let file = "/sys/kernel/debug/netdevsim/\(name)/ports/\(try port(function).number)/tx_max"
    return try #require(Int(try Files.readText(file)))
  }

  func remove() throws { try Self.write("\(Self.number)", to: "/sys/bus/netdevsim/del_device") }

  private static func write(_ text: String, to path: String) throws {
    let file = try Descriptor.open(path, O_WRONLY)
    _ = try file.write(Array(text.utf8).span)
  }
}

extension LabTests {
  /// devlink's rate on the kernel's own simulated switch.
  @Suite(.serialized, .enabled(if: Lab.isHere))
  struct DevlinkRateTests {
    @Test("the driver is given the rate in whole Mbit/s, and afterwards what it was before, for that function alone")
    func rate() throws {
      let device = try SimulatedSwitch()
      let folder = ThrottleFolder(path: try Lab.temporaryFolder().path + "/throttles")
      let port = try device.port(1)
      _ = try run("devlink", "port", "function", "rate", "set", "\(port)", "tx_max", "900mbit")
      #expect(try device.rate(1) == 900)
      let limiter = DevlinkRate(device: "vf", port: port, folder: folder)
      for (bytes, megabits) in [(6_250_000, 50), (25_124_999, 200), (1, 1)] as [(UInt64, Int)] {
        try limiter.limit(to: bytes)
        #expect(try device.rate(1) == megabits && device.rate(0) == 0)
      }
      try limiter.restore()
      #expect(try device.rate(1) == 900)
      #expect(folder.folder.names.isEmpty)
      try device.remove()
    }

    @Test("one process at a time limits a port; a rate that somebody else has set since stays")
    func others() throws {
      let device = try SimulatedSwitch()
      let folder = ThrottleFolder(path: try Lab.temporaryFolder().path + "/throttles")
      let port = try device.port(0)
      let limiter = DevlinkRate(device: "vf", port: port, folder: folder)
      try limiter.limit(to: 1_250_000)
      #expect {
        try DevlinkRate(device: "vf", port: port, folder: folder).limit(to: 2_500_000)
      } throws: {
        "\($0)".contains("another process")
      }
      #expect(try device.rate(0) == 10)
      _ = try run("devlink", "port", "function", "rate", "set", "\(port)", "tx_max", "30mbit")
      try limiter.restore()
      #expect(try device.rate(0) == 30)
      #expect(folder.folder.names.isEmpty)
      try device.remove()
    }

    @Test("a rate above what the link has is refused in the driver's words; a port that is none has no rate")
    func refused() throws {
      let device = try SimulatedSwitch()
      let folder = ThrottleFolder(path: try Lab.temporaryFolder().path + "/throttles")
      #expect {
        try DevlinkRate(device: "vf", port: try device.port(0), folder: folder).limit(to: 1_250_000_000)
      } throws: {
        "\($0)".contains("exceed link maximum speed")
      }
      var wrong = try device.port(0)
      wrong.number += 1000
      #expect(throws: RateLimiterError.self) {
        try DevlinkRate(device: "vf", port: wrong, folder: folder).limit(to: 1_250_000)
      }
      #expect(throws: NetlinkError.self) { try device.port(2) }
      #expect(folder.folder.names.isEmpty)
      try device.remove()
    }
  }
}
