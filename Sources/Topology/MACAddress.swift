// SPDX-License-Identifier: Apache-2.0

/// An Ethernet address.
public struct MACAddress: Hashable, Sendable {
  /// Six bytes.
  public let bytes: [UInt8]

  /// nil for another number of bytes.
  public init?(bytes: [UInt8]) {
    guard bytes.count == 6 else { return nil }
    self.bytes = bytes
  }

  /// Reads `02:00:5e:00:00:01`; nil for what is no such thing.
  public init?(_ text: some StringProtocol) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    let bytes = parts.compactMap { part in
      part.utf8.count == 2 && part.utf8.first != UInt8(ascii: "+") ? UInt8(part, radix: 16) : nil
    }
    guard parts.count == 6, bytes.count == 6 else { return nil }
    self.bytes = bytes
  }

  /// Whether a function can have it: it is not a group's, and not all zeros.
  public var isOfOne: Bool { bytes[0] & 1 == 0 && bytes.contains { $0 != 0 } }
}

extension MACAddress: CustomStringConvertible {
  public var description: String {
    bytes.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined(separator: ":")
  }
}
