// SPDX-License-Identifier: Apache-2.0
import Glibc
import Helper
import LinuxIO
import Migration
import Synchronization
import Testing
import Transport

@Suite("Guest memory that does not arrive", .serialized)
struct GuestMemoryFailureTests {
  private static func noise() throws -> TestGuest {
    let guest = try TestGuest()
    for file in guest.files { try file.write([UInt8](repeating: 0xa5, count: file.size), at: 0) }
    return guest
  }

  @Test(
    "where the destination closes, sending fails, and all that was taken is dirty again",
    arguments: [0, 100_000, 5_000_000])
  func closed(bytesBefore: Int) throws {
    Signals.ignoreBrokenPipes()
    let source = try Self.noise()
    let tracking = try source.track()
    var ends: [Int32] = [-1, -1]
    try #require(unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
    let channel = try DescriptorChannel(owning: Descriptor(owning: ends[0], subject: "the link"), isTwoWay: true)
    let sender = try GuestMemorySender(
      tracking, devices: [7], files: source.memory(.read), channel: channel, checksum: .xxh3)
    let reading = sender.read(.first)
    #expect(reading.pages == UInt64(TestGuest.pages))
    let far = ends[1]
    let peer = try BlockingThread(name: "destination") {
      var left = bytesBefore
      var buffer = [UInt8](repeating: 0, count: 65_536)
      while left > 0 {
        let count = unsafe Glibc.read(far, &buffer, min(left, buffer.count))
        if count <= 0 { break }
        left -= count
      }
      close(far)
    }
    let failure = #expect(throws: MovingMemoryError.self) { try sender.send() }
    peer.join()
    #expect(failure?.description.hasPrefix("sending guest memory: writing the link failed") == true, "\(failure!)")
    #expect(sender.read(.next) == reading)
    let again = #expect(throws: MovingMemoryError.self) { try sender.send() }
    #expect(again == failure)
  }

  @Test("where the destination never answers, what was sent is dirty again when it is given up")
  func unanswered() throws {
    let source = try TestGuest()
    let tracking = try source.track()
    let (near, far) = try Connection.socket.make()
    let sender = try GuestMemorySender(
      tracking, devices: [7], files: source.memory(.read), channel: near, checksum: .xxh3)
    let reading = sender.read(.first)
    let failed = BlockingQueue<MovingMemoryError?>()
    let thread = try BlockingThread(name: "session") {
      do throws(MovingMemoryError) {
        _ = try sender.send()
        failed.put(nil)
      } catch {
        failed.put(error)
      }
    }
    // All of it has come here: it is zeros, and small.
    var taken = 0
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while taken < 24 + 48 * 6 + 8 + 16 * 4 {
      var span = buffer.mutableSpan
      taken += try far.read(into: &span)
    }
    sender.cancel()
    thread.join()
    #expect(failed.take().flatMap { $0 }?.errno == ErrorNumber(rawValue: ECANCELED))
    #expect(sender.read(.next) == reading)
  }

  @Test("an answer that was not asked for, or is none, fails the sending", arguments: [0, 1])
  func wrongAnswer(kind: Int) throws {
    let source = try TestGuest()
    let tracking = try source.track()
    let (near, far) = try Connection.socket.make()
    let sender = try GuestMemorySender(
      tracking, devices: [7], files: source.memory(.read), channel: near, checksum: .xxh3)
    var writer = MemoryWriter(checksum: .xxh3)
    let answer =
      kind == 0
      ? MemoryFormat.preamble(checksum: .xxh3) + writer.synced(2) : [UInt8](repeating: 1, count: 1000)
    try far.write(answer.span, Span())
    _ = sender.read(.first)
    let failure = #expect(throws: MovingMemoryError.self) { try sender.send() }
    #expect(failure?.errno == ErrorNumber(rawValue: EPROTO))
  }

  @Test("a source's file that is cut off is an error, and no signal")
  func sourceCutOff() throws {
    let move = try TestMove()
    try move.round(.first)
    try move.source.write([1], at: 0x1_0000_0000)
    try move.source.write([1], at: 0x1_0020_0000)
    try move.source.files[2].truncate(0x10_0000)
    _ = move.sender.read(.next)
    let failure = #expect(throws: MovingMemoryError.self) { try move.sender.send() }
    #expect(failure?.description.contains("was cut off: it has nothing at offset 2097152 any more") == true)
    #expect(move.sender.read(.next).pages == 2)
    move.sender.cancel()
    move.receiver.cancel()
    #expect(move.end() == .cancelled)
  }

  @Test("a destination's file that is cut off is an error, and no signal, where it is mapped")
  func targetCutOff() throws {
    let move = try TestMove(maps: true)
    try move.round(.first)
    try move.source.write([1], at: 0x1_0020_0000)
    try move.target.files[2].truncate(0x10_0000)
    _ = move.sender.read(.next)
    #expect(throws: MovingMemoryError.self) { try move.sender.send() }
    guard case .file(.cutOff(_, at: 0x20_0000)) = move.end() else {
      Issue.record("the receiver has not seen it")
      return
    }
  }

