// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Testing

@testable import Topology

extension LabTests {
  /// The scanner on a real kernel, held against lspci, which reads bus numbers where the scanner reads folders. The
  /// machine has a switch, a bridge to a conventional bus, and an nvme with virtual functions.
  @Suite(.serialized, .enabled(if: Lab.nvme != nil))
  struct PCITreeTests {
    /// What lspci prints of each function: the way to it, and the lines about it.
    struct Listed {
      var address: String
      var above: [String]
      var lines: [String]

      func line(_ beginning: String) -> String? {
        lines.first { $0.hasPrefix(beginning) }.map { String($0.dropFirst(beginning.count)) }
      }
    }

    /// Two virtual functions, which no driver is to take.
    init() throws {
      let controller = try #require(
        PCIScanner().tree().functions.first {
          $0.identity == "1b36:0010" && $0.parent != nil && $0.physicalFunction == nil
        })
      let folder = "/sys/bus/pci/devices/\(controller.address)"
      guard try String(contentsOfFile: "\(folder)/sriov_numvfs", encoding: .utf8) == "0\n" else { return }
      try "0".write(toFile: "\(folder)/sriov_drivers_autoprobe", atomically: false, encoding: .utf8)
      try "2".write(toFile: "\(folder)/sriov_numvfs", atomically: false, encoding: .utf8)
    }

    /// `lspci -vv -D -PP`: a paragraph for each function, which begins with `0000:00:01.0/01:00.0/02:00.0 `.
    private func list() throws -> [Listed] {
      let text = try Lab.output("lspci", ["-vv", "-D", "-PP"])
      return text.components(separatedBy: "\n\n").filter { !$0.isEmpty }.map { paragraph in
        let lines = paragraph.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
        let way = lines[0].prefix { $0 != " " }.split(separator: "/").map(String.init)
        let segment = way[0].prefix(5)
        let addresses = way.map { $0.count == 7 ? segment + $0 : $0 }
        return Listed(address: addresses.last!, above: addresses.dropLast(), lines: lines)
      }
    }

    @Test("every function is where lspci has it, below the same bridges")
    func structure() throws {
      let tree = PCIScanner().tree()
      let listed = try list()
      #expect(tree.functions.map(\.address).sorted() == listed.map(\.address).sorted())
      #expect(listed.contains { $0.above.count == 4 }, "the machine lacks the bridge below the switch")
      for item in listed {
        var above: [String] = []
        var parent = tree[item.address]?.parent
        while let here = parent {
          above.insert(here, at: 0)
          parent = tree[here]?.parent
        }
        #expect(above == item.above, "\(item.address)")
      }
    }

