// SPDX-License-Identifier: Apache-2.0
// The wire layout of docs/stream-format.md. Which frame may follow which is in StreamGrammar.swift.

/// The numbers of the stream format, version 1.
public enum StreamFormat {
  /// The version that this code writes. A reader refuses another major version and takes any minor one.
  public static let version = (major: UInt16(1), minor: UInt16(1))
  /// The first eight bytes of every stream.
  public static let magic: [UInt8] = [0x89, 0x56, 0x46, 0x46, 0x0d, 0x0a, 0x1a, 0x0a]
  /// Bytes of the preamble.
  public static let preambleSize = 24
  /// Bytes of a frame's header.
  public static let headerSize = 40
  /// The most bytes of device state in one frame, and so the size of a transfer buffer.
  public static let maximumDataSize = 1 << 20
  /// The most bytes of a manifest.
  public static let maximumManifestSize = 4 << 20
  /// The most bytes of the words with which a destination gives up.
  public static let maximumReasonSize = 1024
  /// The most devices in one stream.
  public static let maximumDevices = 256
}

/// The checksum of the stream: XXH3 with 64 bits. `Migration` holds no C, so whoever runs a session hands it in.
public struct StreamChecksum: Sendable {
  private let function: @Sendable (Span<UInt8>) -> UInt64

  /// A checksum that is computed by this function.
  public init(_ function: @escaping @Sendable (Span<UInt8>) -> UInt64) { self.function = function }

  /// The checksum of these bytes.
  public func callAsFunction(_ bytes: Span<UInt8>) -> UInt64 { function(bytes) }

  func callAsFunction(_ bytes: [UInt8]) -> UInt64 { function(bytes.span) }
}

/// What a frame is. 0 is invalid.
public enum FrameType: UInt16, CaseIterable, Hashable, Sendable {
  /// Which devices the stream carries.
  case manifest = 1
  /// Opaque state of one device.
  case deviceData = 2
  /// All of a device's initial pre-copy data has been sent.
  case initialComplete = 3
  /// What was sent of a device so far is void: its guest reset it.
  case void = 4
  /// What a VMM keeps for a device itself.
  case vmmState = 5
  /// A device's state is complete; carries the totals.
  case deviceEnd = 6
  /// Every device's state is complete; carries the number of frames.
  case end = 7
  /// The source lets go: its devices never run again by themselves, and the destination's may.
  case commit = 8
  /// From the destination: the initial pre-copy data of a device is in the device.
  case initialLoaded = 64
  /// From the destination: every device has taken in its whole state, and is stopped.
  case loaded = 65
  /// From the destination: every device runs.
  case running = 66
  /// From the destination: it ends the move, with the reason in words.
  case givenUp = 67

  /// The name that messages use.
  public var name: String {
    switch self {
    case .manifest: "manifest"
    case .deviceData: "device-data"
    case .initialComplete: "initial-complete"
    case .void: "void"
    case .vmmState: "vmm-state"
    case .deviceEnd: "device-end"
    case .end: "end"
    case .commit: "commit"
    case .initialLoaded: "initial-loaded"
    case .loaded: "loaded"
    case .running: "running"
    case .givenUp: "given-up"
    }
  }

  /// Whether the frame is about one device, not the whole stream.
  public var isAboutOneDevice: Bool {
    switch self {
    case .deviceData, .initialComplete, .void, .vmmState, .deviceEnd, .initialLoaded: true
    case .manifest, .end, .commit, .loaded, .running, .givenUp: false
    }
  }

  /// Whether the frame goes from the destination to the source.
  public var isAnswer: Bool {
    switch self {
    case .initialLoaded, .loaded, .running, .givenUp: true
    case .manifest, .deviceData, .initialComplete, .void, .vmmState, .deviceEnd, .end, .commit: false
    }
  }

  /// Whether a reader that does not know the type may skip the frame: what came after version 1.0.
  public var isOptional: Bool { self == .givenUp }

