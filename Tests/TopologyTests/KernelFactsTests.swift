// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Testing
import TopologyFixtures

@testable import Topology

@Suite("What a kernel says of itself")
struct KernelFactsTests {
  /// `gzip`'s answer.
  private func packed(_ bytes: [UInt8], _ option: String = "-6") throws -> [UInt8] {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("gzip-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let file = folder.appendingPathComponent("config")
    try Data(bytes).write(to: file)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/gzip")
    process.arguments = [option, file.path]
    try process.run()
    process.waitUntilExit()
    return [UInt8](try Data(contentsOf: folder.appendingPathComponent("config.gz")))
  }

  /// The same numbers on every machine.
  private static func numbers(_ count: Int, seed: UInt64) -> [UInt8] {
    var state = seed
    return (0..<count).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return UInt8(truncatingIfNeeded: state >> 33)
    }
  }

  @Test(
    "what gzip has packed is unpacked: nothing, text, what repeats itself, and what can't be packed",
    arguments: ["-1", "-9"])
  func unpacked(option: String) throws {
    let text = (0..<4000).flatMap { Array("CONFIG_OPTION_\($0 * $0 % 977)=\($0 % 3 == 0 ? "y" : "m")\n".utf8) }
    for bytes in [[], Array("a".utf8), text, [UInt8](repeating: 7, count: 100_000), Self.numbers(100_000, seed: 3)] {
      let packed = try packed(bytes, option)
      #expect(GzipText.unpacked(packed, maximum: 1 << 20) == bytes)
      #expect(bytes.isEmpty || GzipText.unpacked(packed, maximum: bytes.count - 1) == nil)
    }
  }

  @Test("cut or damaged anywhere it is no text, or another, and never read outside")
  func damaged() throws {
    let packed = try packed(Array((0..<200).map { "CONFIG_\($0)=y" }.joined(separator: "\n").utf8))
    for length in packed.indices { #expect(GzipText.unpacked(Array(packed[..<length]), maximum: 1 << 16) == nil) }
    let noise = Self.numbers(packed.count, seed: 5)
    for place in packed.indices {
      var changed = packed
      changed[place] ^= noise[place] | 1
      _ = GzipText.unpacked(changed, maximum: 1 << 16)
    }
    for seed in 0..<200 {
      _ = GzipText.unpacked([0x1f, 0x8b, 8, 0] + Self.numbers(400, seed: UInt64(seed)), maximum: 1 << 16)
    }
  }

  @Test("a configuration packed by the kernel comes before one beside it, and says y, m or nothing")
  func configuration() throws {
    let host = try FixtureHost(text: "iommu off")
    try host.write("boot/config-6.1", "CONFIG_VFIO=y")
    #expect(KernelConfiguration(root: host.root, release: "6.1")?["VFIO"] == .builtIn)
    #expect(KernelConfiguration(root: host.root, release: "6.2") == nil)
    try host.make("proc")
    let text = "# CONFIG_A is not set\nCONFIG_VFIO=m\nCONFIG_VFIO_PCI=y\nCONFIG_NAME=\"y=m\"\nOTHER=y\n"
    try Data(packed(Array(text.utf8))).write(to: host.folder.appendingPathComponent("proc/config.gz"))
    let found = try #require(KernelConfiguration(root: host.root, release: "6.1"))
    #expect(found.path.hasSuffix("/proc/config.gz"))
    #expect(found["VFIO"] == .module && found["VFIO_PCI"] == .builtIn)
    #expect(found["A"] == .off && found["NAME"] == .off && found["OTHER"] == .off)
  }

  @Test("versions are compared by their numbers")
  func versions() throws {
    let old = try #require(KernelVersion(release: "6.6.30-rc1+"))
    #expect(old < KernelVersion(6, 12) && KernelVersion(6, 12) < KernelVersion(7, 0))
    #expect(KernelVersion(release: "6.7-rc3") == KernelVersion(6, 7))
    #expect(KernelVersion(release: "next") == nil && KernelVersion(release: "") == nil)
  }

  @Test("aliases are patterns; the driver that fits every device is no variant driver")
  func aliases() throws {
    let host = try DoctorHost.connectX.make()
    try host.write(
      "lib/modules/7.0.3/modules.builtin.modinfo", "a.license=GPL\0b_vfio.alias=vfio_pci:v00008086d*sv*sd*bc*sc*i*\0")
    let modules = KernelModules(root: host.root, release: "7.0.3")
    #expect(modules.variantDrivers(for: "pci:v000015B3d0000101Esv1sd2bc02sc00i00") == ["mlx5_vfio_pci"])
    #expect(modules.variantDrivers(for: "pci:v00008086d00001234sv1sd2bc02sc00i00") == ["b_vfio"])
    #expect(modules.variantDrivers(for: "pci:v00001234d00001234sv1sd2bc02sc00i00") == [])
    #expect(modules.variantDrivers(for: "usb:v1d6Bp0002") == [])
    #expect(modules.presence(of: "vfio-pci") == .installed && modules.presence(of: "vfio") == .loaded)
    #expect(modules.presence(of: "iommufd") == .builtIn && modules.presence(of: "nothing") == .absent)
    #expect(KernelModules(root: host.root, release: "1.0").presence(of: "nothing") == .unknown)
  }

  @Test("a node is open to its owner, its group, or all, each by its own bits, and to whoever may override them")
  func access() throws {
    let host = try FixtureHost(text: "iommu off")
    func process(_ user: UInt32, _ group: UInt32, capabilities: String = "0") throws -> ProcessAllowance {
      try host.write(
        "proc/self/status", "Uid:\t1\t1\t1\t\(user)\nGid:\t1\t1\t1\t\(group)\nGroups:\t7 8\nCapEff:\t\(capabilities)")
      return ProcessAllowance(root: host.root, pid: nil)
    }
    try host.write("dev/node", "")
    let path = host.folder.appendingPathComponent("dev/node").path
    let ownership = try #require(Files.ownership(path))
    func isOpen(_ mode: Int, to process: ProcessAllowance) throws -> Bool? {
      try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
      return try #require(NodeFacts(path)).isOpen(to: process)
    }
    let owner = try process(ownership.owner, ownership.group)
    let stranger = try process(ownership.owner + 9, ownership.group + 9)
    #expect(try isOpen(0o600, to: owner) == true && isOpen(0o066, to: owner) == false)
    #expect(try isOpen(0o660, to: stranger) == false && isOpen(0o606, to: stranger) == true)
    #expect(try isOpen(0o604, to: stranger) == false)
    #expect(try isOpen(0o660, to: process(ownership.owner + 9, ownership.group)) == true)
    #expect(try isOpen(0o606, to: process(ownership.owner + 9, ownership.group)) == false)
    #expect(try isOpen(0, to: process(ownership.owner + 9, ownership.group + 9, capabilities: "2")) == true)
    #expect(try isOpen(0o666, to: ProcessAllowance(root: host.root, pid: 99)) == nil)
  }
}
