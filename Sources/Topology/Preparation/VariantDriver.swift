// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO

/// Which driver gives a device to VFIO, as the kernel's modules say it: a module that has an alias with `vfio_pci:` in front
/// is for those devices, and only when it is asked for by `driver_override`.
struct VariantDriver {
  let root: SystemRoot

  /// An alias of a module.
  struct Alias: Hashable {
    var pattern: String
    var module: String
  }

  /// The module for a device: of those whose pattern fits, the one that leaves the least open; nil where none fits.
  /// - Parameter modalias: the device's, such as `pci:v000015B3d0000101Esv…`.
  static func module(for modalias: String, among aliases: [Alias]) -> String? {
    guard modalias.hasPrefix("pci:") else { return nil }
    let wanted = Array("vfio_\(modalias)".utf8)
    return aliases.filter { fits(Array($0.pattern.utf8)[...], wanted[...]) }
      .min { ($0.openness, $0.module) < ($1.openness, $1.module) }?.module
  }

  /// All aliases for VFIO that this kernel's modules have, those that are built in too.
  func aliases() -> [Alias] {
    guard let release = Attribute.text("\(root.proc)/sys/kernel/osrelease"), ThrottleRecord.isName(release, most: 128)
    else { return [] }
    let folder = "\(root.prefix)/lib/modules/\(release)"
    let loadable = (Files.text("\(folder)/modules.alias", maximum: Self.maximumSize) ?? "").utf8
      .split(separator: UInt8(ascii: "\n")).compactMap { Self.line(String(Substring($0))) }
    let builtIn = (Files.text("\(folder)/modules.builtin.modinfo", maximum: Self.maximumSize) ?? "").utf8
      .split(separator: 0).compactMap { Self.modinfo(String(Substring($0))) }
    return loadable + builtIn
  }

  private static let maximumSize = 64 << 20

  /// `alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_vfio_pci`
  static func line(_ text: String) -> Alias? {
    guard text.hasPrefix("alias vfio_pci:") else { return nil }
    let fields = text.split(separator: " ")
    guard fields.count == 3, ThrottleRecord.isName(fields[2], most: 64) else { return nil }
    return Alias(pattern: String(fields[1]), module: String(fields[2]))
  }

  /// `mlx5_vfio_pci.alias=vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i*`
  static func modinfo(_ text: String) -> Alias? {
    let parts = text.split(separator: "=", maxSplits: 1)
    guard parts.count == 2, parts[0].hasSuffix(".alias"), parts[1].hasPrefix("vfio_pci:") else { return nil }
    let module = parts[0].dropLast(6)
    guard ThrottleRecord.isName(module, most: 64) else { return nil }
    return Alias(pattern: String(parts[1]), module: String(module))
  }

  /// Whether a pattern, in which a star stands for any text, fits the whole of a text.
  static func fits(_ pattern: ArraySlice<UInt8>, _ text: ArraySlice<UInt8>) -> Bool {
    var (pattern, text) = (pattern, text)
    // The place to go on from with one character more for the last star.
    var retry: (pattern: ArraySlice<UInt8>, text: ArraySlice<UInt8>)?
    while true {
      if pattern.first == UInt8(ascii: "*") {
        pattern = pattern.dropFirst()
        retry = (pattern, text)
      } else if let next = text.first, pattern.first == next {
        pattern = pattern.dropFirst()
        text = text.dropFirst()
      } else if text.isEmpty, pattern.isEmpty {
        return true
      } else if let last = retry, !last.text.isEmpty {
        retry = (last.pattern, last.text.dropFirst())
        (pattern, text) = (last.pattern, last.text.dropFirst())
      } else {
        return false
      }
    }
  }

  // MARK: A module's driver

  /// The driver to bind to.
  /// - Parameters:
  ///   - modalias: the device's; nil where it is not known.
  ///   - asked: the driver that the operator named; nil for the one that is found.
  func choose(for modalias: String?, asked: String?) -> ChosenDriver {
    if let asked {
      if isRegistered(asked) { return ChosenDriver(name: asked) }
      return ChosenDriver(name: asked, module: Self.spelled(asked))
    }
    let found = modalias.flatMap { Self.module(for: $0, among: aliases()) } ?? "vfio_pci"
    // What the module has registered, once it is there.
    let registered = Files.names(in: "\(root.sys)/module/\(found)/drivers").first { $0.hasPrefix("pci:") }
    let name = registered.map { Attribute.harmless(String($0.dropFirst(4))) } ?? Self.driver(of: found)
    return ChosenDriver(name: name, module: isRegistered(name) ? nil : found)
  }

  private func isRegistered(_ driver: String) -> Bool { Files.exists("\(root.sys)/bus/pci/drivers/\(driver)") }

  /// A module's name has no dashes.
  static func spelled(_ driver: String) -> String { driver.split(separator: "-").joined(separator: "_") }

  /// Most drivers have their module's name; these do not.
  private static func driver(of module: String) -> String {
    switch module {
    case "vfio_pci": "vfio-pci"
    case "hisi_acc_vfio_pci": "hisi-acc-vfio-pci"
    default: module
    }
  }
}

extension VariantDriver.Alias {
  /// How much the pattern leaves open.
  fileprivate var openness: Int { pattern.utf8.count { $0 == UInt8(ascii: "*") } }
}
