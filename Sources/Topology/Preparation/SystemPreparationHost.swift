// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxIO
internal import Migration

/// A host as it is: sysfs, netlink, and `modprobe`.
struct SystemPreparationHost: PreparationHost {
  let device: PhysicalFunction
  let root: SystemRoot
  let network: any NetworkPreparation
  /// Who has a VFIO device open, a line for each.
  let holders: @Sendable (DeviceRecord) -> [String]
  /// The Internet addresses of interfaces, by name.
  let addresses: @Sendable () -> [String: [String]]
  /// Runs a command to its end and returns its exit status.
  var run: @Sendable ([String]) -> Result<Int32, SystemError> = { command in
    Result { () throws(SystemError) in try Execution.run(command) }
  }

  // MARK: What is there

  func value(of setting: PreparationSetting) throws(PreparationError) -> String? {
    switch setting {
    case .module(let name):
      return Files.exists("\(root.sys)/module/\(name)") ? PreparationSetting.loaded : PreparationSetting.absent
    case .switchMode: return try asking(setting) { () throws(NetlinkError) in try switchMode()?.rawValue }
    case .autoprobe: return Attribute.text("\(device.folder)/sriov_drivers_autoprobe")
    case .functions: return Attribute.text("\(device.folder)/sriov_numvfs")
    case .address(let number): return try asking(setting) { () throws(NetlinkError) in try address(number) }
    case .migratable(let number):
      return try asking(setting) { () throws(NetlinkError) in
        try network.isMigratable(function: UInt16(number), bus: device.bus, device: device.name)
          ? PreparationSetting.enabled : PreparationSetting.disabled
      }
    case .driverOverride(let number):
      return function(number).flatMap { Attribute.text("\($0)/driver_override") }.map { $0 == "(null)" ? "" : $0 }
    case .driver(let number): return function(number).map { Attribute.linkedName("\($0)/driver") ?? "" }
    }
  }

  private func switchMode() throws(NetlinkError) -> SwitchMode? {
    try network.switchMode(bus: device.bus, device: device.name)
  }

  /// By the function's port where it has one, else by the physical function's interface.
  private func address(_ number: Int) throws(NetlinkError) -> String? {
    if try isByPort() {
      return MACAddress(bytes: try network.address(ofFunction: UInt16(number), bus: device.bus, device: device.name))?
        .description
    }
    guard let interface = device.interface else { return nil }
    return MACAddress(bytes: try network.link(ofFunction: UInt16(number), interface: interface.index).mac)?.description
  }

  /// Whether the switch's mode is the one in which functions have ports that know their addresses. netdevsim's never do.
  private func isByPort() throws(NetlinkError) -> Bool {
    guard device.bus == "pci" else { return false }
    do throws(NetlinkError) {
      return try switchMode() == .switchdev
    } catch {
      if isAbsence(error) { return false }
      throw error
    }
  }

  /// The folder of a virtual function; nil where it is not there.
  private func function(_ number: Int) -> String? {
    device.function(number).map { "\(root.sys)/bus/pci/devices/\($0)" }
  }

  /// What the kernel does not know is no value; everything else that goes wrong is an error.
  private func asking(
    _ setting: PreparationSetting, _ body: () throws(NetlinkError) -> String?
  ) throws(PreparationError) -> String? {
    do throws(NetlinkError) {
      return try body()
    } catch {
      if isAbsence(error) { return nil }
      throw PreparationError(
        device: "\(device)", cause: .failed(write: "reading \(setting)", reason: "\(error)"))
    }
  }

  /// Without libnl nothing is known of a NIC; what is none has no switch that could be asked for.
  private func isAbsence(_ error: NetlinkError) -> Bool { error.isAbsence || error.errno == .noLibrary && !isNIC }

  private var isNIC: Bool {
    device.bus != "pci" || device.interface != nil
      || Attribute.text("\(device.folder)/class")?.hasPrefix("0x02") == true
  }

  // MARK: Writes

  func writes(_ setting: PreparationSetting, _ value: String, mode: String?) -> [PreparationWrite] {
    switch setting {
    case .module(let name): return value == PreparationSetting.loaded ? [.load(module: name)] : []
    case .switchMode: return SwitchMode(rawValue: value).map { [.switchMode(device, $0)] } ?? []
    case .autoprobe: return [.file("\(device.folder)/sriov_drivers_autoprobe", value)]
    case .functions: return [.file("\(device.folder)/sriov_numvfs", value)]
    case .address(let number):
      guard let address = MACAddress(value) else { return [] }
      let isByPort =
        mode.map { device.bus == "pci" && $0 == SwitchMode.switchdev.rawValue } ?? (try? isByPort()) ?? false
      if isByPort { return [.portAddress(device, number, port: port(number), address)] }
      return device.interface.map { [.linkAddress($0, number, address)] } ?? []
    case .migratable(let number):
      return [.migratable(device, number, port: port(number), value == PreparationSetting.enabled)]
    case .driverOverride(let number): return [.file("\(expectedFolder(number))/driver_override", value)]
    case .driver(let number):
      let name = device.expectedFunction(number) ?? Self.unknown(number)
      let drivers = "\(root.sys)/bus/pci/drivers"
      var writes: [PreparationWrite] = []
      if let driver = function(number).flatMap({ Attribute.linkedName("\($0)/driver") }), driver != value {
        writes.append(.file("\(drivers)/\(driver)/unbind", name))
      }
      if !value.isEmpty { writes.append(.file("\(drivers)/\(value)/bind", name)) }
      return writes
    }
  }

