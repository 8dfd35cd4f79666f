// SPDX-License-Identifier: Apache-2.0

/// Amounts as a command line has them. Nil is what is none, or too large.
enum Quantity {
  /// A number of bytes: decimal or `0x…`, with K, M, G or T for powers of 1024.
  static func bytes(_ text: some StringProtocol) -> UInt64? {
    // In hexadecimal no unit is a digit.
    scaled(text, by: 1024, upTo: "KMGT", number)
  }

  /// `START+LENGTH`, each as in ``bytes(_:)``: whole units of 4 KiB, and not empty.
  static func range(_ text: String) -> Range<UInt64>? {
    let parts = text.split(separator: "+", omittingEmptySubsequences: false)
    guard parts.count == 2, let start = bytes(parts[0]), let length = bytes(parts[1]), length > 0 else { return nil }
    let (end, overflow) = start.addingReportingOverflow(length)
    return overflow || (start | length) % 4096 != 0 ? nil : start..<end
  }

  /// A link's rate in bits a second, with K, M, G or T for powers of 1000; `bit`, `bit/s` or nothing may follow.
  /// - Returns: bytes a second, at least 1.
  static func linkRate(_ text: String) -> UInt64? {
    var rest = Substring(text.lowercased())
    for unit in ["/s", "bit"] where rest.hasSuffix(unit) { rest = rest.dropLast(unit.count) }
    let bits = scaled(rest, by: 1000, upTo: "KMGT") { text in
      let digits = text.last == " " ? text.dropLast() : text
      return digits.allSatisfy(\.isASCIIDigit) ? UInt64(digits) : nil
    }
    return bits.flatMap { $0 < 8 ? nil : $0 / 8 }
  }

  private static func number(_ text: Substring) -> UInt64? {
    let hexadecimal = text.hasPrefix("0x") || text.hasPrefix("0X")
    let digits = hexadecimal ? text.dropFirst(2) : text
    // UInt64 would take a sign too.
    guard let first = digits.first, first != "+", first != "-" else { return nil }
    return UInt64(digits, radix: hexadecimal ? 16 : 10)
  }

  private static func scaled(
    _ text: some StringProtocol, by base: UInt64, upTo units: String, _ number: (Substring) -> UInt64?
  ) -> UInt64? {
    var rest = Substring(text)
    var factor: UInt64 = 1
    if let last = rest.last?.uppercased().first, let index = units.firstIndex(of: last) {
      rest = rest.dropLast()
      for _ in 0...units.distance(from: units.startIndex, to: index) { factor *= base }
    }
    guard let value = number(rest) else { return nil }
    let (product, overflow) = value.multipliedReportingOverflow(by: factor)
    return overflow ? nil : product
  }
}

extension Character {
  fileprivate var isASCIIDigit: Bool { ("0"..."9").contains(self) }
}
