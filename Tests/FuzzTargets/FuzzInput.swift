// SPDX-License-Identifier: Apache-2.0

/// An input, read from its start as choices. Where it has ended every choice is the first one, so that each input means
/// something and a shorter one means less.
struct FuzzInput {
  private let bytes: [UInt8]
  private var position = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// Whether every byte was read.
  var isEmpty: Bool { position >= bytes.count }

  mutating func byte() -> UInt8 {
    guard position < bytes.count else { return 0 }
    position += 1
    return bytes[position - 1]
  }

  /// An integer, in little-endian order.
  mutating func number<Number: FixedWidthInteger & UnsignedInteger>(_: Number.Type) -> Number {
    var number: Number = 0
    for place in 0..<Number.bitWidth / 8 { number |= Number(byte()) << Number(8 * place) }
    return number
  }

  /// One of so many, at most 256.
  mutating func choice(_ count: Int) -> Int { Int(byte()) % count }

  /// One of these.
  mutating func one<Element>(of elements: [Element]) -> Element { elements[choice(elements.count)] }

  mutating func flag() -> Bool { byte() & 1 != 0 }

  /// At most so many bytes.
  mutating func take(_ count: Int) -> [UInt8] {
    let end = min(bytes.count, position + count)
    defer { position = max(position, end) }
    return Array(bytes[min(position, end)..<end])
  }

  /// All that is left.
  mutating func rest() -> [UInt8] { take(bytes.count) }
}