  private func port(_ number: Int) -> UInt32? {
    try? network.port(ofFunction: UInt16(number), bus: device.bus, device: device.name)
  }

  private func expectedFolder(_ number: Int) -> String {
    "\(root.sys)/bus/pci/devices/\(device.expectedFunction(number) ?? Self.unknown(number))"
  }

  private static func unknown(_ number: Int) -> String { "<VF \(number)>" }

  func perform(_ write: PreparationWrite) throws(PreparationError) {
    switch write {
    case .file(let path, let text): try put(text, path, write)
    case .switchMode(let device, let mode):
      try asking(write) { () throws(NetlinkError) in
        try network.setSwitchMode(bus: device.bus, device: device.name, mode)
      }
    case .portAddress(let device, let number, _, let address):
      try asking(write) { () throws(NetlinkError) in try network.setAddress(of: port(number, device), address) }
    case .linkAddress(let interface, let number, let address):
      try asking(write) { () throws(NetlinkError) in
        try network.setAddress(ofFunction: UInt16(number), interface: interface.index, address)
      }
    case .migratable(let device, let number, _, let isMigratable):
      try asking(write) { () throws(NetlinkError) in try network.setMigratable(of: port(number, device), isMigratable) }
    case .load(let module): try run(["modprobe", "--", module], write)
    }
  }

  private func port(_ number: Int, _ device: PhysicalFunction) throws(NetlinkError) -> DevlinkPort {
    let port = try network.port(ofFunction: UInt16(number), bus: device.bus, device: device.name)
    return DevlinkPort(bus: device.bus, device: device.name, number: port)
  }

  private func put(_ text: String, _ path: String, _ write: PreparationWrite) throws(PreparationError) {
    do throws(SystemError) {
      let file = try Descriptor.open(path, O_WRONLY)
      // The whole of it at once: a store of the kernel's takes each write for a new value.
      _ = try file.write(Array((text + "\n").utf8).span)
    } catch {
      throw failure(write, "\(error.message) (\(error.name))")
    }
  }

  private func run(_ command: [String], _ write: PreparationWrite) throws(PreparationError) {
    switch run(command) {
    case .success(0): return
    case .success(let status): throw failure(write, "it ended with status \(status)")
    case .failure(let error): throw failure(write, "\(error)")
    }
  }

  private func asking(
    _ write: PreparationWrite, _ body: () throws(NetlinkError) -> Void
  ) throws(PreparationError) {
    do throws(NetlinkError) {
      try body()
    } catch {
      throw failure(write, "\(error)")
    }
  }

  private func failure(_ write: PreparationWrite, _ reason: String) -> PreparationError {
    PreparationError(device: "\(device)", cause: .failed(write: "\(write)", reason: reason))
  }

  // MARK: Users

  func users(hitBy setting: PreparationSetting, _ value: String) -> [String] {
    switch setting {
    // More of the same, and nobody's.
    case .module, .autoprobe: return []
    case .functions: return value == "0" ? allFunctions.flatMap(users) : []
    case .switchMode:
      return allFunctions.flatMap(users)
        + DeviceUsers(root: root, addresses: addresses).all(of: device.folder).map { "\(device): \($0)" }
    case .address(let number), .migratable(let number), .driverOverride(let number), .driver(let number):
      return device.function(number).map(users) ?? []
    }
  }

  private var allFunctions: [String] {
    let count = Attribute.text("\(device.folder)/sriov_numvfs").flatMap { Int($0) } ?? 0
    return (0..<max(0, count)).compactMap { device.function($0) }
  }

  private func users(of address: String) -> [String] {
    guard let record = DeviceName(address).flatMap({ try? Inventory(root: root, readsStates: false).device($0) }) else {
      return []
    }
    let all = holders(record) + DeviceUsers(root: root, addresses: addresses).all(of: record.sysfs)
    return all.map { "\(address): \($0)" }
  }
}

extension NetlinkError {
  /// Whether the kernel says that there is no such thing, and not that something went wrong: no devlink, no such device or port
  /// in it, nothing known of the attribute.
  fileprivate var isAbsence: Bool {
    let noEntry = ErrorNumber(rawValue: ENOENT)
    let noData = ErrorNumber(rawValue: ENODATA)
    return [noEntry, noData, .noDevice, .notSupported].contains(errno)
  }
}
