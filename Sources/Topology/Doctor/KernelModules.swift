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
  private let aliases: [Alias]

  private struct Alias: Hashable, Sendable {
    var pattern: String
    var module: String
  }

  /// More than such a list has: the longest is some 2 MB.
  private static let maximumSize = 32 << 20

  init(root: SystemRoot, release: String?) {
    folder = "\(root.modules)/\(release ?? "")"
    loaded = Set(Files.names(in: "\(root.sys)/module").map(Self.canonical))
    builtIn = Set(Self.lines("\(folder)/modules.builtin").map(Self.name))
    let dependencies = Self.lines("\(folder)/modules.dep")
    installed = dependencies.isEmpty ? nil : Set(dependencies.map(Self.name))
    aliases = Self.aliases(in: folder)
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
    guard alias.hasPrefix("pci:") else { return [] }
    let wanted = Array(("vfio_" + alias).utf8)
    var found: [String] = []
    for candidate in aliases where candidate.module != "vfio_pci" && !found.contains(candidate.module) {
      if Self.fits(Array(candidate.pattern.utf8), wanted) { found.append(candidate.module) }
    }
    return found
  }

  /// The same name for what is written with dashes and with underscores.
  static func canonical(_ name: String) -> String { String(name.map { $0 == "-" ? "_" : $0 }) }

  // MARK: Lists

  private static func lines(_ path: String) -> [Substring] {
    guard let text = Files.text(path, maximum: maximumSize) else { return [] }
    return text.utf8.split(separator: UInt8(ascii: "\n")).map { Substring($0) }
  }

  /// The module's name in `kernel/drivers/vfio/vfio.ko.xz: …`.
  private static func name(_ line: Substring) -> String {
    let path = line.utf8.prefix { $0 != UInt8(ascii: ":") }
    let file = path.split(separator: UInt8(ascii: "/")).last ?? path
    return canonical(String(Substring(file.prefix { $0 != UInt8(ascii: ".") })))
  }

  /// `alias PATTERN MODULE` in one list, and `MODULE.alias=PATTERN` for what is a part of the kernel in the other, where lines
  /// end with a zero.
  private static func aliases(in folder: String) -> [Alias] {
    /// Names are shown, and may come from what somebody sent.
    func alias(_ pattern: Substring, _ module: Substring) -> Alias {
      Alias(pattern: String(pattern), module: Attribute.harmless(canonical(String(module))))
    }
    var aliases: [Alias] = []
    for line in lines("\(folder)/modules.alias") where line.utf8.starts(with: "alias vfio_pci:".utf8) {
      let words = line.utf8.split(separator: UInt8(ascii: " "))
      guard words.count == 3 else { continue }
      aliases.append(alias(Substring(words[1]), Substring(words[2])))
    }
    let text = Files.text("\(folder)/modules.builtin.modinfo", maximum: maximumSize) ?? ""
    for line in text.utf8.split(separator: 0) {
      let parts = line.split(separator: UInt8(ascii: "="), maxSplits: 1)
      guard parts.count == 2, parts[1].starts(with: "vfio_pci:".utf8) else { continue }
      let name = Substring(parts[0])
      guard name.hasSuffix(".alias") else { continue }
      aliases.append(alias(Substring(parts[1]), name.dropLast(6)))
    }
    return aliases
  }

  /// Whether a text is what a pattern stands for, in which `*` is any number of characters and `?` is one. No alias of a PCI
  /// device has other wildcards.
  static func fits(_ pattern: [UInt8], _ text: [UInt8]) -> Bool {
    var (place, here) = (0, 0)
    // Where the last star was, and how much of the text it has taken.
    var star: (place: Int, taken: Int)?
    while here < text.count {
      if place < pattern.count, pattern[place] == UInt8(ascii: "*") {
        star = (place, here)
        place += 1
      } else if place < pattern.count, pattern[place] == text[here] || pattern[place] == UInt8(ascii: "?") {
        place += 1
        here += 1
      } else if let last = star {
        star = (last.place, last.taken + 1)
        place = last.place + 1
        here = last.taken + 1
      } else {
        return false
      }
    }
    return pattern[place...].allSatisfy { $0 == UInt8(ascii: "*") }
  }
}
