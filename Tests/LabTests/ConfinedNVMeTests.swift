// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing
import VFIO

@testable import Helper
@testable import Topology

extension LabTests {
  /// What a helper can still find out of real PCI functions once it has confined itself. No function of this machine can be
  /// migrated, and a helper refuses those before it asks who reaches whom: so a program that confines itself in the same way
  /// asks that, by the same call.
  @Suite(.serialized, .enabled(if: Lab.nvme != nil))
  struct ConfinedNVMeTests {
    /// Three functions that can write to each other: below the root complex, in a switch, and behind a bridge in that switch.
    private static func devices(in tree: PCITree) throws -> [String] {
      let switched = tree.functions.first {
        $0.identity == "1b36:0010" && $0.parent != nil && $0.physicalFunction == nil
      }
      let conventional = tree.functions.first { $0.kind == .conventional && $0.parent != nil }
      return [try #require(Lab.nvme), try #require(switched).address, try #require(conventional).address]
    }

    /// What `confined-attempts` says, and what was refused to it in sysfs; it tries to write there.
    private static func attempts(_ user: String, _ devices: [String]) throws -> (out: [Substring], refused: [Substring])
    {
      let ended = try Lab.run(Lab.program("confined-attempts"), [user, "", ""] + devices)
      try #require(ended.status == 0, "\(ended.out) \(ended.err)")
      let refused = ended.err.split(separator: "\n").filter {
        $0.contains("/sys") && !$0.contains("/sys/bus/pci/rescan")
      }
      return (ended.out.split(separator: "\n"), refused)
    }

    /// Turns a port's request redirect on or off, where the kernel has left it.
    private static func redirect(at port: String, _ isOn: Bool) throws {
      _ = try Lab.output("setpci", ["-s", port, "ECAP_ACS+6.w=\(isOn ? 4 : 0):4"])
    }

    /// The tree once access control is not as the kernel has made it, so that nobody can know it who does not read it. QEMU's root
    /// ports have it, and its switches' ports have none.
    private static func withChangedControl(_ body: (PCITree, [String]) throws -> Void) throws {
      let before = PCIScanner().tree(titles: false, rdma: false)
      let port = try #require(before.functions.first { $0.kind == .rootPort && $0.capabilities?.accessControl != nil })
      let wasOn = try #require(port.capabilities).accessControlEnabled.contains(.requestRedirect)
      try redirect(at: port.address, !wasOn)
      defer { try? redirect(at: port.address, wasOn) }
      let tree = PCIScanner().tree(titles: false, rdma: false)
      let isOn = tree[port.address]?.capabilities?.accessControlEnabled.contains(.requestRedirect)
      try #require(isOn == !wasOn)
      try body(tree, devices(in: tree))
    }

    @Test("root that is confined reads the same registers, ways and tags of PCI functions as before")
    func root() throws { try Self.withChangedControl(Self.readsTheSame) }

    private static func readsTheSame(_ tree: PCITree, _ devices: [String]) throws {
      let reachability = tree.reachability(of: devices)
      let (out, refused) = try attempts("", devices)
      #expect(out.filter { $0.hasPrefix("function: ") } == tree.functions.map { "function: \($0)" })
      for from in devices.indices {
        for to in devices.indices where to != from {
          #expect(out.contains("\(devices[from]) to \(devices[to]): \(reachability[from, to])"), "\(out)")
        }
        let tag = TagScanner(filesOnly: true).tag(of: try Lab.record(devices[from]))
        #expect(tag[.extendedCapabilities] != nil || from == 2)
        #expect(out.contains("tag of \(devices[from]): \(tag.encoded)"))
      }
      #expect(refused == [])
    }

    @Test("another user sees the functions and not their access control: each is taken to reach each other")
    func user() throws { try Self.withChangedControl(Self.readsLess) }

    private static func readsLess(_ tree: PCITree, _ devices: [String]) throws {
      let (out, refused) = try attempts("4711:4712", devices)
      let functions = out.filter { $0.hasPrefix("function: ") }
      #expect(functions.count == tree.functions.count)
      #expect(functions.allSatisfy { !$0.contains("accessControl: Optional") }, "\(functions)")
      let links = out.filter { $0.contains(": Link(") }
      #expect(links.count == 6 && links.allSatisfy { !$0.contains("path: none") }, "\(links)")
      // What the switch's ports control decides between the two that are below it, and it is not claimed to be known.
      for (from, to) in [(1, 2), (2, 1)] {
        let link = links.first { $0.hasPrefix("\(devices[from]) to \(devices[to]): ") }
        #expect(link?.contains("could not be read") == true && link?.contains("Origin.assumed") == true, "\(links)")
        #expect(tree.reachability(of: devices)[from, to].origin == .observed)
      }
      #expect(refused == [])
    }

    @Test(
      "the helper itself, confined, knows a PCI function by its name and its descriptor, and refuses one that can't be migrated",
      arguments: [[], ["--user", "4711:4712"]])
    func helper(options: [String]) throws {
      let name = try #require(Lab.nvme)
      let device = try Lab.open(name)
      let (mine, theirs) = try PacketSocket.pair()
      let (process, errors) = (Process(), Pipe())
      process.executableURL = Lab.ferryProgram
      process.arguments = ["helper", "--fd", "0"] + options
      process.standardInput = FileHandle(fileDescriptor: theirs.descriptor.rawValue)
      process.standardError = errors
      try process.run()
      withExtendedLifetime(theirs) {}
      let wanted = HelperDevice(
        device: 1, name: try #require(DeviceName(name)), space: 1, tracker: .auto, support: .none, iommufdNumber: nil,
        pageTable: nil, logLimits: nil)
      try mine.send(HelperRequest.hello(major: 1, minor: 0, features: [], version: "test").packet(number: 1).span)
      guard case .hello = try Self.reply(mine) else {
        Issue.record("it does not greet")
        return
      }
      let request = HelperRequest.addDevice(wanted).packet(number: 2)
      try mine.send(request.span, with: Descriptor.open("/dev/null", O_RDWR))
      guard case .failure(let other) = try Self.reply(mine) else {
        Issue.record("it takes another descriptor for the device's")
        return
      }
      #expect(other.code == .badArgument && other.text.hasPrefix("the descriptor is not \(name)"), "\(other)")
      try mine.send(request.span, with: Descriptor(owning: dup(device.handOver()), subject: name))
      guard case .failure(let refusal) = try Self.reply(mine) else {
        Issue.record("it takes a device that can't be migrated")
        return
      }
      #expect(
        refusal.code == .refused && refusal.device == 1
          && refusal.text == "\(name) can't be migrated: its driver vfio-pci offers no migration", "\(refusal)")
      mine.hangUp()
      let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      process.waitUntilExit()
      #expect(process.terminationStatus == 0 && text.isEmpty, "\(text)")
    }

    private static func reply(_ socket: PacketSocket) throws -> HelperReply {
      var buffer = [UInt8](repeating: 0, count: HelperPacket.maximumSize)
      var span = buffer.mutableSpan
      guard case .packet(let size, let descriptors) = try socket.receive(into: &span),
        case .reply(_, _, let reply) = try HelperPacket.message(
          buffer.span.extracting(0..<size), descriptors: descriptors.count)
      else { throw SystemError("hearing from", "a helper", errno: EPIPE) }
      return reply
    }
  }
}
