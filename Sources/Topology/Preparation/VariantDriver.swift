// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO

/// Which driver gives a device to VFIO, as the kernel's modules say it: a module that has an alias with `vfio_pci:` in front
/// is for those devices, and only when it is asked for by `driver_override`.
struct VariantDriver {
  let root: SystemRoot

  /// The driver to bind to.
  /// - Parameters:
  ///   - modalias: the device's; nil where it is not known.
  ///   - asked: the driver that the operator named; nil for the one that is found.
  func choose(for modalias: String?, asked: String?) -> ChosenDriver {
    if let asked {
      if isRegistered(asked) { return ChosenDriver(name: asked) }
      return ChosenDriver(name: asked, module: KernelModules.canonical(asked))
    }
    let release = Attribute.text("\(root.proc)/sys/kernel/osrelease").flatMap {
      ThrottleRecord.isName($0, most: 128) ? $0 : nil
    }
    let aliases = release.map { ModuleAliases(folder: "\(root.modules)/\($0)") }
    let found = modalias.flatMap { aliases?.modules(for: $0).first } ?? "vfio_pci"
    // What the module has registered, once it is there.
    let registered = Files.names(in: "\(root.sys)/module/\(found)/drivers").first { $0.hasPrefix("pci:") }
    let name = registered.map { Attribute.harmless(String($0.dropFirst(4))) } ?? Self.driver(of: found)
    return ChosenDriver(name: name, module: isRegistered(name) ? nil : found)
  }

  private func isRegistered(_ driver: String) -> Bool { Files.exists("\(root.sys)/bus/pci/drivers/\(driver)") }

  /// Drivers have their module's name, but for this one.
  private static func driver(of module: String) -> String { module == "vfio_pci" ? "vfio-pci" : module }
}
