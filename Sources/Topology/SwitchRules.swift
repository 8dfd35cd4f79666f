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

/// Where the packets of functions pass filters: all that a function's representor has, and those at ingress of any other
/// interface (the uplink, a tunnel, another function's representor) that lead to it.
struct SwitchRulePlaces: Hashable {
  /// A function, by its port of the switch.
  struct Function: Hashable {
    var representor: Int32
    /// nil where there is none.
    var uplink: Int32?
  }

  /// What filters may send packets to, or take them from.
  struct Interface: Hashable {
    var index: Int32
    var name: String
    /// What it is called as a port of a switch (`p0`, `pf0vf1`), and which switch that is; empty for what is none.
    var port = ""
    var identity = ""
  }

  var functions: [Function]
  /// By ascending number.
  var interfaces: [Interface]

  /// The places of functions whose representors were found.
  init(_ representors: [Representor], root: SystemRoot) {
    functions = representors.map { Function(representor: $0.interface.index, uplink: $0.uplink?.index) }
    interfaces = Files.names(in: "\(root.sys)/class/net").compactMap { name in
      let folder = "\(root.sys)/class/net/\(name)"
      guard let index = Attribute.text("\(folder)/ifindex").flatMap({ Int32($0) }), index > 0 else { return nil }
      return Interface(
        index: index, name: name, port: Attribute.text("\(folder)/phys_port_name") ?? "",
        identity: Attribute.text("\(folder)/phys_switch_id") ?? "")
    }.sorted { $0.index < $1.index }
  }

  /// What an interface counts as among a function's rules, by a name that another host has too: its own representor is `self`,
  /// another port of the same switch is called as it is there, everything else by its interface's name. A port's name alone
  /// says nothing: each switch of a host has a `p0`.
  func name(of interface: Interface, for function: Function) -> String {
    if interface.index == function.representor { return "self" }
    let own = interfaces.first { $0.index == function.representor }?.identity ?? ""
    return interface.port.isEmpty || own.isEmpty || interface.identity != own ? interface.name : interface.port
  }
}

extension KernelNetwork {
  func rules(at places: SwitchRulePlaces) throws(NetlinkError) -> [SwitchRules] {
    var functions = places.functions.map { function in
      var one = vf_rule_function()
      one.representor = UInt32(bitPattern: function.representor)
      one.uplink = UInt32(bitPattern: function.uplink ?? 0)
      return one
    }
    let names = places.functions.flatMap { function in
      places.interfaces.map { interface in
        var named = vf_interface_name()
        named.interface = UInt32(bitPattern: interface.index)
        let name = places.name(of: interface, for: function)
        unsafe withUnsafeMutableBytes(of: &named.name) { unsafe $0.copyBytes(from: name.utf8.prefix($0.count)) }
        unsafe withUnsafeMutableBytes(of: &named.kernel_name) {
          unsafe $0.copyBytes(from: interface.name.utf8.prefix($0.count))
        }
        return named
      }
    }
    // Each is read for all functions at once: a dump takes the kernel as long as there are filters, and holds its lock of
    // network settings meanwhile.
    for holder in try hookHolders() {
      let isRepresentor = places.functions.contains { $0.representor == holder.interface }
      for hook in isRepresentor && holder.both ? [TrafficHook.ingress, .egress] : [.ingress] {
        unsafe try ask(vf_netlink_route) { socket, words in
          unsafe functions.withUnsafeMutableBufferPointer { functions in
            unsafe names.withUnsafeBufferPointer { names in
              var reading = unsafe vf_rule_reading(
                interface: holder.interface, hook: Self.hook(hook), kin: Self.cookie(.nobodys),
                functions: functions.baseAddress, function_count: functions.count, names: names.baseAddress,
                name_count: places.interfaces.count)
              return unsafe vf_tc_add_rules(socket, &reading, words)
            }
          }
        }
      }
    }
    return functions.map { SwitchRules(count: $0.rules.count, digest: $0.rules.digest) }
  }

  /// The interfaces that have a qdisc with hooks.
  private func hookHolders() throws(NetlinkError) -> [vf_hook_holder] {
    var holders = [vf_hook_holder](repeating: vf_hook_holder(), count: 256)
    while true {
      var count = 0
      unsafe try ask(vf_netlink_route) { socket, words in
        unsafe holders.withUnsafeMutableBufferPointer { holders in
          unsafe vf_tc_hook_holders(socket, holders.baseAddress, holders.count, &count, words)
        }
      }
      if count <= holders.count { return Array(holders[..<count]) }
      // Some more, as others may come meanwhile.
      holders = [vf_hook_holder](repeating: vf_hook_holder(), count: count + 64)
    }
  }
}
