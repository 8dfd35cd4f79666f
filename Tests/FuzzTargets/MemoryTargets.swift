// SPDX-License-Identifier: Apache-2.0
import Glibc
import Helper
import LinuxIO
import Migration
import Synchronization

extension FuzzTarget {
  /// The memory format in both directions, without the memory.
  static let memory = FuzzTarget("memory") { bytes in
    var input = FuzzInput(bytes)
    let direction: MemoryReader.Direction = input.flag() ? .answers : .pages
    let forged = ForgedMemory.bytes(&input, checksum: noChecksum)
    var model = MemoryModel()
    _ = try read(forged, direction) { item, _ throws(FuzzFinding) in try model.check(item) }
  }

  /// Guest memory that is received, over a channel that brings it in arbitrary pieces: what is in memory then is what
  /// came before the first fault, and nothing else.
  static let receiver = FuzzTarget("receiver") { bytes in
    var input = FuzzInput(bytes)
    let cuts = input.take(Int(input.byte() & 7))
    let forged = ForgedMemory.bytes(&input, checksum: noChecksum)
    var model = MemoryModel()
    let end = try read(forged, .pages) { item, payload throws(FuzzFinding) in try model.take(item, payload) }
    let memory = try ForgedMemory.ranges.map { try PlainMemory(count: $0.count) }
    let files = try GuestMemoryFiles(
      zip(ForgedMemory.ranges, memory).map { range, memory in
        GuestMemoryFiles.Part(
          guest: range,
          file: try MemoryFile(
            owning: memory.file.duplicate(), offset: 0, size: UInt64(range.count), access: .readAndWrite))
      })
    let ending = Ending()
    let receiver = try GuestMemoryReceiver(
      into: files, channel: CutChannel(forged, cuts: cuts), checksum: noChecksum
    ) { error in ending.error.withLock { $0 = .some(error) } }
    receiver.join()
    guard let error = ending.error.withLock({ $0 }) else { throw FuzzFinding("it has not said how it ended") }
    // What follows the end is seen where it comes together with that.
    let mayEndWell = end != .before && model.isOurs
    try demand(
      error == nil ? mayEndWell : !mayEndWell || end == .trailing, "it ended with \(error.map { "\($0)" } ?? "nothing")"
    )
    for (index, memory) in memory.enumerated() {
      try demand(memory.bytes() == model.memory[index], "guest range \(index) holds something else than what came")
    }
  }

  private final class Ending: Sendable { let error = Mutex<GuestMemoryError??>(nil) }

  /// Where bytes are after the last frame.
  private enum End { case before, exact, trailing }

  /// Reads all that can be.
  private static func read(
    _ bytes: [UInt8], _ direction: MemoryReader.Direction,
    _ body: (MemoryItem, Span<UInt8>) throws(FuzzFinding) -> Void
  ) throws(FuzzFinding) -> End {
    var reader = MemoryReader(direction, checksum: noChecksum)
    var position = 0
    while !reader.isEnded {
      let wanted = reader.wanted
      try demand((1...MemoryFormat.maximumPagesSize).contains(wanted), "it wants \(wanted) bytes")
      guard bytes.count - position >= wanted else { return .before }
      let part = bytes.span.extracting(position..<position + wanted)
      position += wanted
      let item: MemoryItem?
      do throws(StreamError) {
        item = try reader.take(part)
      } catch {
        return .before
      }
      if let item { try body(item, part) }
    }
    return position == bytes.count ? .exact : .trailing
  }
}

/// Guest memory as it should be.
private struct MemoryModel {
  var memory = ForgedMemory.ranges.map { [UInt8](repeating: 0, count: $0.count) }
  /// Whether the layout that came is that of this guest.
  private(set) var isOurs = true
  private var layout: [Range<UInt64>] = []

  /// That what a frame is about is within one range of the layout.
  mutating func check(_ item: MemoryItem) throws(FuzzFinding) {
    switch item {
    case .layout(let ranges):
      layout = ranges
      isOurs = isOurs && ranges == ForgedMemory.ranges
    case .pages(let address, let bytes): try check(address..<address + UInt64(bytes))
    case .zero(let run): try check(run)
    default: break
    }
  }

  private func check(_ run: Range<UInt64>) throws(FuzzFinding) {
    try demand(
      layout.contains { $0.lowerBound <= run.lowerBound && run.upperBound <= $0.upperBound && !run.isEmpty },
      "\(run) is in no guest range")
  }

  mutating func take(_ item: MemoryItem, _ payload: Span<UInt8>) throws(FuzzFinding) {
    try check(item)
    // A receiver ends at another guest's layout.
    guard isOurs else { return }
    switch item {
    case .pages(let address, _):
      let (index, offset) = place(address)
      for byte in payload.indices { memory[index][offset + byte] = payload[byte] }
    case .zero(let run):
      let (index, offset) = place(run.lowerBound)
      for byte in 0..<run.count { memory[index][offset + byte] = 0 }
    default: break
    }
  }

  private func place(_ address: UInt64) -> (Int, Int) {
    let index = ForgedMemory.ranges.firstIndex { $0.contains(address) }!
    return (index, Int(address - ForgedMemory.ranges[index].lowerBound))
  }
}

/// A file of zeros that stands for memory.
final class PlainMemory: Sendable {
  let file: Descriptor
  private let count: Int

  init(count: Int) throws {
    file = try Descriptor.inMemory(name: "guest memory")
    self.count = count
    guard ftruncate(file.rawValue, count) == 0 else { throw FuzzFinding("a file can't be made long enough") }
  }

  func bytes() -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var span = bytes.mutableSpan
    _ = try? file.readAll(into: &span, at: 0)
    return bytes
  }
}
