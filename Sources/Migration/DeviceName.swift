// SPDX-License-Identifier: Apache-2.0

/// The name of a device as users write it: a PCI address, a mediated device's UUID, or a VFIO node's path.
public enum DeviceName: Hashable, Sendable {
  /// `ssss:bb:dd.f` in lower-case hexadecimal.
  case pci(String)
  /// The UUID of a mediated device, in lower case.
  case mediated(String)
  /// `/dev/vfio/devices/vfioN`.
  case node(String)

  /// Reads a name. A PCI address may come without its segment (`0000:` is then meant).
  /// - Returns: nil where the text is none of the three forms.
  public init?(_ text: String) {
    let lower = text.lowercased()
    if Self.isNode(text) {
      self = .node(text)
    } else if let address = Self.pciAddress(lower) {
      self = .pci(address)
    } else if Self.isUUID(lower) {
      self = .mediated(lower)
    } else {
      return nil
    }
  }

  private static func isNode(_ text: String) -> Bool {
    let prefix = "/dev/vfio/devices/vfio"
    let number = text.utf8.dropFirst(prefix.utf8.count)
    return text.hasPrefix(prefix) && (1...9).contains(number.count) && number.allSatisfy { (48...57).contains($0) }
  }

  private static func isHex(_ text: Substring, _ lengths: ClosedRange<Int>) -> Bool {
    lengths.contains(text.utf8.count) && text.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
  }

  private static func pciAddress(_ text: String) -> String? {
    var parts = text.split(separator: ":", omittingEmptySubsequences: false)
    if parts.count == 2 { parts.insert("0000", at: 0) }
    guard parts.count == 3, isHex(parts[0], 4...8), isHex(parts[1], 2...2) else { return nil }
    let slot = parts[2].split(separator: ".", omittingEmptySubsequences: false)
    guard slot.count == 2, isHex(slot[0], 2...2), isHex(slot[1], 1...1), let device = UInt8(slot[0], radix: 16),
      device < 32, let function = UInt8(slot[1], radix: 16), function < 8
    else { return nil }
    return parts.joined(separator: ":")
  }

  private static func isUUID(_ text: String) -> Bool {
    let parts = text.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count == 5 else { return false }
    return zip(parts, [8, 4, 4, 4, 12]).allSatisfy { part, length in isHex(part, length...length) }
  }
}

extension DeviceName: CustomStringConvertible {
  public var description: String {
    switch self {
    case .pci(let text), .mediated(let text), .node(let text): text
    }
  }
}
