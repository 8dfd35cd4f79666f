import Engine
// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing
import Transport

@testable import Topology
@testable import vfio_ferry

extension LabTests {
  /// Compatibility tags of real devices, and loads that they refuse.
  @Suite(.serialized, .enabled(if: Lab.isHere))
  struct TagTests {
    private static let types = "/sys/devices/virtual/mtty/mtty/mdev_supported_types"

    private func inFolder(_ body: (String) throws -> Void) throws {
      let folder = try Lab.temporaryFolder()
      defer { try? FileManager.default.removeItem(at: folder) }
      try body(folder.path)
    }

    private func write(_ text: String, to path: String) throws {
      let file = try Descriptor.open(path, O_WRONLY)
      _ = try file.write(Array(text.utf8).span)
    }

    /// A stream with another tag in its manifest: the frames after it are what they were.
    /// - Parameter isConversation: whether it is the beginning of what `send` would say, and no more.
    private func stream(_ path: String, tag: CompatibilityTag, isConversation: Bool = false) throws -> String {
      let input = try InputFile(path)
      let buffer = try TransferBuffer(count: StreamFormat.maximumDataSize)
      var source = FrameSource(channel: input.channel, checksum: .xxh3)
      guard case .manifest(var manifest) = try source.next(buffer: buffer) else {
        throw Lab.Overdue(description: "a stream begins with its manifest")
      }
      let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
      for index in manifest.devices.indices { manifest.devices[index].tag = tag.encoded }
      manifest.commits = isConversation
      let payload = manifest.encoded()
      let header = FrameHeader(type: .manifest, device: nil, sequence: 0, length: payload.count)
      let first = bytes[..<StreamFormat.preambleSize] + header.encoded(payload: payload.span, checksum: .xxh3)
      let rest = isConversation ? [] : bytes[Int(source.reader.bytesRead)...]
      try Data(first + payload + rest).write(
        to: URL(fileURLWithPath: path + ".tagged"))
      return path + ".tagged"
    }

    /// Loads a stream that comes through a pipe.
    private func pipe(_ path: String, into device: String) throws -> Ended {
      let command = #"cat "$1" | "$0" load - "$2" -- true"#
      return try Lab.run(URL(fileURLWithPath: "/bin/sh"), ["-c", command, Lab.ferryProgram.path, path, device])
    }

    @Test("an mtty device's tag says what it was made of, and matches that of its like under both policies")
    func printed() throws {
      let tag = try Lab.ferry(["tag", Lab.mtty[0]])
      #expect(tag.status == 0, "\(tag.err)")
      let lines = tag.out.split(separator: "\n")
      #expect(lines.first == "vfio-ferry-tag 1" && lines.contains("driver mtty") && lines.contains("mdev_type mtty-2"))
      for policy in ["strict", "loose"] {
        let ended = try Lab.ferry(["tag", "--compare", "--policy", policy, Lab.mtty[0], Lab.mtty[1]])
        #expect(ended.status == 0, "\(ended.out) \(ended.err)")
      }
    }

    @Test("a device of another type is refused before it is touched, and --policy none lets the driver refuse it")
    func otherType() throws {
      let uuid = "76666572-7279-4d54-8959-0000000000aa"
      try write(uuid, to: "\(Self.types)/mtty-1/create")
      defer { try? write("1", to: "/sys/bus/mdev/devices/\(uuid)/remove") }
      try inFolder { folder in
        #expect(try Lab.ferry(["save", Lab.mtty[0], "-o", "\(folder)/s"]).status == 0)
        try DeviceHolder.mark(uuid, [0x61])
        let refused = try Lab.ferry(["load", "\(folder)/s", uuid, "--", "true"])
        #expect(
          refused.status == 3 && refused.err.contains("mdev_type is different: mtty-2 on the source"), "\(refused.err)")
        let piped = try pipe("\(folder)/s", into: uuid)
        #expect(piped.status == 3 && piped.err.contains("mdev_type"), "\(piped.err)")
        #expect(try Lab.debugState(uuid) == "RUNNING")
        #expect(try DeviceHolder.marks(uuid).first == 0x61)
        let compared = try Lab.ferry(["tag", "--compare", Lab.mtty[0], uuid])
        #expect(compared.status == 3 && compared.err.contains("mdev_type"), "\(compared.err)")
        let forced = try Lab.ferry(["load", "--policy", "none", "\(folder)/s", uuid, "--", "true"])
        #expect(forced.status == 1 && forced.out.isEmpty, "\(forced.err)")
      }
    }