  /// The lengths that the payload may have, in bytes.
  public var payloadSizes: ClosedRange<Int> {
    switch self {
    case .manifest: 8...StreamFormat.maximumManifestSize
    case .deviceData: 1...StreamFormat.maximumDataSize
    case .initialComplete, .void, .commit, .initialLoaded, .loaded, .running: 0...0
    case .vmmState: 0...StreamFormat.maximumDataSize
    case .deviceEnd: 16...16
    case .end: 8...8
    case .givenUp: 1...StreamFormat.maximumReasonSize
    }
  }
}

/// A frame's header, without its checksums.
public struct FrameHeader: Hashable, Sendable {
  /// The type's number as it is on the wire.
  public var type: UInt16
  /// A reader that does not know the type skips the frame.
  public var isOptional: Bool
  /// Index into the manifest; nil for a frame about the whole stream.
  public var device: Int?
  /// The frame's number in the stream, from 0.
  public var sequence: UInt64
  /// Bytes of payload.
  public var length: Int

  /// The header of a frame that this code knows.
  public init(type: FrameType, device: Int? = nil, sequence: UInt64, length: Int) {
    self.type = type.rawValue
    isOptional = type.isOptional
    self.device = device
    self.sequence = sequence
    self.length = length
  }

  private init(fields: inout ByteReader) {
    type = fields.u16()
    let flags = fields.u16()
    isOptional = flags & 1 != 0
    let index = fields.u32()
    device = index == .max ? nil : Int(index)
    sequence = fields.u64()
    length = Int(fields.u32())
  }

  /// The type, where this code knows it.
  public var knownType: FrameType? { FrameType(rawValue: type) }

  /// The 40 bytes on the wire.
  public func encoded(payload: Span<UInt8>, checksum: StreamChecksum) -> [UInt8] {
    encoded(payloadChecksum: checksum(payload), checksum: checksum)
  }

  /// The 40 bytes on the wire, for a payload whose checksum is known already.
  public func encoded(payloadChecksum: UInt64, checksum: StreamChecksum) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(StreamFormat.headerSize)
    bytes.append(littleEndian: type)
    bytes.append(littleEndian: UInt16(isOptional ? 1 : 0))
    bytes.append(littleEndian: device.map { UInt32($0) } ?? .max)
    bytes.append(littleEndian: sequence)
    bytes.append(littleEndian: UInt32(length))
    bytes.append(littleEndian: UInt32(0))
    bytes.append(littleEndian: payloadChecksum)
    bytes.append(littleEndian: checksum(bytes))
    return bytes
  }

  /// Reads the 40 bytes, the header's checksum first.
  /// - Returns: the header, and the checksum that the payload must have; nil where the bytes are damaged.
  static func decode(
    _ bytes: Span<UInt8>, checksum: StreamChecksum
  ) -> (header: FrameHeader, payloadChecksum: UInt64)? {
    var trailer = ByteReader(bytes.extracting(32..<40))
    guard checksum(bytes.extracting(0..<32)) == trailer.u64() else { return nil }
    var fields = ByteReader(bytes)
    let header = FrameHeader(fields: &fields)
    let reserved = fields.u32()
    let payloadChecksum = fields.u64()
    var flags = ByteReader(bytes.extracting(2..<4))
    guard reserved == 0, flags.u16() & ~1 == 0 else { return nil }
    return (header, payloadChecksum)
  }
}

extension StreamFormat {
  /// The 24 bytes that every stream begins with.
  public static func preamble(checksum: StreamChecksum) -> [UInt8] {
    var bytes = magic
    bytes.append(littleEndian: version.major)
    bytes.append(littleEndian: version.minor)
    bytes.append(littleEndian: UInt32(0))
    bytes.append(littleEndian: checksum(bytes))
    return bytes
  }

  enum PreambleProblem: Hashable, Sendable {
    case notAStream
    case damaged
    case majorVersion(UInt16)
  }

  static func check(preamble bytes: Span<UInt8>, checksum: StreamChecksum) -> PreambleProblem? {
    for index in magic.indices where bytes[index] != magic[index] { return .notAStream }
    var fields = ByteReader(bytes.extracting(8..<24))
    let major = fields.u16()
    _ = fields.u16()
    let reserved = fields.u32()
    guard checksum(bytes.extracting(0..<16)) == fields.u64() else { return .damaged }
    if major != version.major { return .majorVersion(major) }
    return reserved == 0 ? nil : .damaged
  }
}
