// SPDX-License-Identifier: Apache-2.0

/// A frame that was read and checked.
public enum StreamItem: Hashable, Sendable {
  /// The devices of the stream.
  case manifest(StreamManifest)
  /// Opaque state of a device: the payload, which stays in the caller's buffer.
  case deviceData(device: Int, bytes: Int)
  /// All of the device's initial pre-copy data has come.
  case initialComplete(device: Int)
  /// What came of the device so far is void.
  case void(device: Int)
  /// What the VMM keeps for the device.
  case vmmState(device: Int, bytes: [UInt8])
  /// The device's state is complete: bytes since its start or last void.
  case deviceEnd(device: Int, bytes: UInt64)
  /// Every device's state is complete.
  case end
  /// The source lets go of its devices.
  case commit
  /// From the destination: the device has taken in its initial pre-copy data.
  case initialLoaded(device: Int)
  /// From the destination: every device has taken in its state.
  case loaded
  /// From the destination: every device runs.
  case running
  /// From the destination: it ends the move, and why.
  case givenUp(StreamReason)
  /// An optional frame of a type that this code does not know.
  case skipped(type: UInt16)
}

/// Reads a stream, sans-IO: says how many bytes it wants next and takes exactly these.
///
/// Nothing is believed before its checksum and its caps were checked; the first fault ends the reading.
public struct StreamReader: Sendable {
  private enum Expectation: Hashable, Sendable {
    case preamble
    case header
    case payload(FrameHeader, checksum: UInt64)
  }

  private let checksum: StreamChecksum
  private var expectation = Expectation.preamble
  private var grammar = StreamGrammar()
  private var position: UInt64 = 0
  private var place = "the preamble"
  private var placeOffset: UInt64 = 0

  /// A reader at the start of a stream, in either direction.
  public init(checksum: StreamChecksum) { self.checksum = checksum }

  /// How many bytes ``take(_:)`` wants; 0 after the last frame.
  public var wanted: Int {
    switch expectation {
    case .preamble: StreamFormat.preambleSize
    case .header: grammar.isEnded ? 0 : StreamFormat.headerSize
    case .payload(let header, _): header.length
    }
  }

  /// Whether the last frame was read: the end or, where the manifest promised one, the commit.
  public var isEnded: Bool { grammar.isEnded }

  /// Bytes read so far.
  public var bytesRead: UInt64 { position }

  /// Frames read so far, skipped ones included.
  public var framesRead: UInt64 { grammar.nextSequence }

  /// Where the frame that is being read begins, in bytes.
  public var frameOffset: UInt64 { placeOffset }

  /// The fault of a stream that ends here although more was wanted.
  public var incomplete: StreamError {
    fault(.incomplete)
  }

  /// The fault of a stream that ends this many bytes into what was wanted.
  public func incomplete(after bytes: Int) -> StreamError {
    bytes == 0 ? incomplete : fault(.incomplete)
  }

  /// The fault of a stream that goes on after its end frame.
  public var trailing: StreamError {
    StreamError(.trailingBytes, place: "after the end frame", offset: position)
  }

  private func fault(_ kind: StreamError.Kind) -> StreamError {
    StreamError(kind, place: place, offset: placeOffset)
  }

  /// Takes exactly ``wanted`` bytes.
  /// - Returns: the frame that they complete, or nil where more of it is to come.
  public mutating func take(_ bytes: Span<UInt8>) throws(StreamError) -> StreamItem? {
    precondition(!isEnded, "the reader takes nothing after the end frame")
    precondition(bytes.count == wanted, "the reader wants \(wanted) bytes, not \(bytes.count)")
    switch expectation {
    case .preamble:
      try takePreamble(bytes)
      return nil
    case .header:
      placeOffset = position
      position += UInt64(bytes.count)
      return try takeHeader(bytes)
    case .payload(let header, let expected):
      position += UInt64(bytes.count)
      return try takePayload(bytes, header, expected)
    }
  }

