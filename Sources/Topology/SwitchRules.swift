// SPDX-License-Identifier: Apache-2.0
internal import CNetlink
internal import LinuxIO

/// What a host has told a NIC's switch about a function's packets, summed up: how many filters of traffic control there are,
/// and a number that is the same where they say the same, in whatever order. Those of vfio-ferry are not counted.
struct SwitchRules: Hashable {
  var count: UInt32
  /// No proof that two are the same, and none against somebody who wants them to look so.
  var digest: UInt64
}

extension SwitchRules: CustomStringConvertible {
  var description: String {
    if count == 0 { return "none" }
    let digits = String(digest, radix: 16)
    return "\(count) (\(String(repeating: "0", count: 16 - digits.count))\(digits))"
  }
}

/// Where a function's packets pass filters: all that its representor has, and those of the uplink that lead to it.
struct SwitchRulePlaces: Hashable {
  var representor: Int32
  /// nil where there is none.
  var uplink: Int32?
  /// What filters may send packets to, by a name that another host has too: the representor is `self`, other ports of a switch
  /// are called as they are there (`p0`, `pf0vf1`), everything else by its interface's name.
  var names: [Int32: String]

  /// The places of a function whose representor was found.
  init(_ representor: Representor, root: SystemRoot) {
    self.representor = representor.interface.index
    uplink = representor.uplink?.index
    names = [:]
    for name in Files.names(in: "\(root.sys)/class/net") {
      let folder = "\(root.sys)/class/net/\(name)"
      guard let index = Attribute.text("\(folder)/ifindex").flatMap({ Int32($0) }) else { continue }
      let port = Attribute.text("\(folder)/phys_port_name") ?? ""
      names[index] = port.isEmpty ? name : port
    }
    names[self.representor] = "self"
  }
}

extension KernelNetwork {
  func rules(at places: SwitchRulePlaces) throws(NetlinkError) -> SwitchRules {
    var readings: [(interface: Int32, hook: TrafficHook, leadingTo: Int32)] = []
    if let hooks = try hooks(of: places.representor) {
      readings.append((places.representor, .ingress, 0))
      if hooks.kind == HookHolder.bothHooks { readings.append((places.representor, .egress, 0)) }
    }
    if let uplink = places.uplink, try hooks(of: uplink) != nil {
      readings.append((uplink, .ingress, places.representor))
    }
    var found = vf_rules()
    let names = places.names.map { index, name in
      var named = vf_interface_name()
      named.interface = UInt32(bitPattern: index)
      unsafe withUnsafeMutableBytes(of: &named.name) { unsafe $0.copyBytes(from: name.utf8.prefix($0.count)) }
      return named
    }
    for (interface, hook, leadingTo) in readings {
      unsafe try ask(vf_netlink_route) { socket, words in
        unsafe names.withUnsafeBufferPointer { names in
          var reading = unsafe vf_rule_reading(
            interface: interface, hook: Self.hook(hook), leading_to: UInt32(bitPattern: leadingTo),
            kin: Self.cookie(.nobodys), names: names.baseAddress, name_count: names.count)
          return unsafe vf_tc_add_rules(socket, &reading, &found, words)
        }
      }
    }
    return SwitchRules(count: found.count, digest: found.digest)
  }
}
