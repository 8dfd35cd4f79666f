// SPDX-License-Identifier: Apache-2.0
import Glibc
import Migration

@testable import Topology

/// What the kernel of a host says over netlink, where nothing is wrong with it.
struct DoctorNetwork: NetworkIdentity, NetworkControl, FunctionMigratability {
  var mode: SwitchMode? = .switchdev
  /// nil where the driver does not say.
  var isMigratable: Bool? = true
  /// What the representors' qdisc is.
  var hooks: HookHolder? = HookHolder(kind: "clsact", isShared: false)
  var limits: NetlinkError?

  private func refuse<Answer>() throws(NetlinkError) -> Answer {
    throw NetlinkError(errno: ErrorNumber(rawValue: ENODATA), words: "")
  }

  private func refuseAll() throws(NetlinkError) { try refuse() as Void }

  func switchMode(bus: String, device: String) throws(NetlinkError) -> SwitchMode? { mode }
  func firmware(bus: String, device: String) throws(NetlinkError) -> String { try refuse() }
  func address(ofFunction number: UInt16, bus: String, device: String) throws(NetlinkError) -> [UInt8] { try refuse() }
  func link(ofFunction number: UInt16, interface: Int32) throws(NetlinkError) -> FunctionLink { try refuse() }
  func rules(at places: SwitchRulePlaces) throws(NetlinkError) -> [SwitchRules] { try refuse() }

  func isMigratable(function number: UInt16, bus: String, device: String) throws(NetlinkError) -> Bool {
    guard let isMigratable else { return try refuse() }
    return isMigratable
  }

  func hooks(of interface: Int32) throws(NetlinkError) -> HookHolder? {
    if let limits { throw limits }
    return hooks
  }
  func port(ofFunction number: UInt16, bus: String, device: String) throws(NetlinkError) -> UInt32 { 7 }
  func rate(of port: DevlinkPort) throws(NetlinkError) -> UInt64 {
    if let limits { throw limits }
    return 0
  }

  // Looking changes nothing: none of these is asked for.
  func survey(_ hook: TrafficHook, of interface: Int32, for cookie: Cookie) throws(NetlinkError) -> HookSurvey {
    try refuse()
  }
  func addClsact(to interface: Int32) throws(NetlinkError) { try refuseAll() }
  func removeClsact(from interface: Int32) throws(NetlinkError) { try refuseAll() }
  func add(
    _ rule: PoliceRule, at hook: TrafficHook, of interface: Int32, preference: UInt16
  ) throws(NetlinkError) { try refuseAll() }
  func remove(_ filter: HookSurvey.Own, at hook: TrafficHook, of interface: Int32) throws(NetlinkError) {
    try refuseAll()
  }
  func replace(police number: UInt32, with rate: PoliceRate, redirects: Bool) throws(NetlinkError) { try refuseAll() }
  func setRate(of port: DevlinkPort, _ bytesPerSecond: UInt64) throws(NetlinkError) { try refuseAll() }
}
