// SPDX-License-Identifier: Apache-2.0
internal import CNetlink

/// Whether a NIC's virtual functions are made migratable, which hides from them what can't move. Nothing is changed by asking.
/// Tests put their own in its place.
protocol FunctionMigratability: Sendable {
  /// ENOENT for no such port, ENODATA where its driver does not say.
  func isMigratable(function number: UInt16, bus: String, device: String) throws(NetlinkError) -> Bool
}

extension KernelNetwork: FunctionMigratability {
  func isMigratable(function number: UInt16, bus: String, device: String) throws(NetlinkError) -> Bool {
    var isMigratable = false
    unsafe try ask(vf_netlink_devlink) { socket, words in
      unsafe vf_devlink_function_migratable(socket, bus, device, number, &isMigratable, words)
    }
    return isMigratable
  }
}
