// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Synchronization
import Testing
import TopologyFixtures

@testable import Topology

/// A ConnectX in a host that is folders and files: sysfs as the kernel shows it for mlx5, written by hand, and what would
/// answer to netlink. Writes go to the files; what the kernel would do on them is done here, and it refuses what is out of
/// order: a driver is given only a device whose driver_override names it, and while a driver has a function nothing of it changes.
final class DescribedConnectX: PreparationHost {
  static let name = "0000:3b:00.0"
  let host: FixtureHost
  let device: PhysicalFunction
  let system: SystemPreparationHost
  let network: Network

  /// What goes wrong, and when.
  struct Fault: Hashable {
    /// The number of the write that fails, from 0.
    var at: Int
    /// Whether it takes effect all the same.
    var takesEffect = false
    /// Whether every later write fails as well.
    var lasts = false
  }

  private struct Course {
    var fault: Fault?
    var writes: [String] = []
    var users: [String] = []
  }
  private let course = Mutex(Course())

  /// - Parameter speaking: who asks its switch and its ports; they themselves, where nobody is named.
  init(
    aliases: String = DescribedConnectX.aliases, speaking: (Network) throws -> any NetworkPreparation = { $0 }
  ) throws {
    host = try FixtureHost(
      text: """
        iommu on
        host pci0000:3a node=0
          3a:00.0 root-port acs=sv,rr link=16.0x16
            3b:00.0 endpoint id=15b3:101d driver=mlx5_core group=40 sriov
        """)
    let home = host.path(of: Self.name)
    for (name, text) in [
      ("sriov_numvfs", "0"), ("sriov_totalvfs", "8"), ("sriov_drivers_autoprobe", "1"), ("sriov_offset", "2"),
      ("sriov_stride", "1"), ("sriov_vf_device", "101e"),
      ("modalias", "pci:v000015B3d0000101Dsv000015B3sd00000043bc02sc00i00"),
      ("net/ens1f0np0/ifindex", "5"), ("net/ens1f0np0/flags", "0x1003"), ("net/ens1f0np0/phys_port_name", "p0"),
    ] {
      try host.write("\(home)/\(name)", text)
    }
    try host.link("\(home)/net/ens1f0np0/device", to: home)
    try host.link("sys/class/net/ens1f0np0", to: "\(home)/net/ens1f0np0")
    try host.link("\(home)/subsystem", to: "sys/bus/pci")
    for driver in ["mlx5_core", "mlx5_vfio_pci", "vfio-pci"] {
      for name in ["bind", "unbind"] { try host.write("sys/bus/pci/drivers/\(driver)/\(name)", "") }
    }
    try host.make("sys/module/mlx5_vfio_pci/drivers")
    try host.link("sys/module/mlx5_vfio_pci/drivers/pci:mlx5_vfio_pci", to: "sys/bus/pci/drivers/mlx5_vfio_pci")
    let release = try #require(Attribute.text("/proc/sys/kernel/osrelease"))
    try host.write("lib/modules/\(release)/modules.alias", aliases)
    // Which process this is, and which run of the machine, is as it is.
    try host.make("run")
    try FileManager.default.createSymbolicLink(
      atPath: host.folder.path + "/proc", withDestinationPath: "/proc")
    device = try PhysicalFunction(named: Self.name, root: host.root)
    network = Network()
    system = SystemPreparationHost(
      device: device, root: host.root, network: try speaking(network), holders: { _ in [] }, addresses: { [:] })
  }

  static let aliases = """
    # Aliases extracted from modules themselves.
    alias pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_core
    alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci
    alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_vfio_pci
    alias vfio_pci:v00001DD8d00001003sv*sd*bc*sc*i* pds_vfio_pci
    """

  var preparation: Preparation { Preparation(device, root: host.root, host: self) }

  func fail(_ fault: Fault?) { course.withLock { $0.fault = fault } }
  func use(by users: [String]) { course.withLock { $0.users = users } }
  /// What was written since this was asked the last time.
  func takeWrites() -> [String] {
    course.withLock { course in
      defer { course.writes = [] }
      return course.writes
    }
  }