    @Test("what a tag refuses takes no arc and does no I/O; what it allows is loaded", .enabled(if: Lab.synthetic))
    func counters() throws {
      let from = try Synthetic("tagged")
      defer { from.remove() }
      let to = try Synthetic("tagged")
      defer { to.remove() }
      try inFolder { folder in
        #expect(try Lab.ferry(["save", from.node, "-o", "\(folder)/s"]).status == 0)
        var tag = TagScanner().tag(of: try Lab.record(to.node), features: [.stopCopy, .p2p, .preCopy])
        #expect(tag[.driver] != nil)
        tag[.kernel] = "1.0"
        let older = try stream("\(folder)/s", tag: tag)
        try to.resetReferee()
        let strict = try Lab.ferry(["load", "--policy", "strict", older, to.node, "--", "true"])
        #expect(strict.status == 3 && strict.err.contains("kernel is newer: 1.0 on the source"), "\(strict.err)")
        tag[.mac] = "02:00:00:00:00:01"
        tag[.firmware] = "9"
        tag[.bars] = "0:4096"
        let other = try stream("\(folder)/s", tag: tag)
        let refused = try Lab.ferry(["load", other, to.node, "--", "true"])
        #expect(refused.status == 3 && refused.err.contains("bars is missing: 0:4096 on the source"), "\(refused.err)")
        // A pipe's manifest is read before the device is opened, and so is that of a source which waits for answers.
        let piped = try pipe(other, into: to.node)
        #expect(piped.err.contains("bars is missing") && piped.status == 3, "\(piped.err)")
        let receive = try FerryProcess(["receive", to.node, "--listen", "unix:/run/ferry-tagged"])
        let place = try StreamAddress(try receive.says("listening on ")).resolved(listens: false)
        let channel = try Rendezvous(place, Rendezvous.Terms(wait: nil, deadAfter: 30)).call()
        let said = try stream("\(folder)/s", tag: tag, isConversation: true)
        let words = [UInt8](try Data(contentsOf: URL(fileURLWithPath: said)))
        try channel.write(words.span, [UInt8]().span)
        channel.hangUp(within: 0)
        let received = receive.wait()
        #expect(received.err.contains("bars is missing") && received.status == 3, "\(received.err)")
        for counter in ["arcs", "arcs_refused", "arcs_failed", "loads_refused", "resets"] {
          #expect(try to.referee[counter] == 0, "\(counter)")
        }
        tag[.bars] = nil
        let loaded = try pipe(try stream("\(folder)/s", tag: tag), into: to.node)
        #expect(loaded.status == 0, "\(loaded.err)")
        #expect(
          loaded.err.contains("mac is missing: 02:00:00:00:00:01 on the source, unknown on the destination"),
          "\(loaded.err)")
        #expect(try to.referee["arcs"] > 0)
      }
    }

    @Test("the kernel's own simulated NIC says its firmware and its switch's mode, and what a function is known by")
    func network() throws {
      let device = try SimulatedSwitch()
      let network = KernelNetwork()
      #expect(try network.switchMode(bus: "netdevsim", device: device.name) == .switchdev)
      let shown = try run("devlink", "dev", "info", "netdevsim/\(device.name)")
      let firmware = try network.firmware(bus: "netdevsim", device: device.name)
      #expect(!firmware.isEmpty && shown.contains("fw.mgmt \(firmware)"), "\(shown)")
      // It has no addresses of functions, as drivers of real NICs do.
      #expect(throws: NetlinkError(errno: ErrorNumber(rawValue: ENODATA), words: "")) {
        try network.address(ofFunction: 0, bus: "netdevsim", device: device.name)
      }
      #expect(throws: NetlinkError.self) { try network.address(ofFunction: 9, bus: "netdevsim", device: device.name) }
      #expect(throws: NetlinkError.self) { try network.switchMode(bus: "netdevsim", device: "netdevsim9999") }
      _ = try run("devlink", "dev", "eswitch", "set", "netdevsim/\(device.name)", "mode", "legacy")
      #expect(try network.switchMode(bus: "netdevsim", device: device.name) == .legacy)
      let name = try #require(Files.names(in: "/sys/bus/netdevsim/devices/\(device.name)/net").first)
      let interface = try #require(Files.text("/sys/class/net/\(name)/ifindex").flatMap { Int32($0) })
      _ = try run("ip", "link", "set", name, "vf", "1", "mac", "02:00:00:00:ab:cd", "vlan", "7", "qos", "3")
      var link = FunctionLink(mac: [2, 0, 0, 0, 0xab, 0xcd], vlan: 7, priority: 3, spoofCheck: false, isTrusted: false)
      #expect(try network.link(ofFunction: 1, interface: interface) == link)
      _ = try run("ip", "link", "set", name, "vf", "1", "vlan", "7", "qos", "3", "proto", "802.1ad")
      _ = try run("ip", "link", "set", name, "vf", "1", "spoofchk", "on", "trust", "on")
      (link.isProviders, link.spoofCheck, link.isTrusted) = (true, true, true)
      #expect(try network.link(ofFunction: 1, interface: interface) == link)
      let unset = FunctionLink(
        mac: [0, 0, 0, 0, 0, 0], vlan: 0, priority: 0, spoofCheck: false, isTrusted: false)
      #expect(try network.link(ofFunction: 0, interface: interface) == unset)
      #expect(throws: NetlinkError.self) { try network.link(ofFunction: 2, interface: interface) }
      try device.remove()
    }

    /// Interfaces that play a representor, its uplink and a tunnel, with rules of traffic control.
    private struct Switch {
      private let number: Int
      let representor: NetworkInterface
      let uplink: NetworkInterface
      let tunnel: NetworkInterface
      private let batch: URL

      init(_ number: Int) throws {
        batch = try Lab.temporaryFolder().appendingPathComponent("batch")
        let names = ["rep", "up", "tun"].map { "\($0)\(number)" }
        self.number = number
        for name in names {
          _ = try run("ip", "link", "add", name, "type", "dummy")
          _ = try run("tc", "qdisc", "add", "dev", name, "clsact")
        }
        let interfaces = names.map { NetworkInterface(name: $0, index: Int32(unsafe if_nametoindex($0))) }
        (representor, uplink, tunnel) = (interfaces[0], interfaces[1], interfaces[2])
      }

      /// Commands of tc, in which REP, UP and TUN stand for the interfaces.
      func set(_ commands: [String]) throws {
        let text = commands.map { command in
          command.replacingOccurrences(of: "REP", with: representor.name)
            .replacingOccurrences(of: "UP", with: uplink.name)
            .replacingOccurrences(of: "TUN", with: tunnel.name) + "\n"
        }
        try text.joined().write(to: batch, atomically: true, encoding: .utf8)
        _ = try run("tc", "-batch", batch.path)
      }

      /// As a NIC's ports would be called, whose interfaces have other names on each host.
      func rules() throws -> SwitchRules {
        var places = SwitchRulePlaces([Representor(interface: representor, uplink: uplink)], root: SystemRoot())
        for index in places.interfaces.indices where places.interfaces[index].name.hasSuffix("\(number)") {
          let name = places.interfaces[index].name
          if name == uplink.name { places.interfaces[index].port = "p0" }
          if name == tunnel.name { places.interfaces[index].port = "tunnel" }
          places.interfaces[index].identity = "c0ffee\(number)"
        }
        return try #require(try KernelNetwork().rules(at: places).first)
      }

      func remove() throws { for one in [representor, uplink, tunnel] { _ = try run("ip", "link", "del", one.name) } }
    }

    @Test(
      "rules of two switches that say the same have one sum, whatever a kernel numbers and counts, and others have others"
    )
    func rules() throws {
      let (one, other) = (try Switch(0), try Switch(1))
      #expect(try one.rules() == SwitchRules(count: 0, digest: 0))
      let send = "filter add dev REP ingress"
      let port = "protocol ip flower ip_proto tcp dst_port 4791 action drop"
      let police =
        "protocol all flower dst_mac 02:00:00:00:00:22 action police rate 100mbit burst 1m conform-exceed drop/pipe"
      let leave = "\(police) action mirred egress redirect dev UP"
      let come = "protocol all flower dst_mac 02:00:5e:00:00:11 action mirred egress redirect dev REP"
      // The kernel tells an interface that is matched by its name.
      let met = "protocol all flower indev UP action mirred egress redirect dev REP"
      try one.set([
        "\(send) pref 10 \(port)", "\(send) pref 20 \(leave)", "filter add dev REP egress pref 5 matchall action pass",
        "filter add dev UP ingress pref 10 \(come)", "filter add dev UP ingress pref 20 matchall action drop",
        "filter add dev TUN ingress pref 10 \(come)", "filter add dev TUN ingress pref 20 matchall action drop",
        "filter add dev UP ingress pref 30 \(met)",
      ])
      // In another order, with other numbers, and beside actions that have the first ones.
      try other.set([
        "actions add action police rate 1mbit burst 1m conform-exceed drop", "actions add action drop",
        "filter add dev UP ingress pref 3 handle 7 \(come)", "filter add dev REP egress pref 77 matchall action pass",
        "\(send) pref 1 \(leave) cookie 00112233", "\(send) pref 2 handle 9 \(port) cookie a1b2",
        "filter add dev TUN ingress pref 7 \(come)", "filter add dev UP ingress pref 9 \(met)",
      ])
      let rules = try one.rules()
      #expect(rules.count == 6)
      #expect(try other.rules() == rules)
      let limiter = PoliceFilter(
        device: "vf", places: [.representor(other.representor)],
        folder: ThrottleFolder(path: try Lab.temporaryFolder().path + "/throttles"))
      try limiter.limit(to: 1_250_000)
      #expect(try other.rules() == rules, "what vfio-ferry has set is not the host's")
      try limiter.restore()
      var seen: Set<SwitchRules> = [rules]
      let remove = "filter del dev REP ingress pref 10"
      for changed in [
        port.replacingOccurrences(of: "4791", with: "4792"), port.replacingOccurrences(of: "drop", with: "pass"),
        port.replacingOccurrences(of: "tcp", with: "udp"),
        port.replacingOccurrences(of: "flower", with: "flower skip_hw"),
        "chain 3 \(port)", police, police.replacingOccurrences(of: "100mbit", with: "200mbit"),
        leave.replacingOccurrences(of: "UP", with: "REP"), leave.replacingOccurrences(of: "redirect", with: "mirror"),
        "protocol all matchall action drop",
      ] {
        try one.set([remove, "\(send) pref 10 \(changed)"])
        let found = try one.rules()
        #expect(found.count == 6 && seen.insert(found).inserted, "\(changed)")
        if changed.hasPrefix("chain") {
          try one.set(["filter del dev REP ingress chain 3 pref 10", "\(send) pref 10 \(port)"])
        }
      }
      try one.set([remove])
      #expect(try one.rules().count == 5)
      try one.set(["\(send) pref 10 \(port)"])
      #expect(try one.rules() == rules)
      try one.remove()
      try other.remove()
    }
  }
}
