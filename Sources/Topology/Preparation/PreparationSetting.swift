// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// One thing that preparing sets, of a physical function or of one of its virtual functions. Each has a value that is text, so
/// that what was there can be read, compared, written down and set again.
public enum PreparationSetting: Hashable, Sendable {
  /// A module of the kernel: `loaded` or `absent`. One that was loaded stays so.
  case module(String)
  /// The mode of the NIC's switch: `legacy` or `switchdev`.
  case switchMode
  /// Whether drivers look at new virtual functions by themselves: `0` or `1`.
  case autoprobe
  /// How many virtual functions there are.
  case functions
  /// The Ethernet address of a virtual function, by its number.
  case address(Int)
  /// Whether a virtual function is made to be one that can be migrated: `enable` or `disable`.
  case migratable(Int)
  /// The one driver that a virtual function may be bound to; empty for any.
  case driverOverride(Int)
  /// The driver that a virtual function is bound to; empty for none.
  case driver(Int)

  /// The virtual function that it is about; nil for what is of the physical function.
  public var function: Int? {
    switch self {
    case .module, .switchMode, .autoprobe, .functions: nil
    case .address(let number), .migratable(let number), .driverOverride(let number), .driver(let number): number
    }
  }

  static let loaded = "loaded"
  static let absent = "absent"
  static let enabled = "enable"
  static let disabled = "disable"
}

extension PreparationSetting: CustomStringConvertible {
  public var description: String {
    switch self {
    case .module(let name): "module \(name)"
    case .switchMode: "e-switch mode"
    case .autoprobe: "sriov_drivers_autoprobe"
    case .functions: "sriov_numvfs"
    case .address(let number): "MAC address of VF \(number)"
    case .migratable(let number): "migratable of VF \(number)"
    case .driverOverride(let number): "driver_override of VF \(number)"
    case .driver(let number): "driver of VF \(number)"
    }
  }
}

/// A step of preparing: a setting, and what it is to be. Its way back is the value that it had.
public struct PreparationStep: Hashable, Sendable {
  /// What is set.
  public var setting: PreparationSetting
  /// What it is to be.
  public var value: String
  /// Whether it is passed over where the device knows no such setting.
  public var isOptional = false
}

/// Why a device was not prepared, or not put back.
public struct PreparationError: Error, Hashable, Sendable {
  /// What went wrong.
  public enum Cause: Hashable, Sendable {
    /// There is no such device, or it is no physical function.
    case nothing(String)
    /// It may not be done: why, and what to do about it.
    case refused(String)
    /// A write that failed, as an operator would have typed it, and what the kernel said.
    case failed(write: String, reason: String)
    /// The kernel took a write and has another value than was written; nil for none.
    case differs(PreparationSetting, wanted: String, found: String?)
    /// The record of what was there before could not be kept.
    case record(String)
  }

  /// The physical function, as users call it.
  public var device: String
  public var cause: Cause
  /// What could not be undone, one line for each; empty where nothing was changed, or all of it was undone.
  public var wayBack: [String] = []
  /// Whether something was changed, undone or not.
  public var hasChanged = false
}

extension PreparationError: CustomStringConvertible {
  public var description: String {
    let what =
      switch cause {
      case .nothing(let reason), .refused(let reason), .record(let reason): "\(device): \(reason)"
      case .failed(let write, let reason): "\(device): \(write): \(reason)"
      case .differs(let setting, let wanted, let found):
        "\(device): \(setting) was to be \"\(wanted)\", and the kernel has \(found.map { "\"\($0)\"" } ?? "none")"
      }
    if !hasChanged { return what }
    if wayBack.isEmpty { return what + "; what had been done is undone" }
    return what + "; not undone: " + wayBack.joined(separator: "; ") + "; try again with --undo"
  }
}