  /// All that preparing could have changed.
  func state() throws -> [String] {
    func text(_ path: String) -> String { Attribute.text(path) ?? "-" }
    var lines = [
      "mode \(network.mode)", "count \(text("\(device.folder)/sriov_numvfs"))",
      "autoprobe \(text("\(device.folder)/sriov_drivers_autoprobe"))",
    ]
    for number in 0..<8 {
      lines.append("port \(number) \(network.port(number))")
      guard let address = device.function(number) else { continue }
      let folder = "\(host.root.sys)/bus/pci/devices/\(address)"
      lines.append(
        "\(address) \(Attribute.linkedName("\(folder)/driver") ?? "-") \(text("\(folder)/driver_override"))")
    }
    return lines
  }

  // MARK: The seam

  func value(of setting: PreparationSetting) throws(PreparationError) -> String? { try system.value(of: setting) }
  func writes(_ setting: PreparationSetting, _ value: String, mode: String?) -> [PreparationWrite] {
    system.writes(setting, value, mode: mode)
  }
  func users(hitBy setting: PreparationSetting, _ value: String) -> [String] {
    let users = course.withLock { $0.users }
    return setting.function == nil && setting != .functions ? [] : users
  }

  func perform(_ write: PreparationWrite) throws(PreparationError) {
    let shown = "\(write)".components(separatedBy: host.folder.path).joined()
    let (fails, takesEffect) = course.withLock { course in
      let number = course.writes.count
      course.writes.append(shown)
      guard let fault = course.fault, fault.lasts ? number >= fault.at : number == fault.at else {
        return (false, true)
      }
      return (true, fault.takesEffect)
    }
    let failure = PreparationError(
      device: "\(device)", cause: .failed(write: shown, reason: "it was made to fail (EIO)"))
    if takesEffect {
      try system.perform(write)
      do { try react(write) } catch {
        throw PreparationError(device: "\(device)", cause: .failed(write: shown, reason: "\(error)"))
      }
    }
    if fails { throw failure }
  }

  // MARK: What the kernel does

  private struct OutOfOrder: Error, CustomStringConvertible { let description: String }

  private func react(_ write: PreparationWrite) throws {
    guard case .file(let path, let text) = write else { return }
    let parts = path.components(separatedBy: "/")
    switch parts.last ?? "" {
    case "sriov_numvfs": try setCount(Int(text) ?? 0)
    case "driver_override":
      try overwrite(path, text.isEmpty ? "(null)" : text)
    case "unbind":
      try FileManager.default.removeItem(atPath: "\(host.root.sys)/bus/pci/devices/\(text)/driver")
      network.isBound(number(text), false)
    case "bind": try bind(text, to: parts[parts.count - 2])
    default: break
    }
  }

  private func number(_ address: String) -> Int { (0..<8).first { device.function($0) == address } ?? 99 }

  private func overwrite(_ path: String, _ text: String) throws {
    try (text + "\n").write(toFile: path, atomically: false, encoding: .utf8)
  }

  private func bind(_ address: String, to driver: String) throws {
    let folder = "\(host.root.sys)/bus/pci/devices/\(address)"
    let override = try #require(Attribute.text("\(folder)/driver_override"))
    guard override == driver || override == "(null)" && driver == "mlx5_core" && probes else {
      throw OutOfOrder(description: "\(driver) does not take \(address), whose driver_override is \(override)")
    }
    try FileManager.default.createSymbolicLink(
      atPath: "\(folder)/driver", withDestinationPath: "\(host.root.sys)/bus/pci/drivers/\(driver)")
    network.isBound(number(address), true)
  }

  private var probes: Bool { Attribute.text("\(device.folder)/sriov_drivers_autoprobe") == "1" }

  /// Functions appear, or all of them go.
  private func setCount(_ count: Int) throws {
    let home = host.path(of: Self.name)
    for number in 0..<8 {
      guard let address = device.function(number) else { continue }
      if count > 0 { throw OutOfOrder(description: "there are functions already") }
      for path in ["\(device.folder)/virtfn\(number)", "\(host.root.sys)/bus/pci/devices/\(address)"] {
        try FileManager.default.removeItem(atPath: path)
      }
      try FileManager.default.removeItem(
        atPath: "\(host.folder.path)/\(home)/../\(address)")
    }
    let probes = probes
    for number in 0..<count {
      let address = try #require(device.expectedFunction(number))
      let folder = home.components(separatedBy: "/").dropLast().joined(separator: "/") + "/\(address)"
      let path = "\(host.folder.path)/\(folder)"
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
      for (name, text) in [
        ("driver_override", "(null)"), ("vendor", "0x15b3"), ("device", "0x101e"),
        ("modalias", "pci:v000015B3d0000101Esv000015B3sd00000043bc02sc00i00"),
      ] {
        try overwrite("\(path)/\(name)", text)
      }
      try host.link("sys/bus/pci/devices/\(address)", to: folder)
      try host.link("\(home)/virtfn\(number)", to: folder)
      try host.link("\(folder)/physfn", to: home)
      if probes { try bind(address, to: "mlx5_core") }
    }
    network.setCount(count)
  }
}