  @Test("a file that can't be guest memory is refused")
  func files() throws {
    let file = try TestFile(size: 8192)
    func error(_ offset: UInt64, _ size: UInt64) -> MemoryFileError? {
      #expect(throws: MemoryFileError.self) {
        try MemoryFile(owning: file.file.duplicate(), offset: offset, size: size, access: .readAndWrite)
      }
    }
    #expect(error(4096, 8192) == .tooSmall("guest", has: 8192, needed: 12_288))
    #expect(error(0, 0) == .notAPart("guest", offset: 0, size: 0))
    #expect(error(.max, 4096) == .notAPart("guest", offset: .max, size: 4096))
    #expect(error(1 << 63, 4096) == .notAPart("guest", offset: 1 << 63, size: 4096))
    #expect(throws: MemoryFileError.notAFile("/dev/null")) {
      try MemoryFile(owning: Descriptor.open("/dev/null", O_RDWR), offset: 0, size: 1, access: .read)
    }
    #expect(throws: MemoryFileError.wrongMode("/proc/self/exe", .readAndWrite)) {
      try MemoryFile(owning: Descriptor.open("/proc/self/exe", O_RDONLY), offset: 0, size: 1, access: .readAndWrite)
    }
  }

  // MARK: A hostile source

  /// What a receiver says to some bytes, after which the source closes.
  private func receive(_ bytes: [UInt8], into target: TestGuest) throws -> GuestMemoryError? {
    Signals.ignoreBrokenPipes()
    let ended = BlockingQueue<GuestMemoryError?>()
    var ends: [Int32] = [-1, -1]
    try #require(unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
    // Nobody else has its end: where it refuses, the source finds the connection closed.
    let receiver = try GuestMemoryReceiver(
      into: target.memory(.readAndWrite),
      channel: DescriptorChannel(owning: Descriptor(owning: ends[0], subject: "the link"), isTwoWay: true),
      checksum: .xxh3, ended: { ended.put($0) })
    do {
      let source = try DescriptorChannel(owning: Descriptor(owning: ends[1], subject: "the source"))
      // It may be refused before the end.
      try? source.write(bytes.span, Span())
    }
    receiver.join()
    return ended.take().flatMap { $0 }
  }

  @Test("other guest ranges are refused, and nothing is written")
  func otherLayout() throws {
    let target = try TestGuest()
    var writer = MemoryWriter(checksum: .xxh3)
    var ranges = TestGuest.ranges
    ranges[1] = 0x41_0000..<0x51_0000
    let bytes = MemoryFormat.preamble(checksum: .xxh3) + writer.layout(ranges)
    let error = try receive(bytes, into: target)
    #expect(error == .layout(theirs: ranges, ours: TestGuest.ranges))
    #expect(
      "\(error!)".hasSuffix("range 1 is 0x410000..<0x510000 on the source and 0x410000..<0x500000 here"), "\(error!)")
  }

  @Test("memory that breaks off before its end is not taken for whole")
  func brokenOff() throws {
    var writer = MemoryWriter(checksum: .xxh3)
    let bytes = MemoryFormat.preamble(checksum: .xxh3) + writer.layout(TestGuest.ranges)
    let target = try TestGuest()
    guard case .stream(let error) = try receive(bytes, into: target) else {
      Issue.record("it was taken")
      return
    }
    #expect(error.kind == .incomplete)
    let end = writer.end()
    #expect(try receive(bytes + end, into: target) == nil)
    guard case .stream(let trailing) = try receive(bytes + end + [1], into: target) else {
      Issue.record("more was taken")
      return
    }
    #expect(trailing.kind == .trailingBytes)
  }

  @Test("whatever a source sends is taken or refused, and nothing is written outside of a guest range")
  func anything() throws {
    let target = try TestGuest()
    var random = SystemRandomNumberGenerator()
    let sizes = target.files.map(\.size)
    for _ in 0..<60 {
      var writer = MemoryWriter(checksum: .xxh3)
      var bytes = MemoryFormat.preamble(checksum: .xxh3) + writer.layout(TestGuest.ranges)
      for _ in 0..<Int.random(in: 1...6) {
        var header = [UInt8](repeating: 0, count: MemoryFormat.headerSize)
        var span = header.mutableSpan
        let range = TestGuest.ranges.randomElement(using: &random)!
        let address = Bool.random() ? random.next() : UInt64.random(in: range) & ~4095
        if Bool.random() {
          let payload = [UInt8](repeating: 5, count: 4096 * Int.random(in: 1...256))
          writer.pages(at: address, payload.span, header: &span)
          bytes += header + payload
        } else {
          let end = address &+ 1 << UInt64.random(in: 0..<64)
          writer.zero(address..<max(address, end), header: &span)
          bytes += header
        }
      }
      if Bool.random() { bytes[Int.random(in: 0..<bytes.count)] ^= 1 << UInt8.random(in: 0..<8) }
      #expect(try receive(bytes, into: target) != nil)
    }
    for (file, size) in zip(target.files, sizes) {
      var status = stat()
      #expect(unsafe fstat(file.file.rawValue, &status) == 0 && status.st_size == size)
    }
  }

  @Test("a receiver that waits is ended from another thread")
  func cancelled() throws {
    let target = try TestGuest()
    let (near, far) = try Connection.pipes.make()
    let ended = BlockingQueue<GuestMemoryError?>()
    let receiver = try GuestMemoryReceiver(
      into: target.memory(.readAndWrite), channel: far, checksum: .xxh3, ended: { ended.put($0) })
    receiver.cancel()
    #expect(ended.take().flatMap { $0 } == .cancelled)
    receiver.join()
    receiver.cancel()
    _ = near
  }
}
