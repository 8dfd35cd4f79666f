// SPDX-License-Identifier: Apache-2.0

/// A frame of guest memory that was read and checked.
public enum MemoryItem: Hashable, Sendable {
  /// The guest ranges, in ascending order.
  case layout([Range<UInt64>])
  /// What is in memory from a guest address on: the payload, which stays in the caller's buffer. All of it is in one
  /// range.
  case pages(address: UInt64, bytes: Int)
  /// These guest addresses, all in one range, are zero.
  case zero(Range<UInt64>)
  /// The answer to this number is wanted.
  case sync(UInt64)
  /// All memory was sent.
  case end
  /// From the destination: what came before this number is in memory.
  case synced(UInt64)
  /// An optional frame of a type that this code does not know.
  case skipped(type: UInt16)
}

/// Reads one direction of the memory format, sans-IO: says how many bytes it wants next and takes exactly these.
///
/// Nothing is believed before its checksum and its caps were checked; the first fault ends the reading.
public struct MemoryReader: Sendable {
  /// Which way the frames go.
  public enum Direction: Hashable, Sendable {
    /// From the source: pages.
    case pages
    /// From the destination: answers.
    case answers
  }

  private enum Expectation: Hashable, Sendable {
    case preamble
    case header
    case payload(MemoryFrameHeader, checksum: UInt64)
  }

  private let direction: Direction
  private let checksum: StreamChecksum
  private var expectation = Expectation.preamble
  private var layout: DirtyLayout?
  private var sequence: UInt64 = 0
  private var syncs: UInt64 = 0
  private var position: UInt64 = 0
  private var frameOffset: UInt64 = 0
  /// The type of the frame that is being read, where its header is believed.
  private var frameType: UInt16?

  /// Whether the last frame was read. Answers have none.
  public private(set) var isEnded = false

  /// A reader at the start of a direction.
  public init(_ direction: Direction, checksum: StreamChecksum) {
    self.direction = direction
    self.checksum = checksum
  }

  /// How many bytes ``take(_:)`` wants, at least one and at most ``MemoryFormat/maximumPagesSize``; 0 after the last
  /// frame.
  public var wanted: Int {
    switch expectation {
    case .preamble: MemoryFormat.preambleSize
    case .header: isEnded ? 0 : MemoryFormat.headerSize
    case .payload(let header, _): header.length
    }
  }

  /// Bytes read so far.
  public var bytesRead: UInt64 { position }

  /// The fault of a connection that ends here although more was wanted.
  public var incomplete: StreamError { fault(.incomplete) }

  /// The fault of a connection that goes on after its last frame.
  public var trailing: StreamError { StreamError(.trailingBytes, place: "after the end of memory", offset: position) }

  private func fault(_ kind: StreamError.Kind) -> StreamError {
    if expectation == .preamble { return StreamError(kind, place: "guest memory, its preamble", offset: 0) }
    let type = frameType.map { " (\(MemoryFrameType(rawValue: $0)?.name ?? "type \($0)"))" } ?? ""
    return StreamError(kind, place: "guest memory, frame \(sequence)\(type)", offset: frameOffset)
  }

  /// Takes exactly ``wanted`` bytes.
  /// - Returns: the frame that they complete, or nil where more of it is to come.
  public mutating func take(_ bytes: Span<UInt8>) throws(StreamError) -> MemoryItem? {
    precondition(!isEnded, "the reader takes nothing after the last frame")
    precondition(bytes.count == wanted, "the reader wants \(wanted) bytes, not \(bytes.count)")
    switch expectation {
    case .preamble:
      if let kind = MemoryFormat.check(preamble: bytes, checksum: checksum) { throw fault(kind) }
      position += UInt64(bytes.count)
      frameOffset = position
      expectation = .header
      return nil
    case .header:
      position += UInt64(bytes.count)
      return try takeHeader(bytes)
    case .payload(let header, let expected):
      position += UInt64(bytes.count)
      return try takePayload(bytes, header, expected)
    }
  }