    @Test("kinds, access control, ATS, BAR sizes, drivers and groups are those that lspci reads")
    func facts() throws {
      let tree = PCIScanner().tree()
      let listed = try list()
      let kinds: [(String, PCIFunction.Kind)] = [
        ("Root Port", .rootPort), ("Upstream Port", .switchUpstreamPort), ("Downstream Port", .switchDownstreamPort),
        ("PCI-Express to PCI/PCI-X Bridge", .bridge), ("Root Complex Integrated Endpoint", .integrated),
        ("Endpoint", .endpoint),
      ]
      var seen: Set<PCIFunction.Kind> = []
      for item in listed {
        let function = try #require(tree[item.address])
        let capabilities = try #require(function.capabilities)
        if let express = item.lines.first(where: { $0.contains("] Express (v") }) {
          #expect(kinds.first { express.contains($0.0) }?.1 == function.kind, "\(item.address): \(express)")
        } else {
          #expect(function.kind == (function.parent == nil ? .integrated : .conventional), "\(item.address)")
        }
        seen.insert(function.kind)
        let controls: [(String, PCIFunction.AccessControl)] = [
          ("SrcValid", .sourceValidation), ("TransBlk", .translationBlocking), ("ReqRedir", .requestRedirect),
          ("CmpltRedir", .completionRedirect), ("UpstreamFwd", .upstreamForwarding), ("EgressCtrl", .egressControl),
          ("DirectTrans", .directTranslated),
        ]
        let (exists, isOn) = (item.line("ACSCap:"), item.line("ACSCtl:"))
        #expect((capabilities.accessControl == nil) == (exists == nil), "\(item.address)")
        for (word, control) in controls {
          #expect(capabilities.accessControl?.contains(control) == exists?.contains("\(word)+"), "\(item.address)")
          #expect(capabilities.accessControlEnabled.contains(control) == (isOn?.contains("\(word)+") ?? false))
        }
        #expect(capabilities.addressTranslation == item.line("ATSCtl:").map { $0.contains("Enable+") })
        #expect(
          capabilities.relaxedOrdering == item.lines.contains { $0.contains("RlxdOrd+") }
            || function.physicalFunction != nil)
        let sizes = item.lines.filter { $0.hasPrefix("Region ") && $0.contains("[size=") }.compactMap {
          $0.split(separator: "=").last?.dropLast()
        }
        #expect(function.bars.map { Self.size($0.size) } == sizes.map(String.init), "\(item.address)")
        #expect(function.driver == item.line("Kernel driver in use: "))
        #expect(function.group.map { "\($0)" } == item.line("IOMMU group: "))
      }
      #expect(
        seen.isSuperset(of: [
          .rootPort, .switchUpstreamPort, .switchDownstreamPort, .bridge, .endpoint, .integrated, .conventional,
        ]))
      #expect(tree.hasIOMMU)
    }

    private static func size(_ bytes: UInt64) -> String {
      bytes >= 1 << 20 ? "\(bytes >> 20)M" : bytes >= 1 << 10 ? "\(bytes >> 10)K" : "\(bytes)"
    }

    @Test("virtual functions know their physical function, which knows its own way")
    func virtualFunctions() throws {
      let tree = PCIScanner().tree()
      let virtual = tree.functions.filter { $0.physicalFunction != nil }
      #expect(virtual.count == 2)
      for function in virtual {
        let physical = try #require(function.physicalFunction.flatMap { tree[$0] })
        #expect(physical.parent == function.parent && physical.physicalFunction == nil)
        #expect(function.hasMemory && function.kind == .endpoint)
        #expect(tree.assumptions(of: [function.address]).allSatisfy { $0.state == .holds })
      }
      #expect(tree.reachability(of: virtual.map(\.address))[0, 1].exists)
    }

    @Test("a function that is unplugged while the tree is read ends nothing")
    func unplugged() throws {
      let tree = PCIScanner().tree()
      let device = try #require(tree.functions.first { $0.kind == .conventional })
      let port = try #require(device.parent)
      let scanner = Thread { for _ in 0..<20 { _ = PCIScanner().tree() } }
      scanner.start()
      try "1".write(toFile: "/sys/bus/pci/devices/\(port)/remove", atomically: false, encoding: .utf8)
      #expect(PCIScanner().tree()[device.address] == nil)
      try "1".write(toFile: "/sys/bus/pci/rescan", atomically: false, encoding: .utf8)
      try Lab.wait(until: "all scans were over") { scanner.isFinished }
      #expect(PCIScanner().tree()[device.address] != nil)
    }
  }

  /// Software RDMA over a dummy interface, through libibverbs.
  @Suite(.serialized, .enabled(if: Lab.isHere))
  struct SoftwareRDMATests {
    @Test("an rxe device is found with its port and GIDs, as software")
    func rxe() throws {
      _ = try Lab.output("ip", ["link", "add", "ferry0", "type", "dummy"])
      defer { _ = try? Lab.output("ip", ["link", "del", "ferry0"]) }
      _ = try Lab.output("ip", ["link", "set", "ferry0", "up"])
      _ = try Lab.output("ip", ["address", "add", "192.0.2.7/24", "dev", "ferry0"])
      _ = try Lab.output("rdma", ["link", "add", "ferry_rxe0", "type", "rxe", "netdev", "ferry0"])
      defer { _ = try? Lab.output("rdma", ["link", "del", "ferry_rxe0"]) }
      // 192.0.2.7 as a GID; the kernel adds it a moment after the address.
      let gid = "0000:0000:0000:0000:0000:ffff:c000:0207"
      try Lab.wait(until: "the address was a GID") {
        PCIScanner().tree().rdmaDevices.first?.ports.first?.gids.contains(gid) == true
      }
      // What libibverbs says, and not only sysfs.
      let verbs = VerbsLibrary()?.facts(of: "ferry_rxe0")
      let asked = try #require(verbs)
      let device = try #require(PCIScanner().tree().rdmaDevices.first)
      #expect(asked.ports == device.ports)
      #expect(device.name == "ferry_rxe0" && device.kind == .software && device.function == nil)
      #expect(device.ports.map(\.number) == [1])
      #expect(device.ports[0].state == "active" && device.ports[0].linkLayer == "ethernet")
      #expect(device.ports[0].gids.allSatisfy { $0.contains { !"0:".contains($0) } })
    }
  }
}

extension Lab {
  /// What a program prints, run to its end; it must succeed.
  static func output(_ program: String, _ arguments: [String]) throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [program] + arguments
    var environment = ProcessInfo.processInfo.environment
    environment["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    process.environment = environment
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    try #require(process.terminationStatus == 0, "\(program) \(arguments.joined(separator: " "))")
    return String(decoding: output, as: UTF8.self)
  }
}
