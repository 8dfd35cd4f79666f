// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// One write, which an operator could do by hand: its words are what he would type.
enum PreparationWrite: Hashable {
  /// Text into a file of sysfs; empty stands for the newline that clears a value.
  case file(String, String)
  case switchMode(PhysicalFunction, SwitchMode)
  /// Through the function's port; its number is nil where it is not there yet.
  case portAddress(PhysicalFunction, Int, port: UInt32?, MACAddress)
  /// Through the physical function's interface.
  case linkAddress(NetworkInterface, Int, MACAddress)
  case migratable(PhysicalFunction, Int, port: UInt32?, Bool)
  case load(module: String)
}

extension PreparationWrite: CustomStringConvertible {
  var description: String {
    switch self {
    case .file(let path, let text): return text.isEmpty ? "echo > \(path)" : "echo \(text) > \(path)"
    case .switchMode(let device, let mode): return "devlink dev eswitch set \(device.handle) mode \(mode.rawValue)"
    case .portAddress(let device, let number, let port, let address):
      return "devlink port function set \(Self.port(device, number, port)) hw_addr \(address)"
    case .linkAddress(let interface, let number, let address):
      return "ip link set \(interface.name) vf \(number) mac \(address)"
    case .migratable(let device, let number, let port, let isMigratable):
      return "devlink port function set \(Self.port(device, number, port)) migratable "
        + (isMigratable ? PreparationSetting.enabled : PreparationSetting.disabled)
    case .load(let module): return "modprobe \(module)"
    }
  }

  private static func port(_ device: PhysicalFunction, _ number: Int, _ port: UInt32?) -> String {
    "\(device.handle)/" + (port.map { "\($0)" } ?? "<port of VF \(number)>")
  }
}

/// What preparing asks and does. Tests put a host of their own behind it, and failures that no host can be made to show.
protocol PreparationHost {
  /// A setting's value; nil where the device, or this kernel, knows no such setting.
  func value(of setting: PreparationSetting) throws(PreparationError) -> String?
  /// The writes that give a setting a value. They can be told before what they are for is there.
  /// - Parameter mode: the switch's mode by then; nil for the one that it has.
  func writes(_ setting: PreparationSetting, _ value: String, mode: String?) -> [PreparationWrite]
  func perform(_ write: PreparationWrite) throws(PreparationError)
  /// Who uses what a setting's change would take away, or take from under somebody's hands: a line for each.
  func users(hitBy setting: PreparationSetting, _ value: String) -> [String]
}
