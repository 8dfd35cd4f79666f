// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Testing

@testable import Topology

/// Representors of virtual functions, in folders that look like the sysfs of a NIC.
struct RepresentorTests {

  /// A host with a NIC that has two physical functions and two virtual functions of each, and no interfaces yet.
  private final class Host {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("nic-\(UUID().uuidString)")
    var root: SystemRoot { SystemRoot(prefix: folder.path) }
    private var interfaces: Int32 = 0

    init() throws {
      for physical in ["0000:3b:00.0", "0000:3b:00.1"] {
        for number in 0...1 {
          let virtual = "0000:3b:0\(physical.last == "0" ? 1 : 2).\(number)"
          try link("sys/bus/pci/devices/\(physical)/virtfn\(number)", "../\(virtual)")
          try link("sys/bus/pci/devices/\(virtual)/physfn", "../\(physical)")
        }
      }
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    /// An interface as a driver shows it; nil for attributes that can't be read.
    func interface(_ name: String, port: String?, of identity: String? = "c0ffee", on device: String? = nil) throws {
      interfaces += 1
      let home = "sys/class/net/\(name)"
      try write("\(home)/ifindex", "\(interfaces)\n")
      if let port { try write("\(home)/phys_port_name", port + "\n") }
      if let identity { try write("\(home)/phys_switch_id", identity + "\n") }
      if let device { try link("\(home)/device", "../../../bus/pci/devices/\(device)") }
    }

    private func place(_ path: String) throws -> URL {
      let file = folder.appendingPathComponent(path)
      try FileManager.default.createDirectory(
        at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
      return file
    }
    private func write(_ path: String, _ text: String) throws {
      try text.write(to: place(path), atomically: false, encoding: .utf8)
    }
    private func link(_ path: String, _ target: String) throws {
      try FileManager.default.createSymbolicLink(atPath: place(path).path, withDestinationPath: target)
    }
  }

  private func reason(_ address: String, _ host: Host) -> String {
    do throws(RateLimiterError) {
      return "found \(try Representor.find(of: address, root: host.root).interface.name)"
    } catch {
      guard case .refused(let reason) = error.cause else { return "\(error)" }
      return reason
    }
  }

  @Test("a function's representor hangs on its physical function, as mlx5 has it, or shares the switch, as nfp has it")
  func found() throws {
    for device in ["0000:3b:00.0", nil] {
      let host = try Host()
      try host.interface("lo", port: nil, of: nil)
      try host.interface("wlan0", port: "", of: "")
      try host.interface("up", port: "p0", on: "0000:3b:00.0")
      try host.interface("up1", port: "p1", on: "0000:3b:00.1")
      try host.interface("first", port: "pf0vf0", on: device)
      try host.interface("second", port: "pf0vf1", on: device)
      // The other physical function's, another switch's, another host's, and a subfunction.
      try host.interface("other", port: "pf1vf1", on: device == nil ? nil : "0000:3b:00.1")
      try host.interface("elsewhere", port: "pf0vf1", of: "decaf")
      try host.interface("external", port: "c1pf0vf1", on: device)
      try host.interface("sub", port: "pf0sf1", on: device)
      let representor = try Representor.find(of: "0000:3b:01.1", root: host.root)
      #expect(representor.interface == NetworkInterface(name: "second", index: 6))
      #expect(representor.uplink == NetworkInterface(name: "up", index: 3))
      #expect(try Representor.find(of: "0000:3b:01.0", root: host.root).interface.name == "first")
      #expect(try Representor.find(of: "0000:3b:02.1", root: host.root).interface.name == "other")
    }
  }

  @Test("where there is none, the reason says what to do")
  func refused() throws {
    let host = try Host()
    #expect(reason("0000:3b:00.0", host).contains("no virtual function"))
    #expect(reason("../../etc", host).contains("no virtual function"))
    #expect(reason("0000:3b:01.0", host).contains("devlink dev eswitch set pci/0000:3b:00.0 mode switchdev"))
    try host.interface("up", port: "p0", on: "0000:3b:00.0")
    #expect(reason("0000:3b:01.0", host).contains("pfNvf0"))
    try host.interface("one", port: "pf0vf0", on: "0000:3b:00.0")
    try host.interface("two", port: "pf0vf0", on: "0000:3b:00.0")
    #expect(reason("0000:3b:01.0", host).contains("one, two"))
  }

  @Test(
    "attributes that no driver writes are no representor",
    arguments: ["pfvf", "pf0v", "pf0vf", "pf0vf-1", "pf0vf1v2", "vf0"])
  func nonsense(port: String) throws {
    let host = try Host()
    try host.interface("up", port: "p0", on: "0000:3b:00.0")
    try host.interface("odd", port: port, on: "0000:3b:00.0")
    #expect(!reason("0000:3b:01.0", host).hasPrefix("found"))
  }

  @Test("police is chosen where a representor is, and says what it does not see; else devlink's rate, which says so")
  func choice() throws {
    let host = try Host()
    let network = FakeNetwork()
    let folder = ThrottleFolder(root: host.root)
    func choose(_ address: [UInt8]? = nil) throws -> LimiterChoice {
      try LimiterChoice("0000:3b:01.1", hardwareAddress: address, root: host.root, folder: folder, network: network)
    }
    let weak = try choose()
    #expect(weak.limiter.kind == .devlinkRate && weak.shortcomings.contains { $0.contains("not what it receives") })
    #expect(network.asked == ["port pci/0000:3b:00.0 1", "rate"])
    try host.interface("up", port: "p0", on: "0000:3b:00.0")
    try host.interface("rep", port: "pf0vf1", on: "0000:3b:00.0")
    let strong = try choose()
    #expect(strong.limiter.kind == .police && strong.shortcomings.count == 1)
    let whole = try choose([2, 0, 0, 0, 0, 1])
    #expect((whole.limiter as? PoliceFilter)?.places.map(\.description) == ["egress of rep", "ingress of up"])
    #expect(whole.shortcomings.isEmpty)
    network.error = NetlinkError(errno: .notPermitted, words: "")
    #expect {
      try choose()
    } throws: {
      "\($0)".contains("CAP_NET_ADMIN")
    }
  }
}
