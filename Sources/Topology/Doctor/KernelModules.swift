// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO

/// Which modules a kernel has, and which of them drive a PCI device for VFIO better than vfio-pci does.
public struct KernelModules: Hashable, Sendable {
  /// Where a module is.
  public enum Presence: String, Hashable, Sendable {
    /// In the kernel now.
    case loaded
    /// A part of the kernel.
    case builtIn = "built in"
    /// In a file, and not loaded.
    case installed
    /// Nowhere.
    case absent
    /// There is no list of this kernel's modules.
    case unknown
  }

  /// Where the kernel's lists of modules are looked for.
  public let folder: String
  private let loaded: Set<String>
  private let builtIn: Set<String>
  /// nil where there is no list.
  private let installed: Set<String>?
  private let aliases: ModuleAliases

  init(root: SystemRoot, release: String?) {
    folder = "\(root.modules)/\(release ?? "")"
    loaded = Set(Files.names(in: "\(root.sys)/module").map(Self.canonical))
    builtIn = Set(Self.lines("\(folder)/modules.builtin").map(Self.name))
    let dependencies = Self.lines("\(folder)/modules.dep")
    installed = dependencies.isEmpty ? nil : Set(dependencies.map(Self.name))
    aliases = ModuleAliases(folder: folder)
  }

  /// Where a module is; its name with dashes or underscores.
  public func presence(of module: String) -> Presence {
    let name = Self.canonical(module)
    // A part of the kernel has a folder in /sys/module, too, if it has parameters.
    if builtIn.contains(name) { return .builtIn }
    if loaded.contains(name) { return .loaded }
    guard let installed else { return .unknown }
    return installed.contains(name) ? .installed : .absent
  }

  /// Whether there is a list of the aliases that modules have.
  public var hasAliases: Bool { !aliases.isEmpty }

  /// The variant drivers for a PCI device: modules whose alias of the kind `vfio_pci:…` fits the device, but for vfio-pci,
  /// which fits all.
  /// - Parameter alias: the device's own, as its file `modalias` has it: `pci:v000015B3d…`.
  public func variantDrivers(for alias: String) -> [String] {
    aliases.modules(for: alias).filter { $0 != "vfio_pci" }
  }

  /// The same name for what is written with dashes and with underscores.
  static func canonical(_ name: String) -> String { String(name.map { $0 == "-" ? "_" : $0 }) }

  // MARK: Lists

  private static func lines(_ path: String) -> [Substring] {
    guard let text = Files.text(path, maximum: ModuleAliases.maximumSize) else { return [] }
    return text.utf8.split(separator: UInt8(ascii: "\n")).map { Substring($0) }
  }

  /// The module's name in `kernel/drivers/vfio/vfio.ko.xz: …`.
  private static func name(_ line: Substring) -> String {
    let path = line.utf8.prefix { $0 != UInt8(ascii: ":") }
    let file = path.split(separator: UInt8(ascii: "/")).last ?? path
    return canonical(String(Substring(file.prefix { $0 != UInt8(ascii: ".") })))
  }
}
