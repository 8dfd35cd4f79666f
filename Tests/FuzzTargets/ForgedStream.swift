// SPDX-License-Identifier: Apache-2.0
import Migration

/// The checksum of every sequence of bytes is 0: a mutation is not undone by it, and what is behind it is reached.
let noChecksum = StreamChecksum { _ in 0 }

/// A stream as somebody hostile would write it: frames with right checksums and nearly right numbers.
enum ForgedStream {
  /// - Parameter devices: what its manifest names, where it has an honest one.
  static func bytes(
    _ input: inout FuzzInput, checksum: StreamChecksum, devices: [StreamManifest.Device], frames: Int = 64
  ) -> [UInt8] {
    let how = input.byte()
    // Bytes that are no frames at all.
    if how & 3 == 3 { return input.take(1 << 16) }
    var bytes = StreamFormat.preamble(checksum: checksum)
    var sequence: UInt64 = 0
    if how & 4 == 0 {
      let manifest = StreamManifest(devices: devices, commits: how & 8 != 0).encoded()
      bytes += frame(FrameHeader(type: .manifest, sequence: 0, length: manifest.count), manifest, checksum)
      sequence = 1
    }
    var counted = devices.map { _ in (bytes: UInt64(0), frames: UInt64(0)) }
    while !input.isEmpty, sequence < UInt64(frames) {
      let kind = input.byte()
      let type = kind & 0x80 == 0 ? FrameType.allCases[Int(kind & 0x0f) % FrameType.allCases.count] : nil
      let number = Int(kind >> 4 & 3)
      var payload = type == nil || kind & 0x40 != 0 ? input.take(Int(input.byte())) : honest(type)
      if kind & 0x40 == 0, devices.indices.contains(number) {
        switch type {
        case .deviceData: counted[number] = (counted[number].bytes + UInt64(payload.count), counted[number].frames + 1)
        case .void: counted[number] = (0, 0)
        case .deviceEnd: payload = littleEndian(counted[number].bytes) + littleEndian(counted[number].frames)
        case .end: payload = littleEndian(sequence)
        default: break
        }
      }
      var header = FrameHeader(
        type: type ?? .end, device: type?.isAboutOneDevice ?? false ? number : nil, sequence: sequence,
        length: payload.count)
      if type == nil { distort(&header, &input) }
      bytes += frame(header, payload, checksum)
      sequence += 1
    }
    // What follows the last frame, or breaks off in one.
    return how & 0x10 == 0 ? bytes : Array(bytes.prefix(Int(input.number(UInt16.self)))) + input.take(64)
  }

  private static func honest(_ type: FrameType?) -> [UInt8] {
    switch type {
    case .deviceData, .vmmState: Array(repeating: 0x5a, count: 100)
    case .manifest: Array(repeating: 0, count: 8)
    case .deviceEnd: Array(repeating: 0, count: 16)
    case .end: Array(repeating: 0, count: 8)
    default: []
    }
  }

  private static func distort(_ header: inout FrameHeader, _ input: inout FuzzInput) {
    let what = input.byte()
    header.type = input.number(UInt16.self)
    header.isOptional = what & 1 != 0
    if what & 2 != 0 { header.device = Int(input.number(UInt32.self)) }
    if what & 4 != 0 { header.sequence = input.number(UInt64.self) }
    if what & 8 != 0 { header.length = Int(input.number(UInt32.self)) }
  }

  private static func frame(_ header: FrameHeader, _ payload: [UInt8], _ checksum: StreamChecksum) -> [UInt8] {
    header.encoded(payload: payload.span, checksum: checksum) + payload
  }
}

/// The eight bytes of a number.
func littleEndian(_ value: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) } }
