// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Migration

@Suite("Guest memory on its way: what is written is read, and nothing else is")
struct MemoryFormatTests {
  static let ranges: [Range<UInt64>] = [0..<0x4000, 0x4000..<0x8000, 0x1_0000_0000..<0x100_0000_0000]

  /// One frame, right or wrong.
  struct Frame {
    var type: UInt16
    var address: UInt64 = 0
    var size: UInt64 = 0
    var payload: [UInt8] = []
    var isOptional = false
    var sequence: UInt64?
    var claimedLength: Int?

    static func layout(_ ranges: [Range<UInt64>] = MemoryFormatTests.ranges, count: UInt32? = nil) -> Frame {
      var payload: [UInt8] = []
      payload.append(littleEndian: count ?? UInt32(ranges.count))
      payload.append(littleEndian: UInt32(0))
      for range in ranges { payload += littleEndian(range.lowerBound) + littleEndian(UInt64(range.count)) }
      return Frame(type: 1, payload: payload)
    }
    static func pages(_ address: UInt64, _ count: Int = 1) -> Frame {
      Frame(
        type: 2, address: address, payload: [UInt8](repeating: UInt8(truncatingIfNeeded: count), count: count * 4096))
    }
    static func zero(_ address: UInt64, _ size: UInt64) -> Frame { Frame(type: 3, address: address, size: size) }
    static func sync(_ number: UInt64) -> Frame { Frame(type: 4, address: number) }
    static let end = Frame(type: 5)
    static func synced(_ number: UInt64) -> Frame { Frame(type: 64, address: number) }
  }

  static let whole: [Frame] = [
    .layout(), .pages(0x1000), .zero(0x1_0000_0000, 0xff_0000_0000), .sync(1), .pages(0x4000, 4), .sync(2), .end,
  ]

  static func encode(_ frames: [Frame]) -> [UInt8] {
    var bytes = MemoryFormat.preamble(checksum: testChecksum)
    for (index, frame) in frames.enumerated() {
      let header = MemoryFrameHeader(
        type: frame.type, isOptional: frame.isOptional, length: frame.claimedLength ?? frame.payload.count,
        sequence: frame.sequence ?? UInt64(index), address: frame.address, size: frame.size)
      var raw = [UInt8](repeating: 0, count: MemoryFormat.headerSize)
      var span = raw.mutableSpan
      header.write(to: &span, payloadChecksum: testChecksum(frame.payload), checksum: testChecksum)
      bytes += raw + frame.payload
    }
    return bytes
  }

  static func read(
    _ bytes: [UInt8], _ direction: MemoryReader.Direction = .pages
  ) -> (items: [MemoryItem], error: StreamError?) {
    var reader = MemoryReader(direction, checksum: testChecksum)
    var items: [MemoryItem] = []
    var position = 0
    while !reader.isEnded {
      let wanted = reader.wanted
      guard wanted > 0, wanted <= MemoryFormat.maximumPagesSize else {
        Issue.record("it wants \(wanted) bytes")
        break
      }
      guard bytes.count - position >= wanted else {
        if direction == .answers, position == bytes.count { break }
        return (items, reader.incomplete)
      }
      do throws(StreamError) {
        if let item = try reader.take(bytes.span.extracting(position..<position + wanted)) { items.append(item) }
      } catch {
        return (items, error)
      }
      position += wanted
    }
    return (items, position < bytes.count ? reader.trailing : nil)
  }

  private func refused(_ frames: [Frame], _ direction: MemoryReader.Direction = .pages) -> String? {
    guard case .invalid(let reason) = Self.read(Self.encode(frames), direction).error?.kind else { return nil }
    return reason
  }

