// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO

/// The aliases that a kernel's modules have for devices that are to be VFIO's: patterns with `vfio_pci:` in front, which only
/// `driver_override` asks for.
struct ModuleAliases: Hashable, Sendable {
  fileprivate struct Alias: Hashable {
    var pattern: String
    /// With underscores; no path, and nothing that a terminal takes for more than text.
    var module: String
  }

  private let aliases: [Alias]

  /// More than such a list has: the longest is some 2 MB.
  static let maximumSize = 64 << 20

  /// Those of the modules in a folder such as /lib/modules/6.12.1, and of what is a part of that kernel; none where there is no
  /// list.
  init(folder: String) {
    self.init(
      loadable: Files.text("\(folder)/modules.alias", maximum: Self.maximumSize) ?? "",
      builtIn: Files.text("\(folder)/modules.builtin.modinfo", maximum: Self.maximumSize) ?? "")
  }

  /// - Parameters:
  ///   - loadable: lines `alias PATTERN MODULE`.
  ///   - builtIn: lines `MODULE.alias=PATTERN`, each with a zero at its end.
  init(loadable: String = "", builtIn: String = "") {
    aliases =
      loadable.utf8.split(separator: UInt8(ascii: "\n")).compactMap { line in
        let words = line.split(separator: UInt8(ascii: " "))
        guard words.count == 3, words[0].elementsEqual("alias".utf8) else { return nil }
        return Self.alias(Substring(words[1]), Substring(words[2]))
      }
      + builtIn.utf8.split(separator: 0).compactMap { line in
        let parts = line.split(separator: UInt8(ascii: "="), maxSplits: 1)
        guard parts.count == 2, Substring(parts[0]).hasSuffix(".alias") else { return nil }
        return Self.alias(Substring(parts[1]), Substring(parts[0]).dropLast(6))
      }
  }

  private static func alias(_ pattern: Substring, _ module: Substring) -> Alias? {
    guard pattern.utf8.starts(with: "vfio_pci:".utf8), ThrottleRecord.isName(module, most: 64) else { return nil }
    return Alias(pattern: String(pattern), module: KernelModules.canonical(String(module)))
  }

  /// Whether there are any.
  var isEmpty: Bool { aliases.isEmpty }

  /// The modules that are for a device, those first whose pattern leaves the least open: vfio_pci, which is for all, comes last.
  /// - Parameter modalias: the device's, such as `pci:v000015B3d0000101Esv…`.
  func modules(for modalias: String) -> [String] {
    guard modalias.hasPrefix("pci:") else { return [] }
    let wanted = Array("vfio_\(modalias)".utf8)
    let fitting = aliases.filter { Self.fits(Array($0.pattern.utf8), wanted) }
      .sorted { ($0.openness, $0.module) < ($1.openness, $1.module) }
    var modules: [String] = []
    for alias in fitting where !modules.contains(alias.module) { modules.append(alias.module) }
    return modules
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

extension ModuleAliases.Alias {
  /// How much the pattern leaves open.
  fileprivate var openness: Int { pattern.utf8.count { $0 == UInt8(ascii: "*") } }
}
