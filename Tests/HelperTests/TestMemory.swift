// SPDX-License-Identifier: Apache-2.0
import Glibc
import Helper
import LinuxIO
import Migration
import Synchronization
import Testing
import Transport

/// A file in memory that stands for a range of guest memory.
final class TestFile: Sendable {
  let file: Descriptor
  let size: Int

  init(size: Int) throws {
    file = try Descriptor.inMemory(name: "guest")
    self.size = size
    try truncate(size)
  }

  func truncate(_ size: Int) throws { try #require(ftruncate(file.rawValue, size) == 0) }

  func write(_ bytes: [UInt8], at offset: Int) throws { try file.writeAll(bytes.span, at: offset) }

  var bytes: [UInt8] {
    get throws {
      var bytes = [UInt8](repeating: 0, count: size)
      var span = bytes.mutableSpan
      let count = try file.readAll(into: &span, at: 0)
      try #require(count == size)
      return bytes
    }
  }

  /// Bytes of memory that it takes.
  var takenBytes: Int {
    var status = stat()
    return unsafe fstat(file.rawValue, &status) == 0 ? Int(status.st_blocks) * 512 : -1
  }
}

/// A tracker that is told what a test's device writes, after it has written.
final class TestTracker: DirtyTracker {
  let kind = TrackerKind.device
  private let state = Mutex((isOn: false, seen: Set<UInt64>(), fails: false))

  func see(_ address: UInt64) { state.withLock { if $0.isOn { $0.seen.insert(address) } } }
  func failNext() { state.withLock { $0.fails = true } }

  func start(_ map: MappedMemory) { state.withLock { $0 = (true, [], false) } }
  func add(_ run: MappedRun, to map: MappedMemory) -> TrackerContinuity { .kept }
  func stop() { state.withLock { $0.isOn = false } }

  func read<Words: DirtyWords & ~Copyable>(
    _ runs: [MappedRun], for purpose: ReadingPurpose, into bitmap: inout DirtyBitmap<Words>
  ) throws(TrackerError) {
    let (fails, seen) = state.withLock { state in
      let seen = state.seen.filter { address in runs.contains { $0.addresses.contains(address) } }
      state.seen.subtract(seen)
      return (state.fails || !state.isOn, seen)
    }
    if fails { throw TrackerError(kind, .read, .errno(.inputOutput)) }
    for address in seen {
      for run in runs where run.addresses.contains(address) {
        do throws(DirtyBitmapError) {
          try bitmap.mark(run.guest + (address - run.addresses.lowerBound))
        } catch {
          throw TrackerError(kind, .read, .bitmap(error))
        }
      }
    }
  }
}

/// Guest memory on one side: ranges with holes between them, two that touch, none of them in huge pages.
final class TestGuest: Sendable {
  static let ranges: [Range<UInt64>] = [
    0x1000..<0x41_0000, 0x41_0000..<0x50_0000, 0x1_0000_0000..<0x1_0030_3000, 0xff_fff0_0000..<0x100_0000_0000,
  ]
  let files: [TestFile]
  let tracker = TestTracker()

  init() throws { files = try Self.ranges.map { try TestFile(size: $0.count) } }

  private func place(_ address: UInt64) -> (file: TestFile, offset: Int) {
    let index = Self.ranges.firstIndex { $0.contains(address) }!
    return (files[index], Int(address - Self.ranges[index].lowerBound))
  }

  /// A device writes: I/O addresses are guest addresses.
  func write(_ bytes: [UInt8], at address: UInt64) throws {
    let (file, offset) = place(address)
    try file.write(bytes, at: offset)
    for page in stride(from: address & ~4095, to: address + UInt64(bytes.count), by: 4096) { tracker.see(page) }
  }

  /// Pages of noise, pages of zeros, and what is neither.
  func fill<Generator: RandomNumberGenerator>(by random: inout Generator) throws {
    for file in files {
      var bytes = [UInt8](repeating: 0, count: file.size)
      var page = 0
      while page < file.size {
        let end = min(file.size, page + 4096 * Int.random(in: 1...20, using: &random))
        switch Int.random(in: 0..<4, using: &random) {
        case 0: break
        case 1: bytes[end - 1] = 1
        case 2: bytes[page] = 1
        default:
          for index in page..<end { bytes[index] = UInt8(truncatingIfNeeded: index &* 31 >> 3 ^ page) }
        }
        page = end
      }
      try file.write(bytes, at: 0)
    }
  }

