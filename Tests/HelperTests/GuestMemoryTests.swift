// SPDX-License-Identifier: Apache-2.0
import Glibc
import Helper
import LinuxIO
import Migration
import Synchronization
import Testing

@Suite("Guest memory that a helper sends to another", .serialized)
struct GuestMemoryTests {
  @Test(
    "all of it arrives, whatever the page size is and however it is written",
    arguments: [(Connection.socket, UInt64(4096)), (.socket, 2 << 20), (.pipes, 65_536)], [false, true])
  func whole(how: (connection: Connection, pageSize: UInt64), maps: Bool) throws {
    let move = try TestMove(how.connection, pageSize: how.pageSize, maps: maps)
    var random = SystemRandomNumberGenerator()
    try move.source.fill(by: &random)
    // What is there before is not what comes.
    try move.target.fill(by: &random)
    let (reading, bytes) = try move.round(.first)
    #expect(reading.bytes == UInt64(TestGuest.pages * 4096))
    #expect(bytes > 0 && bytes == move.sender.bytesSent)
    // It is there as soon as send() returns.
    #expect(try move.source.difference(from: move.target) == nil)
    try move.source.write([UInt8](repeating: 9, count: 10_000), at: 0x40_f000)
    try move.round(.last)
    try move.sender.finish()
    #expect(move.end() == nil)
    #expect(try move.source.difference(from: move.target) == nil)
    #expect(move.receiver.bytesReceived == move.sender.bytesSent)
  }

  @Test("what is zero costs a frame for each range, and no memory at the destination")
  func zeros() throws {
    let move = try TestMove()
    let (_, bytes) = try move.round(.first)
    let frames = 1 + TestGuest.ranges.count + 1
    #expect(bytes == UInt64(24 + 48 * frames + 8 + 16 * TestGuest.ranges.count))
    for file in move.source.files + move.target.files { #expect(file.takenBytes == 0) }
  }

  @Test("only what is dirty goes again, in one frame where it is contiguous")
  func dirty() throws {
    let move = try TestMove()
    try move.round(.first)
    let clean = try move.round()
    #expect(clean.reading == DirtyReading(pages: 0, bytes: 0) && clean.bytes == 48)
    for page in [0x1000, 0x2000, 0x3000, 0x8000, 0x1_0000_0000] as [UInt64] {
      try move.source.write([1], at: page)
    }
    // Three frames of pages, and a sync.
    let five = try move.round()
    #expect(five.reading == DirtyReading(pages: 5, bytes: 5 * 4096) && five.bytes == 5 * 4096 + 4 * 48)
    // Zero again.
    for page in [0x1000, 0x3000] as [UInt64] { try move.source.write([0], at: page) }
    let two = try move.round()
    #expect(two.reading == DirtyReading(pages: 2, bytes: 2 * 4096) && two.bytes == 3 * 48)
    #expect(try move.source.difference(from: move.target) == nil)
  }

  @Test(
    "a device that goes on writing while rounds are sent leaves no page behind", arguments: [UInt64(4096), 2 << 20])
  func writing(pageSize: UInt64) throws {
    let move = try TestMove(pageSize: pageSize)
    let stops = Atomic(false)
    let source = move.source
    let wrote = BlockingQueue<Void>()
    let writer = try BlockingThread(name: "device") {
      var random = SystemRandomNumberGenerator()
      var count: UInt64 = 0
      while !stops.load(ordering: .relaxed) {
        let range = TestGuest.ranges[Int.random(in: 0..<TestGuest.ranges.count, using: &random)]
        let address = UInt64.random(in: range, using: &random) & ~7
        count += 1
        try? source.write((0..<8).map { UInt8(truncatingIfNeeded: count >> (8 * $0)) }, at: address)
        if count % 500 == 0 { wrote.put(()) }
      }
    }
    try move.round(.first)
    for _ in 0..<8 {
      _ = wrote.take()
      try move.round()
    }
    stops.store(true, ordering: .relaxed)
    writer.join()
    try move.round(.last)
    try move.sender.finish()
    #expect(move.end() == nil)
    #expect(try move.source.difference(from: move.target) == nil)
  }
}