  private mutating func takePreamble(_ bytes: Span<UInt8>) throws(StreamError) {
    switch StreamFormat.check(preamble: bytes, checksum: checksum) {
    case .notAStream: throw fault(.notAStream)
    case .damaged: throw fault(.damagedPreamble)
    case .majorVersion(let major): throw fault(.unsupportedVersion(major))
    case nil: break
    }
    position += UInt64(bytes.count)
    nextFrame()
  }

  private mutating func nextFrame() {
    expectation = .header
    place = "frame \(grammar.nextSequence)"
    placeOffset = position
  }

  private mutating func takeHeader(_ bytes: Span<UInt8>) throws(StreamError) -> StreamItem? {
    guard let (header, expected) = FrameHeader.decode(bytes, checksum: checksum) else { throw fault(.damagedHeader) }
    let device = header.device.map { " of device \($0)" } ?? ""
    place = "frame \(grammar.nextSequence) (\(header.knownType?.name ?? "type \(header.type)")\(device))"
    guard header.sequence == grammar.nextSequence else {
      throw fault(.invalid("its sequence number is \(header.sequence): frames are missing or out of order"))
    }
    if let type = header.knownType {
      guard type.payloadSizes.contains(header.length) else {
        throw fault(.invalid("a \(type.name) frame can't have \(header.length) bytes"))
      }
    } else {
      guard header.isOptional else { throw fault(.unknownMandatoryFrame(header.type)) }
      guard header.length <= StreamFormat.maximumDataSize else {
        throw fault(.invalid("it claims \(header.length) bytes"))
      }
    }
    expectation = .payload(header, checksum: expected)
    // A frame without payload is complete; its checksum is that of no bytes.
    if header.length == 0 { return try takePayload(bytes.extracting(0..<0), header, expected) }
    return nil
  }

  private mutating func takePayload(
    _ bytes: Span<UInt8>, _ header: FrameHeader, _ expected: UInt64
  ) throws(StreamError) -> StreamItem {
    guard checksum(bytes) == expected else { throw fault(.damagedPayload) }
    let item: StreamItem
    do {
      item = try interpret(bytes, header)
    } catch let violation as StreamGrammar.Violation {
      throw fault(.invalid(violation.reason))
    } catch let malformed as StreamManifest.Malformed {
      throw fault(.invalid("the manifest is malformed: \(malformed.reason)"))
    } catch {
      throw fault(.invalid("\(error)"))
    }
    nextFrame()
    return item
  }

  private mutating func interpret(_ bytes: Span<UInt8>, _ header: FrameHeader) throws -> StreamItem {
    guard let type = header.knownType else {
      grammar.skip()
      return .skipped(type: header.type)
    }
    if type == .manifest {
      if header.device != nil { throw StreamGrammar.Violation(reason: "its device field does not fit its type") }
      let manifest = try StreamManifest(decoding: bytes)
      try grammar.take(manifest: manifest)
      return .manifest(manifest)
    }
    var numbers: [UInt64] = []
    if type == .deviceEnd || type == .end {
      var reader = ByteReader(bytes)
      while reader.remaining >= 8 { numbers.append(reader.u64()) }
    }
    try grammar.take(type, device: header.device, length: bytes.count, numbers: numbers)
    let device = header.device ?? 0
    switch type {
    case .deviceData: return .deviceData(device: device, bytes: bytes.count)
    case .initialComplete: return .initialComplete(device: device)
    case .void: return .void(device: device)
    case .vmmState: return .vmmState(device: device, bytes: Array(copying: bytes))
    case .deviceEnd: return .deviceEnd(device: device, bytes: numbers[0])
    case .initialLoaded: return .initialLoaded(device: device)
    case .commit: return .commit
    case .loaded: return .loaded
    case .running: return .running
    case .givenUp: return .givenUp(StreamReason(printing: Array(copying: bytes)))
    case .end, .manifest: return .end
    }
  }
}
