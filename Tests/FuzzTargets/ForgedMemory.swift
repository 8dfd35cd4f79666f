// SPDX-License-Identifier: Apache-2.0
@testable import Migration

/// A connection of guest memory as somebody hostile would write it.
enum ForgedMemory {
  /// The guest's ranges, of which the second and the third touch.
  static let ranges: [Range<UInt64>] = [0x1000..<0x5000, 0x1_0000..<0x1_2000, 0x1_2000..<0x1_4000]

  static func bytes(_ input: inout FuzzInput, checksum: StreamChecksum, frames: Int = 64) -> [UInt8] {
    let how = input.byte()
    if how & 3 == 3 { return input.take(1 << 16) }
    var bytes = MemoryFormat.preamble(checksum: checksum)
    var sequence: UInt64 = 0
    var syncs: UInt64 = 0
    if how & 4 == 0 {
      var writer = MemoryWriter(checksum: checksum)
      bytes += writer.layout(how & 8 == 0 ? ranges : Array(ranges.dropLast()))
      sequence = 1
    }
    while !input.isEmpty, sequence < UInt64(frames) {
      let kind = input.byte()
      let type = kind & 0x80 == 0 ? MemoryFrameType.allCases[Int(kind & 7) % MemoryFrameType.allCases.count] : nil
      var header = MemoryFrameHeader(type: type?.rawValue ?? input.number(UInt16.self), sequence: sequence)
      var payload: [UInt8] = []
      let isAddress = type == .pages || type == .zero
      if isAddress { header.address = kind & 0x40 == 0 ? UInt64(input.byte()) << 12 : input.number(UInt64.self) }
      switch type {
      case .pages: payload = Array(repeating: input.byte(), count: 4096 * (1 + Int(kind >> 4 & 3)))
      case .zero: header.size = kind & 0x20 == 0 ? UInt64(input.byte() & 15) << 12 : input.number(UInt64.self)
      case .sync, .synced:
        syncs += 1
        header.address = syncs
      case .layout: payload = input.take(Int(input.byte()))
      case .end: break
      case nil: payload = input.take(Int(input.byte()))
      }
      header.length = payload.count
      if type == nil { distort(&header, &input) }
      bytes += frame(header, payload, checksum)
      sequence += 1
    }
    return how & 0x10 == 0 ? bytes : Array(bytes.prefix(Int(input.number(UInt16.self)))) + input.take(64)
  }

  private static func distort(_ header: inout MemoryFrameHeader, _ input: inout FuzzInput) {
    let what = input.byte()
    header.isOptional = what & 1 != 0
    if what & 2 != 0 { header.address = input.number(UInt64.self) }
    if what & 4 != 0 { header.sequence = input.number(UInt64.self) }
    if what & 8 != 0 { header.length = Int(input.number(UInt32.self)) }
    if what & 16 != 0 { header.size = input.number(UInt64.self) }
  }

  private static func frame(
    _ header: MemoryFrameHeader, _ payload: [UInt8], _ checksum: StreamChecksum
  ) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: MemoryFormat.headerSize)
    var span = bytes.mutableSpan
    header.write(to: &span, payloadChecksum: checksum(payload.span), checksum: checksum)
    return bytes + payload
  }
}
