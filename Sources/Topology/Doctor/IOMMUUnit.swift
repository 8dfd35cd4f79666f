// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO

/// An IOMMU of the host, and whether it can tell which pages devices wrote to.
public struct IOMMUUnit: Hashable, Sendable {
  /// Whether it can.
  public enum Tracking: Hashable, Sendable {
    case able
    /// It can, as soon as the kernel uses what it has for that.
    case turnedOff
    case unable
    case unknown
  }

  /// As the kernel names it: "dmar0", "ivhd0".
  public let name: String
  /// Whether it can tell.
  public let tracking: Tracking
  /// What was read, in words for a person.
  public let evidence: String
  /// The largest page of its tables in bytes, for which it has one dirty bit; nil where sysfs does not say.
  public var largestPage: UInt64?

  /// Every IOMMU of a system.
  static func all(root: SystemRoot, commandLine: String, configuration: KernelConfiguration?) -> [IOMMUUnit] {
    Files.names(in: "\(root.sys)/class/iommu").map { name in
      let folder = "\(root.sys)/class/iommu/\(name)"
      if let register = number("\(folder)/intel-iommu/ecap") {
        var unit = intel(Attribute.harmless(name), register, commandLine, configuration)
        unit.largestPage = number("\(folder)/intel-iommu/cap").map(largestPage)
        return unit
      }
      if let register = number("\(folder)/amd-iommu/features") { return amd(Attribute.harmless(name), register) }
      return IOMMUUnit(
        name: Attribute.harmless(name), tracking: .unknown, evidence: "\(folder) does not say what it can do")
    }
  }

  /// A register of 64 bits in hexadecimal; AMD's come several in a line.
  private static func number(_ path: String) -> UInt64? {
    Attribute.text(path).flatMap { text in
      text.split { $0 == " " || $0 == ":" }.first.flatMap {
        UInt64($0.hasPrefix("0x") ? $0.dropFirst(2) : $0, radix: 16)
      }
    }
  }

  /// VT-d's Extended Capability Register: second-stage dirty bits (SSADS) are bit 45, and exist in scalable mode (SMTS, bit
  /// 43) only, which the kernel has to be told to use.
  private static func intel(
    _ name: String, _ register: UInt64, _ commandLine: String, _ configuration: KernelConfiguration?
  ) -> IOMMUUnit {
    let read = "the extended capabilities of \(name) are 0x\(String(register, radix: 16))"
    guard register >> 45 & 1 == 1, register >> 43 & 1 == 1 else {
      return IOMMUUnit(name: name, tracking: .unable, evidence: "\(read): no second-stage dirty bits (SSADS)")
    }
    // Later options win.
    let options = commandLine.split(separator: " ").filter { $0.hasPrefix("intel_iommu=") }
      .flatMap { $0.dropFirst("intel_iommu=".count).split(separator: ",") }
    switch options.last(where: { $0 == "sm_on" || $0 == "sm_off" }) {
    case "sm_on": return IOMMUUnit(name: name, tracking: .able, evidence: "\(read): SSADS, and the kernel got sm_on")
    case "sm_off":
      return IOMMUUnit(name: name, tracking: .turnedOff, evidence: "\(read): SSADS, but the kernel got sm_off")
    default: break
    }
    guard let configuration else {
      return IOMMUUnit(
        name: name, tracking: .unknown, evidence: "\(read): SSADS; whether the kernel uses scalable mode nobody says")
    }
    let isOn = configuration["INTEL_IOMMU_SCALABLE_MODE_DEFAULT_ON"] != .off
    return IOMMUUnit(
      name: name, tracking: isOn ? .able : .turnedOff,
      evidence: "\(read): SSADS, and CONFIG_INTEL_IOMMU_SCALABLE_MODE_DEFAULT_ON is \(isOn ? "on" : "off")")
  }

  /// VT-d's Capability Register: second-stage pages of 2 MiB are bit 34, of 1 GiB bit 35 (SLLPS).
  private static func largestPage(_ register: UInt64) -> UInt64 {
    register >> 35 & 1 == 1 ? 1 << 30 : register >> 34 & 1 == 1 ? 2 << 20 : 4096
  }

  /// AMD's Extended Feature Register: dirty bits in the host's table (HDSup) are bit 52.
  private static func amd(_ name: String, _ register: UInt64) -> IOMMUUnit {
    let isAble = register >> 52 & 1 == 1
    return IOMMUUnit(
      name: name, tracking: isAble ? .able : .unable,
      evidence: "the extended features of \(name) are 0x\(String(register, radix: 16)): "
        + (isAble ? "HDSup" : "no dirty bits (HDSup)"))
  }
}
