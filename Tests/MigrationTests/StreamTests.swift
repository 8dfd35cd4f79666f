// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Migration

@Suite("A stream that is cut, damaged or of another version")
struct StreamTests {
  @Test("what is written is read, frame by frame")
  func roundTrip() throws {
    let items = try read(wholeStream).get()
    #expect(
      items == [
        .manifest(StreamManifest(devices: twoDevices)), .vmmState(device: 1, bytes: [0xaa]),
        .deviceData(device: 0, bytes: 3), .initialComplete(device: 0), .deviceData(device: 1, bytes: 1),
        .void(device: 0),
        .deviceData(device: 0, bytes: 2), .initialComplete(device: 0), .deviceEnd(device: 1, bytes: 1),
        .deviceData(device: 0, bytes: 1), .deviceEnd(device: 0, bytes: 3), .end,
      ])
  }

  @Test("the writer's frames are the ones that the reader takes")
  func writer() throws {
    var writer = StreamWriter()
    let frames = [
      writer.manifest(StreamManifest(devices: twoDevices)), writer.vmmState(device: 0, bytes: []),
      writer.mark(.initialComplete, device: 0), writer.mark(.void, device: 0), writer.mark(.initialComplete, device: 0),
      writer.deviceEnd(device: 1), writer.deviceEnd(device: 0), writer.end(),
    ]
    var bytes = StreamFormat.preamble(checksum: testChecksum)
    for frame in frames {
      guard case .bytes(let payload) = frame.payload else { continue }
      bytes += frame.header.encoded(payload: payload.span, checksum: testChecksum) + payload
    }
    #expect(try read(bytes).get().count == frames.count)
    #expect(writer.frames == 8)
  }

  @Test("cut after any of its bytes it is incomplete, and the message names the frame")
  func cuts() throws {
    let (bytes, offsets) = encode(wholeStream)
    for count in 0..<bytes.count {
      let error = try #require(read(Array(bytes[0..<count])).error)
      #expect(error.kind == .incomplete)
      // The frame that the cut is in or, at its very beginning, before.
      let frame = offsets.lastIndex { $0 <= count }
      let place = frame.map { "frame \($0) " } ?? "the preamble "
      #expect("\(error)".contains(place), "\(count): \(error)")
      #expect(error.offset == UInt64(frame.map { offsets[$0] } ?? 0))
    }
  }

  @Test("with any of its bits flipped it is refused, and the message names the frame")
  func flips() throws {
    let (bytes, offsets) = encode(wholeStream)
    for bit in 0..<(bytes.count * 8) {
      var damaged = bytes
      damaged[bit / 8] ^= 1 << (bit % 8)
      let error = try #require(read(damaged).error)
      let frame = offsets.lastIndex { $0 <= bit / 8 }
      #expect("\(error)".contains(frame.map { "frame \($0) " } ?? "the preamble "), "bit \(bit): \(error)")
      switch error.kind {
      case .notAStream, .damagedPreamble: #expect(bit / 8 < StreamFormat.preambleSize)
      case .damagedHeader, .damagedPayload: break
      default: Issue.record("bit \(bit): \(error)")
      }
    }
  }

  @Test("bytes after the end are an error")
  func trailing() {
    #expect(read(encode(wholeStream).bytes + [0]).error?.kind == .trailingBytes)
  }

  static func preamble(major: UInt16, minor: UInt16, reserved: UInt8 = 0) -> [UInt8] {
    var bytes = StreamFormat.magic + [UInt8(major & 0xff), UInt8(major >> 8), UInt8(minor & 0xff), UInt8(minor >> 8)]
    bytes += [reserved, 0, 0, 0]
    return bytes + littleEndian(testChecksum(bytes))
  }

  @Test("any minor version is read, and no other major version")
  func versions() {
    for minor in [0, 1, 255, 65_535] as [UInt16] {
      let bytes = encode(wholeStream, preamble: Self.preamble(major: 1, minor: minor)).bytes
      #expect(read(bytes).error == nil)
    }
    for major in [0, 2, 256, 65_535] as [UInt16] {
      let error = read(encode(wholeStream, preamble: Self.preamble(major: major, minor: 0)).bytes).error
      #expect(error?.kind == .unsupportedVersion(major))
      #expect(error.map { "\($0)".contains("version \(major)") } == true)
    }
    let odd = encode(wholeStream, preamble: Self.preamble(major: 1, minor: 0, reserved: 1)).bytes
    #expect(read(odd).error?.kind == .damagedPreamble)
  }

  @Test("something else than a stream is called so")
  func notAStream() {
    let error = read(Array("GIF89a, and more than 24 bytes of it".utf8)).error
    #expect(error?.kind == .notAStream)
    #expect(error.map { "\($0)" } == "the preamble at byte 0: this is not a vfio-ferry stream")
  }

  @Test(
    "an unknown optional frame is skipped wherever it stands after the manifest, an unknown mandatory one refused by number"
  )
  func unknownFrames() throws {
    var frames = wholeStream
    frames.insert(TestFrame(type: 99, device: 200, payload: [1, 2, 3], isOptional: true), at: 5)
    frames[frames.count - 1] = .end(12)
    #expect(try read(frames).get()[5] == .skipped(type: 99))
    frames[5].isOptional = false
    let error = try #require(read(frames).error)
    #expect(error.kind == .unknownMandatoryFrame(99))
    #expect("\(error)".contains("frame 5") && "\(error)".contains("type is 99"))
    #expect(read([TestFrame(type: 0)]).error?.kind == .unknownMandatoryFrame(0))
  }

  @Test("a frame longer than its type's cap is refused by its header alone")
  func caps() {
    let tooLong: [(TestFrame, Int)] = [
      (.manifest(), StreamFormat.maximumManifestSize + 1), (.data(0, []), StreamFormat.maximumDataSize + 1),
      (.data(0, []), 0), (.vmmState(0, []), StreamFormat.maximumDataSize + 1), (.initialComplete(0), 1), (.void(0), 1),
      (.deviceEnd(0, bytes: 0, frames: 0), 15), (.deviceEnd(0, bytes: 0, frames: 0), 17), (.end(1), 7), (.end(1), 9),
      (TestFrame(type: 64, device: 0), 1), (.manifest(), 7), (.data(0, []), Int(UInt32.max)),
      (TestFrame(type: 1000, isOptional: true), StreamFormat.maximumDataSize + 1),
    ]
    for (frame, length) in tooLong {
      var frames = frame.type == 1 ? [frame] : [.manifest(), frame]
      frames[frames.count - 1].claimedLength = length
      // Only the header is there: what it claims is never waited for.
      let (bytes, offsets) = encode(frames)
      let header = Array(bytes[0..<((offsets.last ?? 0) + StreamFormat.headerSize)])
      #expect(read(header).reason != nil, "type \(frame.type) with \(length) bytes")
    }
  }

  @Test("a frame of exactly its cap is read")
  func atTheCap() throws {
    let data = [UInt8](repeating: 7, count: StreamFormat.maximumDataSize)
    let items = try read([
      .manifest([twoDevices[0]]), .data(0, data), .vmmState(0, data),
      .deviceEnd(0, bytes: UInt64(data.count), frames: 1), .end(4),
    ]).get()
    #expect(items[1] == .deviceData(device: 0, bytes: data.count))
  }

  @Test("flags that are not defined are refused")
  func flags() {
    var header = FrameHeader(type: .manifest, sequence: 0, length: 0).encoded(payload: Span(), checksum: testChecksum)
    for bit in 1..<16 {
      header[2] = bit < 8 ? UInt8(1 << bit) : 0
      header[3] = bit < 8 ? 0 : UInt8(1 << (bit - 8))
      header.replaceSubrange(32..<40, with: littleEndian(testChecksum(Array(header[0..<32]))))
      #expect(FrameHeader.decode(header.span, checksum: testChecksum) == nil)
    }
  }
}