  @Test("every frame arrives as what it was")
  func roundTrip() {
    let (items, error) = Self.read(Self.encode(Self.whole))
    #expect(error == nil)
    #expect(
      items == [
        .layout(Self.ranges), .pages(address: 0x1000, bytes: 4096), .zero(0x1_0000_0000..<0x100_0000_0000), .sync(1),
        .pages(address: 0x4000, bytes: 16384), .sync(2), .end,
      ])
    let answers = Self.read(Self.encode([.synced(1), .synced(2)]), .answers)
    #expect(answers.error == nil && answers.items == [.synced(1), .synced(2)])
  }

  @Test("the writer's frames are the ones that the reader takes")
  func writer() {
    var writer = MemoryWriter(checksum: testChecksum)
    var bytes = MemoryFormat.preamble(checksum: testChecksum) + writer.layout(Self.ranges)
    var header = [UInt8](repeating: 0, count: MemoryFormat.headerSize)
    let page = [UInt8](repeating: 7, count: 4096)
    var span = header.mutableSpan
    writer.pages(at: 0x1000, page.span, header: &span)
    bytes += header + page
    var second = header.mutableSpan
    writer.zero(0x1_0000_0000..<0x100_0000_0000, header: &second)
    bytes += header
    let first = writer.sync()
    let frame = Frame.pages(0x4000, 4)
    bytes += first.frame
    var third = header.mutableSpan
    writer.pages(at: 0x4000, frame.payload.span, header: &third)
    bytes += header + frame.payload + writer.sync().frame + writer.end()
    var expected = Self.whole
    expected[1].payload = page
    #expect(first.number == 1 && bytes == Self.encode(expected))
    var answers = MemoryWriter(checksum: testChecksum)
    let answer = MemoryFormat.preamble(checksum: testChecksum) + answers.synced(1)
    #expect(answer == Self.encode([.synced(1)]))
  }

  @Test("cut after any of its bytes it is incomplete")
  func cuts() {
    let bytes = Self.encode(Self.whole)
    for count in 0..<bytes.count {
      // Inside of pages one cut is like the next.
      if count > 400, count % 97 != 0, bytes.count - count > 200 { continue }
      let error = Self.read(Array(bytes[..<count])).error
      #expect(error?.kind == .incomplete, "\(count)")
    }
  }

  @Test("with any of its bits flipped it is refused")
  func flips() {
    let short: [Frame] = [.layout(), .zero(0x1000, 0x1000), .pages(0x1000), .sync(1), .end]
    let bytes = Self.encode(short)
    for bit in 0..<(bytes.count * 8) {
      if bit > 8 * 400, bit % 61 != 0, bytes.count * 8 - bit > 8 * 200 { continue }
      var damaged = bytes
      damaged[bit / 8] ^= 1 << (bit % 8)
      switch Self.read(damaged).error?.kind {
      case .notAStream, .damagedPreamble: #expect(bit / 8 < MemoryFormat.preambleSize)
      case .damagedHeader, .damagedPayload: break
      case let other: Issue.record("bit \(bit): \(String(describing: other))")
      }
    }
  }

  @Test("what a frame claims is compared with its cap before any of it is wanted")
  func caps() {
    var frames: [Frame] = [.layout(), .pages(0x1_0000_0000)]
    for length in [1, 4095, 4097, MemoryFormat.maximumPagesSize + 4096, Int(UInt32.max)] {
      frames[1].claimedLength = length
      #expect(refused(frames) != nil, "\(length)")
    }
    frames[1].claimedLength = MemoryFormat.maximumPagesSize
    #expect(Self.read(Self.encode(frames)).error?.kind == .incomplete)
    var layout = Frame.layout()
    layout.claimedLength = 8 + 16 * 4097
    #expect(refused([layout]) != nil)
    #expect(refused([.layout(count: 4)]) != nil && refused([.layout(count: .max)]) != nil)
    frames = [.layout(), Frame(type: 77, isOptional: true, claimedLength: MemoryFormat.maximumPagesSize + 1)]
    #expect(refused(frames) != nil)
  }

  @Test("a layout that can't be is refused", arguments: [[], [0..<1], [0..<0], [0x2000..<0x3000, 0..<0x1000]])
  func layouts(ranges: [Range<UInt64>]) {
    #expect(refused([.layout(ranges)]) != nil)
  }

  @Test("as many ranges as can be are taken")
  func manyRanges() {
    let ranges = (0..<UInt64(4096)).map { $0 * 0x2000..<$0 * 0x2000 + 0x1000 }
    let (items, error) = Self.read(Self.encode([.layout(ranges), .end]))
    #expect(error == nil && items == [.layout(ranges), .end])
  }

  @Test(
    "memory outside of the layout, in two ranges at once or in parts of a unit is refused",
    arguments: [
      Frame.pages(0x8000), .pages(0x3000, 2), .pages(0x7000, 2), .pages(0x800), .pages(0xffff_ffff_ffff_f000),
      .zero(0x8000, 0x1000), .zero(0x3000, 0x2000), .zero(0, 0x800), .zero(0x800, 0x1000), .zero(0, 0),
      .zero(0x1000, .max - 0xfff), .zero(0x1_0000_0000, 0xff_0000_1000),
    ])
  func outside(frame: Frame) {
    #expect(refused([.layout(), frame, .end]) != nil)
  }

  @Test(
    "a frame where it may not stand is refused",
    arguments: [
      [Frame.pages(0)], [.zero(0, 0x1000)], [.sync(1)], [.end], [.layout(), .layout()], [.layout(), .sync(2)],
      [.layout(), .sync(1), .sync(1)], [.layout(), .synced(1)],
      [.layout(), Frame(type: 4, address: 1, size: 4096)], [.layout(), Frame(type: 5, address: 1)],
      [.layout(), Frame(type: 5, sequence: 2)],
    ])
  func order(frames: [Frame]) {
    #expect(refused(frames) != nil)
  }

  @Test("answers are answers and nothing else", arguments: [[Frame.layout()], [.end], [.sync(1)], [.synced(2)]])
  func answers(frames: [Frame]) {
    #expect(refused(frames, .answers) != nil)
  }

  @Test("an unknown optional frame is skipped, an unknown mandatory one refused by number")
  func unknown() {
    var frames: [Frame] = [.layout(), Frame(type: 77, payload: [1, 2, 3], isOptional: true), .end]
    #expect(Self.read(Self.encode(frames)).items == [.layout(Self.ranges), .skipped(type: 77), .end])
    frames[1].isOptional = false
    #expect(Self.read(Self.encode(frames)).error?.kind == .unknownMandatoryFrame(77))
    #expect(Self.read(Self.encode([.layout(), Frame(type: 0)])).error?.kind == .unknownMandatoryFrame(0))
  }

  @Test("a device stream is not taken for guest memory, and bytes after the end are an error")
  func others() {
    #expect(Self.read(StreamFormat.preamble(checksum: testChecksum)).error?.kind == .notAStream)
    #expect(Self.read(Self.encode([.layout(), .end]) + [0]).error?.kind == .trailingBytes)
  }

  @Test("whatever comes, with right checksums or wrong ones, is an item or an error")
  func anything() {
    var random = SystemRandomNumberGenerator()
    for _ in 0..<300 {
      var frames: [Frame] = Bool.random() ? [.layout()] : []
      for _ in 0..<Int.random(in: 1...5) {
        frames.append(
          Frame(
            type: UInt16.random(in: 0...6), address: random.next() & (Bool.random() ? .max : 0xf000),
            size: random.next() & (Bool.random() ? .max : 0xf000),
            payload: [UInt8](repeating: 3, count: [0, 0, 24, 4096].randomElement()!), isOptional: Bool.random(),
            claimedLength: Bool.random() ? nil : Int(UInt32.random(in: 0 ... .max))))
      }
      _ = Self.read(Self.encode(frames))
      let noise = (0..<Int.random(in: 0...300)).map { _ in UInt8.random(in: 0 ... .max) }
      _ = Self.read(noise)
      _ = Self.read(MemoryFormat.preamble(checksum: testChecksum) + noise)
    }
  }
}
