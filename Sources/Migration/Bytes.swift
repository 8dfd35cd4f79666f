// SPDX-License-Identifier: Apache-2.0

extension [UInt8] {
  mutating func append(littleEndian value: some FixedWidthInteger) {
    var rest = value
    for _ in 0..<(value.bitWidth / 8) {
      append(UInt8(truncatingIfNeeded: rest))
      rest >>= 8
    }
  }
}

extension Array {
  init(copying span: Span<Element>) {
    self.init()
    reserveCapacity(span.count)
    for index in span.indices { append(span[index]) }
  }
}

/// Reads little-endian fields one after the other. Reading past the end traps: callers compare ``remaining`` first.
struct ByteReader {
  private let bytes: [UInt8]
  private var position = 0

  init(_ bytes: Span<UInt8>) { self.bytes = Array(copying: bytes) }

  var remaining: Int { bytes.count - position }

  private mutating func integer<T: FixedWidthInteger>(_: T.Type) -> T {
    var value: T = 0
    for index in 0..<(T.bitWidth / 8) {
      value |= T(truncatingIfNeeded: bytes[position + index]) << T(8 * index)
    }
    position += T.bitWidth / 8
    return value
  }

  mutating func u16() -> UInt16 { integer(UInt16.self) }
  mutating func u32() -> UInt32 { integer(UInt32.self) }
  mutating func u64() -> UInt64 { integer(UInt64.self) }

  mutating func array(_ count: Int) -> [UInt8] {
    let start = position
    position += count
    return Array(bytes[start..<position])
  }

  mutating func skip(_ count: Int) { position += count }
}
