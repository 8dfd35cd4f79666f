// SPDX-License-Identifier: Apache-2.0

/// Numbers the frames of one direction of the memory format in the order in which they are to be sent, and writes their
/// headers. What memory holds is no business of its own: a payload follows its header, from wherever it is.
public struct MemoryWriter: Sendable {
  private let checksum: StreamChecksum
  /// The number of the next frame.
  private var sequence: UInt64 = 0
  private var syncs: UInt64 = 0

  /// A writer at the start of a direction, behind its preamble.
  public init(checksum: StreamChecksum) { self.checksum = checksum }

  private mutating func next(
    _ type: MemoryFrameType, length: Int = 0, address: UInt64 = 0, size: UInt64 = 0
  ) -> MemoryFrameHeader {
    defer { sequence += 1 }
    return MemoryFrameHeader(
      type: type.rawValue, length: length, sequence: sequence, address: address, size: size)
  }

  private func bytes(_ header: MemoryFrameHeader, _ payload: [UInt8] = []) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: MemoryFormat.headerSize)
    var span = bytes.mutableSpan
    header.write(to: &span, payloadChecksum: checksum(payload), checksum: checksum)
    return bytes + payload
  }

  /// The first frame, whole.
  /// - Parameter ranges: of a ``DirtyLayout``.
  public mutating func layout(_ ranges: [Range<UInt64>]) -> [UInt8] {
    precondition(sequence == 0, "the layout is the first frame")
    var payload: [UInt8] = []
    payload.append(littleEndian: UInt32(ranges.count))
    payload.append(littleEndian: UInt32(0))
    for range in ranges {
      payload.append(littleEndian: range.lowerBound)
      payload.append(littleEndian: range.upperBound - range.lowerBound)
    }
    return bytes(next(.layout, length: payload.count), payload)
  }

  /// Writes the header of a frame that brings what is in memory.
  /// - Parameters:
  ///   - address: of its first byte in the guest; the others follow it, all in one guest range.
  ///   - payload: whole units, at most ``MemoryFormat/maximumPagesSize`` bytes. Nobody else writes to it: a payload
  ///     that changes after its checksum was taken arrives as a damaged one.
  ///   - header: ``MemoryFormat/headerSize`` bytes, which go out before the payload.
  public mutating func pages(at address: UInt64, _ payload: Span<UInt8>, header: inout MutableSpan<UInt8>) {
    precondition(MemoryFrameType.pages.payloadSizes.contains(payload.count), "too few or too many pages for a frame")
    next(.pages, length: payload.count, address: address)
      .write(to: &header, payloadChecksum: checksum(payload), checksum: checksum)
  }

  /// Writes the frame that says that memory is zero.
  /// - Parameters:
  ///   - run: guest addresses, whole units of one guest range.
  ///   - header: ``MemoryFormat/headerSize`` bytes: the whole frame.
  public mutating func zero(_ run: Range<UInt64>, header: inout MutableSpan<UInt8>) {
    next(.zero, address: run.lowerBound, size: run.upperBound - run.lowerBound)
      .write(to: &header, payloadChecksum: checksum([]), checksum: checksum)
  }

  /// The frame that asks for an answer, whole, and the number that the answer will have.
  public mutating func sync() -> (number: UInt64, frame: [UInt8]) {
    syncs += 1
    return (syncs, bytes(next(.sync, address: syncs)))
  }

  /// The last frame, whole.
  public mutating func end() -> [UInt8] { bytes(next(.end)) }

  /// The answer to a sync, whole.
  public mutating func synced(_ number: UInt64) -> [UInt8] { bytes(next(.synced, address: number)) }
}
