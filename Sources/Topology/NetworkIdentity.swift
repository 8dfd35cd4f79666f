// SPDX-License-Identifier: Apache-2.0
internal import CNetlink

/// The mode of a NIC's switch.
public enum SwitchMode: String, Hashable, Sendable {
  /// Functions are told apart by the NIC alone. The corresponding C constant is `DEVLINK_ESWITCH_MODE_LEGACY`.
  case legacy
  /// Each function has a port on the host's side. The corresponding C constant is `DEVLINK_ESWITCH_MODE_SWITCHDEV`.
  case switchdev
}

/// A virtual function as its physical function's interface has it.
struct FunctionLink: Hashable {
  /// Six bytes, all of them 0 where the host has set none.
  var mac: [UInt8]
  /// 0 for none.
  var vlan: UInt32
  var priority: UInt32
  /// Whether the VLAN's tag is a provider's, 802.1ad. The corresponding C constant is `ETH_P_8021AD`.
  var isProviders = false
  /// Whether the NIC drops what the function sends under another MAC address than its own; nil where the driver does not say.
  var spoofCheck: Bool?
  /// Whether the function may ask for more than its own packets; nil where the driver does not say.
  var isTrusted: Bool?
}

/// What identifies a function to its peers and what its NIC runs, as the kernel tells it. Nothing is changed by asking. Tests
/// put their own in its place.
protocol NetworkIdentity: Sendable {
  /// nil for a mode that is not known here.
  func switchMode(bus: String, device: String) throws(NetlinkError) -> SwitchMode?
  /// The version that runs.
  func firmware(bus: String, device: String) throws(NetlinkError) -> String
  /// The MAC address of the virtual function behind a port.
  func address(ofFunction number: UInt16, bus: String, device: String) throws(NetlinkError) -> [UInt8]
  func link(ofFunction number: UInt16, interface: Int32) throws(NetlinkError) -> FunctionLink
  /// What filters say of the packets of functions, each in its place.
  func rules(at places: SwitchRulePlaces) throws(NetlinkError) -> [SwitchRules]
}

extension KernelNetwork: NetworkIdentity {
  func switchMode(bus: String, device: String) throws(NetlinkError) -> SwitchMode? {
    var mode: UInt16 = 0
    unsafe try ask(vf_netlink_devlink) { socket, words in
      unsafe vf_devlink_eswitch_mode(socket, bus, device, &mode, words)
    }
    switch mode {
    case 0: return .legacy
    case 1: return .switchdev
    default: return nil
    }
  }

  func firmware(bus: String, device: String) throws(NetlinkError) -> String {
    var text = [CChar](repeating: 0, count: 64)
    unsafe try ask(vf_netlink_devlink) { socket, words in
      unsafe text.withUnsafeMutableBufferPointer { buffer in
        unsafe vf_devlink_firmware(socket, bus, device, buffer.baseAddress, words)
      }
    }
    return Attribute.harmless(String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
  }

  func address(ofFunction number: UInt16, bus: String, device: String) throws(NetlinkError) -> [UInt8] {
    var mac = [UInt8](repeating: 0, count: 6)
    unsafe try ask(vf_netlink_devlink) { socket, words in
      unsafe mac.withUnsafeMutableBufferPointer { buffer in
        unsafe vf_devlink_function_address(socket, bus, device, number, buffer.baseAddress, words)
      }
    }
    return mac
  }

  func link(ofFunction number: UInt16, interface: Int32) throws(NetlinkError) -> FunctionLink {
    var facts = vf_link_function()
    unsafe try ask(vf_netlink_route) { socket, words in
      unsafe vf_link_function(socket, interface, number, &facts, words)
    }
    let mac = unsafe withUnsafeBytes(of: &facts.mac) { unsafe Array($0) }
    return FunctionLink(
      mac: mac, vlan: facts.vlan, priority: facts.priority, isProviders: facts.vlan_protocol == 0x88a8,
      spoofCheck: facts.spoof_check < 0 ? nil : facts.spoof_check == 1,
      isTrusted: facts.trust < 0 ? nil : facts.trust == 1)
  }
}
