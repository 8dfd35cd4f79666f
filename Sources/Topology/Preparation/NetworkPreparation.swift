// SPDX-License-Identifier: Apache-2.0
internal import CNetlink
internal import Migration

/// What of a NIC's switch and functions is set before a driver has them. Tests put their own in its place.
protocol NetworkPreparation: NetworkIdentity, FunctionMigratability {
  /// The number of the port that a virtual function of this host is behind; ENOENT where there is none.
  func port(ofFunction number: UInt16, bus: String, device: String) throws(NetlinkError) -> UInt32
  func setSwitchMode(bus: String, device: String, _ mode: SwitchMode) throws(NetlinkError)
  /// The address of the function behind a port.
  func setAddress(of port: DevlinkPort, _ address: MACAddress) throws(NetlinkError)
  /// The address of a function as its physical function's interface has it.
  func setAddress(ofFunction number: UInt16, interface: Int32, _ address: MACAddress) throws(NetlinkError)
  func setMigratable(of port: DevlinkPort, _ isMigratable: Bool) throws(NetlinkError)
}

extension KernelNetwork: NetworkPreparation {
  func setSwitchMode(bus: String, device: String, _ mode: SwitchMode) throws(NetlinkError) {
    unsafe try ask(vf_netlink_devlink) { socket, words in
      unsafe vf_devlink_set_eswitch_mode(socket, bus, device, mode == .legacy ? 0 : 1, words)
    }
  }

  func setAddress(of port: DevlinkPort, _ address: MACAddress) throws(NetlinkError) {
    unsafe try set(port) { socket, named, words in
      unsafe vf_devlink_set_function_address(socket, named, address.bytes, words)
    }
  }

  func setAddress(ofFunction number: UInt16, interface: Int32, _ address: MACAddress) throws(NetlinkError) {
    unsafe try ask(vf_netlink_route) { socket, words in
      unsafe vf_link_set_function_address(socket, interface, number, address.bytes, words)
    }
  }

  func setMigratable(of port: DevlinkPort, _ isMigratable: Bool) throws(NetlinkError) {
    unsafe try set(port) { socket, named, words in
      unsafe vf_devlink_set_function_migratable(socket, named, isMigratable, words)
    }
  }

  private func set(
    _ port: DevlinkPort,
    _ request: (OpaquePointer, UnsafePointer<vf_devlink_port>, UnsafeMutablePointer<vf_netlink_words>) -> Int32
  ) throws(NetlinkError) {
    unsafe try ask(vf_netlink_devlink) { socket, words in
      unsafe port.bus.withCString { bus in
        unsafe port.device.withCString { device in
          var named = unsafe vf_devlink_port(bus: bus, device: device, number: port.number)
          return unsafe request(socket, &named, words)
        }
      }
    }
  }
}

/// A system whose kernel can't be asked.
struct NoNetwork: NetworkPreparation {
  var error = NetlinkError(errno: .notSupported, words: "")

  func switchMode(bus: String, device: String) throws(NetlinkError) -> SwitchMode? { throw error }
  func firmware(bus: String, device: String) throws(NetlinkError) -> String { throw error }
  func address(ofFunction number: UInt16, bus: String, device: String) throws(NetlinkError) -> [UInt8] {
    throw error
  }
  func link(ofFunction number: UInt16, interface: Int32) throws(NetlinkError) -> FunctionLink { throw error }
  func rules(at places: SwitchRulePlaces) throws(NetlinkError) -> [SwitchRules] { throw error }
  func port(ofFunction number: UInt16, bus: String, device: String) throws(NetlinkError) -> UInt32 { throw error }
  func setSwitchMode(bus: String, device: String, _ mode: SwitchMode) throws(NetlinkError) { throw error }
  func setAddress(of port: DevlinkPort, _ address: MACAddress) throws(NetlinkError) { throw error }
  func setAddress(ofFunction number: UInt16, interface: Int32, _ address: MACAddress) throws(NetlinkError) {
    throw error
  }
  func isMigratable(function number: UInt16, bus: String, device: String) throws(NetlinkError) -> Bool {
    throw error
  }
  func setMigratable(of port: DevlinkPort, _ isMigratable: Bool) throws(NetlinkError) { throw error }
}