extension DescribedConnectX {
  /// The switch and its ports. What was set for a function is there again when the function is.
  final class Network: NetworkPreparation {
    struct Port {
      var mac: [UInt8] = [0, 0, 0, 0, 0, 0]
      var isMigratable = false
      var isBound = false
    }
    struct Switch {
      var mode = SwitchMode.legacy
      var count = 0
      var ports = [Port](repeating: Port(), count: 8)
    }
    private let state = Mutex(Switch())

    var current: Switch { state.withLock { $0 } }

    var mode: String { state.withLock { $0.mode.rawValue } }
    func port(_ number: Int) -> String {
      state.withLock { "\(MACAddress(bytes: $0.ports[number].mac)!) \($0.ports[number].isMigratable)" }
    }
    func isBound(_ number: Int, _ isBound: Bool) {
      state.withLock { $0.ports[number].isBound = isBound }
    }
    func setCount(_ count: Int) {
      state.withLock { state in
        state.count = count
        for number in count..<8 { state.ports[number].isBound = false }
      }
    }

    private func busy(_ words: String) -> NetlinkError { NetlinkError(errno: .busy, words: words) }

    private func change(_ number: Int, _ body: (inout Port) -> Void) throws(NetlinkError) {
      let error: NetlinkError? = state.withLock { state in
        guard number < state.count else { return NetlinkError(errno: .noDevice, words: "") }
        if state.ports[number].isBound { return busy("VF \(number) has a driver") }
        body(&state.ports[number])
        return nil
      }
      if let error { throw error }
    }

    func switchMode(bus: String, device: String) throws(NetlinkError) -> SwitchMode? { state.withLock { $0.mode } }
    func setSwitchMode(bus: String, device: String, _ mode: SwitchMode) throws(NetlinkError) {
      let isBusy = state.withLock { state in
        if state.ports.contains(where: \.isBound) { return true }
        state.mode = mode
        return false
      }
      if isBusy { throw busy("a VF has a driver") }
    }
    func port(ofFunction number: UInt16, bus: String, device: String) throws(NetlinkError) -> UInt32 {
      let isThere = state.withLock { $0.mode == .switchdev && Int(number) < $0.count }
      if !isThere { throw NetlinkError(errno: .init(rawValue: ENOENT), words: "") }
      return UInt32(number) + 1
    }
    func address(ofFunction number: UInt16, bus: String, device: String) throws(NetlinkError) -> [UInt8] {
      _ = try port(ofFunction: number, bus: bus, device: device)
      return state.withLock { $0.ports[Int(number)].mac }
    }
    func link(ofFunction number: UInt16, interface: Int32) throws(NetlinkError) -> FunctionLink {
      let mac = state.withLock { Int(number) < $0.count ? $0.ports[Int(number)].mac : nil }
      guard let mac else { throw NetlinkError(errno: .init(rawValue: ENODATA), words: "") }
      return FunctionLink(mac: mac, vlan: 0, priority: 0)
    }
    func setAddress(of port: DevlinkPort, _ address: MACAddress) throws(NetlinkError) {
      try change(Int(port.number) - 1) { $0.mac = address.bytes }
    }
    func setAddress(ofFunction number: UInt16, interface: Int32, _ address: MACAddress) throws(NetlinkError) {
      try change(Int(number)) { $0.mac = address.bytes }
    }
    func isMigratable(function number: UInt16, bus: String, device: String) throws(NetlinkError) -> Bool {
      _ = try port(ofFunction: number, bus: bus, device: device)
      return state.withLock { $0.ports[Int(number)].isMigratable }
    }
    func setMigratable(of port: DevlinkPort, _ isMigratable: Bool) throws(NetlinkError) {
      try change(Int(port.number) - 1) { $0.isMigratable = isMigratable }
    }
    func firmware(bus: String, device: String) throws(NetlinkError) -> String { "28.41.1000" }
    func rules(at places: SwitchRulePlaces) throws(NetlinkError) -> [SwitchRules] { [] }
  }
}
