// SPDX-License-Identifier: Apache-2.0
// The wire layout of docs/memory-format.md: how guest memory travels on a connection of its own.

/// The numbers of the memory format, version 1.
public enum MemoryFormat {
  /// The version that this code writes. A reader refuses another major version and takes any minor one.
  public static let version = (major: UInt16(1), minor: UInt16(0))
  /// The first eight bytes of each direction.
  public static let magic: [UInt8] = [0x89, 0x56, 0x46, 0x4d, 0x0d, 0x0a, 0x1a, 0x0a]
  /// Bytes of the preamble.
  public static let preambleSize = 24
  /// Bytes of a frame's header.
  public static let headerSize = 48
  /// The most bytes of guest memory in one frame.
  public static let maximumPagesSize = 1 << 20
  /// What guest addresses and lengths are multiples of, in bytes, whatever the size of a page is to anybody.
  public static let unit = DirtyLayout.unit
  /// The most guest ranges of a layout.
  public static let maximumRanges = DirtyLayout.maximumRanges

  /// The 24 bytes that each direction begins with.
  public static func preamble(checksum: StreamChecksum) -> [UInt8] {
    var bytes = magic
    bytes.append(littleEndian: version.major)
    bytes.append(littleEndian: version.minor)
    bytes.append(littleEndian: UInt32(0))
    bytes.append(littleEndian: checksum(bytes))
    return bytes
  }

  static func check(preamble bytes: Span<UInt8>, checksum: StreamChecksum) -> StreamError.Kind? {
    for index in magic.indices where bytes[index] != magic[index] { return .notAStream }
    guard checksum(bytes.extracting(0..<16)) == bytes.littleEndian(UInt64.self, at: 16) else { return .damagedPreamble }
    let major = bytes.littleEndian(UInt16.self, at: 8)
    if major != version.major { return .unsupportedVersion(major) }
    return bytes.littleEndian(UInt32.self, at: 12) == 0 ? nil : .damagedPreamble
  }
}

/// What a frame of guest memory is. 0 is invalid.
public enum MemoryFrameType: UInt16, CaseIterable, Hashable, Sendable {
  /// Which guest ranges there are.
  case layout = 1
  /// What is in some of the memory.
  case pages = 2
  /// Some of the memory is zero.
  case zero = 3
  /// Asks for ``synced``.
  case sync = 4
  /// All memory was sent.
  case end = 5
  /// From the destination: everything that came before a ``sync`` is in memory.
  case synced = 64

  /// The name that messages use.
  public var name: String { "\(self)" }

  /// The lengths that the payload may have, in bytes.
  public var payloadSizes: ClosedRange<Int> {
    switch self {
    case .layout: 24...8 + 16 * MemoryFormat.maximumRanges
    case .pages: Int(MemoryFormat.unit)...MemoryFormat.maximumPagesSize
    case .zero, .sync, .end, .synced: 0...0
    }
  }
}

/// A frame's header, without its checksums.
struct MemoryFrameHeader: Hashable, Sendable {
  /// The type's number as it is on the wire.
  var type: UInt16
  /// A reader that does not know the type skips the frame.
  var isOptional = false
  /// Bytes of payload.
  var length = 0
  /// The frame's number in its direction, from 0.
  var sequence: UInt64
  /// A guest address, or the number of a sync.
  var address: UInt64 = 0
  /// How many bytes are zero.
  var size: UInt64 = 0

  /// The type, where this code knows it.
  var knownType: MemoryFrameType? { MemoryFrameType(rawValue: type) }

  /// Writes the 48 bytes.
  func write(to bytes: inout MutableSpan<UInt8>, payloadChecksum: UInt64, checksum: StreamChecksum) {
    bytes.set(type, at: 0)
    bytes.set(UInt16(isOptional ? 1 : 0), at: 2)
    bytes.set(UInt32(length), at: 4)
    bytes.set(sequence, at: 8)
    bytes.set(address, at: 16)
    bytes.set(size, at: 24)
    bytes.set(payloadChecksum, at: 32)
    bytes.set(checksum(bytes.span.extracting(0..<40)), at: 40)
  }

  /// Reads the 48 bytes, the header's checksum first.
  /// - Returns: the header, and the checksum that the payload must have; nil where the bytes are damaged.
  static func decode(
    _ bytes: Span<UInt8>, checksum: StreamChecksum
  ) -> (header: MemoryFrameHeader, payloadChecksum: UInt64)? {
    guard checksum(bytes.extracting(0..<40)) == bytes.littleEndian(UInt64.self, at: 40) else { return nil }
    let flags = bytes.littleEndian(UInt16.self, at: 2)
    guard flags & ~1 == 0 else { return nil }
    let header = MemoryFrameHeader(
      type: bytes.littleEndian(UInt16.self, at: 0), isOptional: flags == 1,
      length: Int(bytes.littleEndian(UInt32.self, at: 4)), sequence: bytes.littleEndian(UInt64.self, at: 8),
      address: bytes.littleEndian(UInt64.self, at: 16), size: bytes.littleEndian(UInt64.self, at: 24))
    return (header, bytes.littleEndian(UInt64.self, at: 32))
  }
}

extension Span<UInt8> {
  /// The integer at an offset, of which all bytes are there.
  @inline(__always)
  func littleEndian<Value: FixedWidthInteger>(_: Value.Type, at offset: Int) -> Value {
    var value: Value = 0
    for index in 0..<(Value.bitWidth / 8) {
      value |= Value(truncatingIfNeeded: self[offset + index]) << Value(8 * index)
    }
    return value
  }
}

extension MutableSpan<UInt8> {
  /// Puts an integer at an offset, where there is room for all its bytes.
  @inline(__always)
  mutating func set<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
    for index in 0..<(Value.bitWidth / 8) {
      self[offset + index] = UInt8(truncatingIfNeeded: value >> Value(8 * index))
    }
  }
}