  private mutating func takeHeader(_ bytes: Span<UInt8>) throws(StreamError) -> MemoryItem? {
    guard let (header, expected) = MemoryFrameHeader.decode(bytes, checksum: checksum) else {
      throw fault(.damagedHeader)
    }
    frameType = header.type
    guard header.sequence == sequence else {
      throw fault(.invalid("its sequence number is \(header.sequence): frames are missing or out of order"))
    }
    if let type = header.knownType {
      guard type.payloadSizes.contains(header.length) else {
        throw fault(.invalid("a \(type.name) frame can't have \(header.length) bytes"))
      }
    } else {
      guard header.isOptional else { throw fault(.unknownMandatoryFrame(header.type)) }
      guard header.length <= MemoryFormat.maximumPagesSize else {
        throw fault(.invalid("it claims \(header.length) bytes"))
      }
    }
    if header.length > 0 {
      // What a payload is for is known before it is read.
      if header.knownType == .pages { try check(header, UInt64(header.length)) }
      expectation = .payload(header, checksum: expected)
      return nil
    }
    // A frame without payload is complete; its checksum is that of no bytes.
    return try takePayload(bytes.extracting(0..<0), header, expected)
  }

  private mutating func takePayload(
    _ bytes: Span<UInt8>, _ header: MemoryFrameHeader, _ expected: UInt64
  ) throws(StreamError) -> MemoryItem {
    guard checksum(bytes) == expected else { throw fault(.damagedPayload) }
    let item = try interpret(bytes, header)
    sequence += 1
    frameOffset = position
    frameType = nil
    expectation = .header
    return item
  }

  /// Whether the frame may stand here, and what it means.
  private mutating func interpret(_ bytes: Span<UInt8>, _ header: MemoryFrameHeader) throws(StreamError) -> MemoryItem {
    guard let type = header.knownType else { return .skipped(type: header.type) }
    guard (type == .synced) == (direction == .answers) else { throw fault(.invalid("it goes the other way")) }
    guard (type == .layout) == (layout == nil && direction == .pages) else {
      throw fault(.invalid(type == .layout ? "there is a layout already" : "there is no layout before it"))
    }
    guard type == .zero || header.size == 0, type != .layout && type != .end || header.address == 0 else {
      throw fault(.invalid("it has fields that do not fit its type"))
    }
    switch type {
    case .layout: return try takeLayout(bytes)
    case .pages: return .pages(address: header.address, bytes: bytes.count)
    case .zero:
      try check(header, header.size)
      return .zero(header.address..<header.address + header.size)
    case .sync, .synced:
      guard header.address == syncs + 1 else {
        throw fault(.invalid("its number is \(header.address), and \(syncs + 1) is the next"))
      }
      syncs += 1
      return type == .sync ? .sync(syncs) : .synced(syncs)
    case .end:
      isEnded = true
      return .end
    }
  }

  /// Whether so many bytes from a frame's address on are whole units of one guest range.
  private func check(_ header: MemoryFrameHeader, _ size: UInt64) throws(StreamError) {
    let (end, overflow) = header.address.addingReportingOverflow(size)
    guard !overflow, size > 0, (header.address | size) % MemoryFormat.unit == 0 else {
      throw fault(.invalid("0x\(String(header.address, radix: 16)) and \(size) bytes are no guest memory"))
    }
    guard let layout else { throw fault(.invalid("there is no layout before it")) }
    let range = header.address..<end
    guard (try? layout.parts(of: range))?.count == 1 else {
      throw fault(.invalid("\(hexadecimal(range)) is not within one guest range"))
    }
  }

  private mutating func takeLayout(_ bytes: Span<UInt8>) throws(StreamError) -> MemoryItem {
    let count = Int(bytes.littleEndian(UInt32.self, at: 0))
    guard bytes.littleEndian(UInt32.self, at: 4) == 0, bytes.count == 8 + 16 * count else {
      throw fault(.invalid("\(count) guest ranges do not take \(bytes.count) bytes"))
    }
    var ranges: [Range<UInt64>] = []
    for offset in stride(from: 8, to: bytes.count, by: 16) {
      let start = bytes.littleEndian(UInt64.self, at: offset)
      let (end, overflow) = start.addingReportingOverflow(bytes.littleEndian(UInt64.self, at: offset + 8))
      if overflow { throw fault(.invalid("a guest range from 0x\(String(start, radix: 16)) has no end")) }
      ranges.append(start..<end)
    }
    do throws(DirtyBitmapError) {
      layout = try DirtyLayout(ranges: ranges, pageSize: MemoryFormat.unit)
    } catch {
      throw fault(.invalid("\(error)"))
    }
    return .layout(ranges)
  }
}