  /// - Parameter maps: whether it is written as huge pages are.
  func memory(_ access: MemoryFile.Access, maps: Bool = false) throws -> GuestMemoryFiles {
    try GuestMemoryFiles(
      zip(Self.ranges, files).map { range, file in
        let file = try MemoryFile(
          owning: file.file.duplicate(), offset: 0, size: UInt64(file.size), access: access, alwaysMaps: maps)
        return GuestMemoryFiles.Part(guest: range, file: file)
      })
  }

  /// Tracks all of it, in one space, as device 7.
  func track(pageSize: UInt64 = 4096) throws -> GuestTracking {
    let tracking = GuestTracking()
    let choice = try TrackerChoice(
      for: #require(DeviceName("0000:17:00.2")), from: [.ready(tracker)])
    try tracking.addDevice(7, space: 1, choice)
    for range in Self.ranges.reversed() {
      try tracking.addMemory(range)
      try tracking.addMapping(MappedRun(range, guest: range.lowerBound), in: 1)
    }
    _ = try tracking.start(pageSize: pageSize)
    return tracking
  }

  /// Where the two differ, by guest address of the first page.
  func difference(from other: TestGuest) throws -> UInt64? {
    for (index, file) in files.enumerated() {
      let (mine, theirs) = (try file.bytes, try other.files[index].bytes)
      if mine == theirs { continue }
      let first = mine.indices.first { mine[$0] != theirs[$0] }!
      return Self.ranges[index].lowerBound + UInt64(first)
    }
    return nil
  }

  static let pages = ranges.reduce(0) { $0 + $1.count / 4096 }
}

/// Two pipes that stand for a connection.
final class TwoPipes: Channel {
  let name = "two pipes"
  let isTwoWay = true
  private let input: DescriptorChannel
  private let output: DescriptorChannel

  init(input: DescriptorChannel, output: DescriptorChannel) {
    self.input = input
    self.output = output
  }

  func write(_ header: Span<UInt8>, _ payload: Span<UInt8>) throws(ChannelError) { try output.write(header, payload) }
  func read(into buffer: inout MutableSpan<UInt8>) throws(ChannelError) -> Int { try input.read(into: &buffer) }
  func finish() throws(ChannelError) { try output.finish() }
  func cancel() {
    input.cancel()
    output.cancel()
  }
}

/// What two sides are connected by.
enum Connection: CaseIterable {
  case socket, pipes

  func make() throws -> (any Channel, any Channel) {
    // A write to a closed one is an error, and does not end the tests.
    Signals.ignoreBrokenPipes()
    func end(_ number: Int32) throws -> DescriptorChannel {
      try DescriptorChannel(owning: Descriptor(owning: number, subject: "a connection"), isTwoWay: true)
    }
    var first: [Int32] = [-1, -1]
    var second: [Int32] = [-1, -1]
    switch self {
    case .socket:
      try #require(unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &first) == 0)
      return (try end(first[0]), try end(first[1]))
    case .pipes:
      try #require(unsafe pipe(&first) == 0)
      try #require(unsafe pipe(&second) == 0)
      return (
        TwoPipes(input: try end(first[0]), output: try end(second[1])),
        TwoPipes(input: try end(second[0]), output: try end(first[1]))
      )
    }
  }
}

/// A guest's memory on both sides, and what moves it.
struct TestMove {
  let source: TestGuest
  let target: TestGuest
  let tracking: GuestTracking
  let sender: GuestMemorySender
  let receiver: GuestMemoryReceiver
  let ended = BlockingQueue<GuestMemoryError?>()

  init(_ connection: Connection = .socket, pageSize: UInt64 = 4096, maps: Bool = false) throws {
    let (near, far) = try connection.make()
    source = try TestGuest()
    target = try TestGuest()
    tracking = try source.track(pageSize: pageSize)
    sender = try GuestMemorySender(
      tracking, devices: [7], files: source.memory(.read), channel: near, checksum: .xxh3)
    receiver = try GuestMemoryReceiver(
      into: target.memory(.readAndWrite, maps: maps), channel: far, checksum: .xxh3, ended: { [ended] in ended.put($0) }
    )
  }

  /// One round.
  @discardableResult
  func round(_ moment: DirtyMoment = .next) throws -> (reading: DirtyReading, bytes: UInt64) {
    let reading = sender.read(moment)
    return (reading, try sender.send())
  }

  /// How the receiver ended.
  func end() -> GuestMemoryError? { ended.take().flatMap { $0 } }
}
