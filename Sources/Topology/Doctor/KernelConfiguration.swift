// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO

/// What a kernel was built with, where it or its package says so.
public struct KernelConfiguration: Hashable, Sendable {
  /// How something was built.
  public enum Option: Hashable, Sendable {
    /// Not at all, or this kernel does not know it.
    case off
    /// As a module.
    case module
    /// Into the kernel.
    case builtIn
  }

  /// The file that says so.
  public let path: String
  private let options: [String: Option]

  /// More than the configuration of any kernel has: some 300 kB.
  private static let maximumSize = 4 << 20

  /// The configuration of the kernel of that release; nil where no file tells.
  init?(root: SystemRoot, release: String?) {
    if let packed = try? Files.readBytes("\(root.proc)/config.gz", maximum: Self.maximumSize),
      let text = GzipText.unpacked(packed, maximum: Self.maximumSize)
    {
      self.init(path: "\(root.proc)/config.gz", text: String(decoding: text, as: UTF8.self))
      return
    }
    guard let release else { return nil }
    for path in ["\(root.boot)/config-\(release)", "\(root.modules)/\(release)/config"] {
      guard let text = Files.text(path, maximum: Self.maximumSize) else { continue }
      self.init(path: path, text: text)
      return
    }
    return nil
  }

  /// - Parameter text: lines such as `CONFIG_VFIO=m`; others say nothing.
  init(path: String, text: String) {
    self.path = path
    var options: [String: Option] = [:]
    for line in text.utf8.split(separator: UInt8(ascii: "\n")) {
      let parts = line.split(separator: UInt8(ascii: "="))
      guard parts.count == 2, let name = parts.first, name.starts(with: "CONFIG_".utf8) else { continue }
      switch Substring(parts[1]) {
      case "y": options[String(Substring(name.dropFirst(7)))] = .builtIn
      case "m": options[String(Substring(name.dropFirst(7)))] = .module
      default: break
      }
    }
    self.options = options
  }

  /// How an option was built, by its name without `CONFIG_`.
  public subscript(name: String) -> Option { options[name] ?? .off }
}

/// A kernel's version, for what came with one.
struct KernelVersion: Comparable {
  var major: Int
  var minor: Int

  /// The first two numbers of a release such as "6.12.30-amd64"; nil where it does not begin with them.
  init?(release: String) {
    let parts = release.split(separator: ".", maxSplits: 2, omittingEmptySubsequences: false)
    guard parts.count >= 2, let major = Int(parts[0]), let minor = Int(parts[1].prefix { $0.isNumber }) else {
      return nil
    }
    self.init(major, minor)
  }

  init(_ major: Int, _ minor: Int) {
    self.major = major
    self.minor = minor
  }

  static func < (one: KernelVersion, other: KernelVersion) -> Bool {
    (one.major, one.minor) < (other.major, other.minor)
  }
}
