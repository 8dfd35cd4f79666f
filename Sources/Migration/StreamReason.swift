// SPDX-License-Identifier: Apache-2.0

/// Why a destination ends a move, in words for the person at the source: one line of printable ASCII, because it comes from
/// another host and goes to a terminal.
public struct StreamReason: Hashable, Sendable {
  /// One to ``StreamFormat/maximumReasonSize`` bytes.
  let bytes: [UInt8]

  /// What can't be printed becomes a question mark, and what is too long is cut.
  init(printing bytes: [UInt8]) {
    let shown = bytes.prefix(StreamFormat.maximumReasonSize).map { (0x20...0x7e).contains($0) ? $0 : UInt8(ascii: "?") }
    self.bytes = shown.isEmpty ? Array("no reason".utf8) : shown
  }

  /// These words, as far as they can be sent.
  public init(_ words: String) { self.init(printing: Array(words.utf8)) }
}

extension StreamReason: CustomStringConvertible {
  public var description: String { String(decoding: bytes, as: UTF8.self) }
}
