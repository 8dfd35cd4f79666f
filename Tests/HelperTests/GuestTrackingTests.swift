// SPDX-License-Identifier: Apache-2.0
import Glibc
import Helper
import LinuxIO
import Migration
import Testing

@Suite("What a helper knows of a guest's dirty pages")
struct GuestTrackingTests {
  private let name = DeviceName("0000:17:00.2")!

  private func run(_ addresses: Range<UInt64>, guest: UInt64) throws -> MappedRun {
    try MappedRun(addresses, guest: guest)
  }

  /// What a VMM sees in the bitmap's file.
  private func words(_ file: borrowing Descriptor, _ count: Int) throws -> [UInt64] {
    var bytes = [UInt8](repeating: 0, count: count * 8)
    var span = bytes.mutableSpan
    let got = try file.readAll(into: &span, at: 0)
    #expect(got == bytes.count)
    return stride(from: 0, to: bytes.count, by: 8).map { at in
      (0..<8).reduce(0) { $0 | UInt64(bytes[at + $1]) << (8 * $1) }
    }
  }

  @Test("everything is dirty at the start, and then what a device has written, in the file that a VMM maps")
  func bitmap() throws {
    let tracking = GuestTracking()
    let tracker = TestTracker()
    try tracking.addDevice(1, space: 4, TrackerChoice(for: name, from: [.ready(tracker)]))
    try tracking.addMemory(0x10_0000..<0x14_0000)
    try tracking.addMapping(run(0..<0x4_0000, guest: 0x10_0000), in: 4)
    try tracking.addMemory(0..<0x1000)
    #expect(!tracking.isOn && tracking.read() == DirtyReading(pages: 65, bytes: 65 * 4096))
    let file = try tracking.start(pageSize: 4096)
    #expect(try words(file, 2) == [1, .max])
    // As the VMM clears it.
    try file.writeAll([UInt8](repeating: 0, count: 16).span, at: 0)
    tracker.see(0x3000)
    #expect(tracking.read() == DirtyReading(pages: 1, bytes: 4096))
    #expect(try words(file, 2) == [0, 8])
    // Not in the bitmap before it is asked for: it is the VMM's.
    try tracking.mark(0..<0x1000)
    #expect(try words(file, 2) == [0, 8])
    #expect(tracking.count() == DirtyReading(pages: 2, bytes: 8192))
    #expect(try words(file, 2) == [1, 8])
    #expect(tracking.read(.first) == DirtyReading(pages: 65, bytes: 65 * 4096))
    #expect(tracking.stop() == [] && !tracking.isOn && tracking.count() == nil)
    #expect(throws: GuestTrackingError.mapping(space: 4, .notMapped(0..<0x1000))) {
      try tracking.removeMapping(run(0..<0x1000, guest: 0x10_0000), in: 4)
    }
    try tracking.removeMapping(run(0..<0x4_0000, guest: 0x10_0000), in: 4)
  }

  @Test("a mapping that goes is read for the last time, one that comes is tracked, and neither touches a lent bitmap")
  func mappings() throws {
    let tracking = GuestTracking(maximumMappings: 2)
    let tracker = TestTracker()
    try tracking.addDevice(1, space: 1, TrackerChoice(for: name, from: [.ready(tracker)]))
    try tracking.addMemory(0..<0x4_0000)
    let first = try run(0x100_0000..<0x101_0000, guest: 0)
    let second = try run(0x200_0000..<0x201_0000, guest: 0x1_0000)
    try tracking.addMapping(first, in: 1)
    let file = try tracking.start(pageSize: 4096)
    try file.writeAll([UInt8](repeating: 0, count: 8).span, at: 0)
    try tracking.addMapping(second, in: 1)
    tracker.see(0x100_5000)
    tracker.see(0x200_0000)
    try tracking.removeMapping(first, in: 1)
    #expect(try words(file, 1) == [0])
    _ = tracking.read()
    #expect(try words(file, 1) == [1 << 5 | 1 << 16])
    #expect(throws: GuestTrackingError.mapping(space: 1, .outside(0x4_0000..<0x5_0000))) {
      try tracking.addMapping(run(0..<0x1_0000, guest: 0x4_0000), in: 1)
    }
    #expect(throws: GuestTrackingError.mapping(space: 1, .overlap(second.addresses))) {
      try tracking.addMapping(second, in: 1)
    }
    try tracking.addMapping(first, in: 9)
    #expect(throws: GuestTrackingError.tooManyMappings(2)) { try tracking.addMapping(first, in: 1) }
    #expect(throws: GuestTrackingError.isTracked) { try tracking.addMemory(0x10_0000..<0x20_0000) }
    #expect(throws: GuestTrackingError.isTracked) { _ = try tracking.start(pageSize: 4096) }
  }

  @Test("a bitmap has a cap, and with larger pages the same memory fits")
  func bitmapCap() throws {
    let tracking = GuestTracking(maximumBitmapBytes: 8)
    // 64 pages of 4 KiB are one word.
    try tracking.addMemory(0..<0x4_1000)
    #expect(throws: GuestTrackingError.bitmapTooLarge(8)) { _ = try tracking.start(pageSize: 4096) }
    #expect(!tracking.isOn)
    _ = try tracking.start(pageSize: 8192)
    #expect(tracking.layout?.wordCount == 1)
  }

  @Test("a tracker that fails is told once, and a device that comes or goes makes its space dirty")
  func devices() throws {
    let tracking = GuestTracking()
    let (tracker, other) = (TestTracker(), TestTracker())
    try tracking.addDevice(1, space: 1, TrackerChoice(for: name, from: [.ready(tracker)]))
    try tracking.addMemory(0..<0x4_0000)
    try tracking.addMemory(0x10_0000..<0x14_0000)
    try tracking.addMapping(run(0..<0x4_0000, guest: 0), in: 1)
    let file = try tracking.start(pageSize: 4096)
    func clear() throws { try file.writeAll([UInt8](repeating: 0, count: 16).span, at: 0) }
    try clear()
    let second = try #require(DeviceName("0000:17:00.3"))
    try tracking.addDevice(2, space: 1, TrackerChoice(for: second, from: [.ready(other)]))
    #expect(try words(file, 2) == [0, 0] && tracking.read().pages == 64)
    try clear()
    other.see(0x2000)
    #expect(tracking.read().pages == 1)
    try clear()
    tracking.restart(device: 2)
    tracking.restart(device: 3)
    #expect(tracking.read().pages == 64 && tracking.failures == [])
    try clear()
    tracker.failNext()
    #expect(tracking.read().pages == 64)
    #expect(tracking.failures.map { $0.replacements.map(\.kind) } == [[.everything]])
    try clear()
    #expect(tracking.read().pages == 64 && tracking.failures.count == 1)
    try tracking.removeDevice(1)
    try clear()
    #expect(tracking.read().pages == 64)
    try clear()
    #expect(tracking.read().pages == 0)
    #expect(throws: GuestTrackingError.noSuchDevice(1)) { try tracking.removeDevice(1) }
    #expect(throws: GuestTrackingError.deviceExists(2)) {
      try tracking.addDevice(2, space: 5, TrackerChoice(for: second, from: []))
    }
  }

  @Test(
    "ranges that overlap, or are none, are refused, and nothing has changed",
    arguments: [0x1000..<0x3000, 0..<1, 5..<5] as [Range<UInt64>])
  func memory(range: Range<UInt64>) throws {
    let tracking = GuestTracking()
    #expect(throws: GuestTrackingError.self) { _ = try tracking.start(pageSize: 4096) }
    try tracking.addMemory(0x2000..<0x4000)
    #expect(throws: GuestTrackingError.self) { try tracking.addMemory(range) }
    #expect(tracking.ranges == [0x2000..<0x4000])
    #expect(throws: GuestTrackingError.memory(.pageSize(5000))) { _ = try tracking.start(pageSize: 5000) }
  }

  // MARK: A VMM that sends

  @Test("a bitmap that is lent is waited for, and comes back with what was sent")
  func lent() throws {
    let guest = try TestGuest()
    let tracking = try guest.track()
    let loans = BlockingQueue<LentBitmap.Loan>()
    let memory = LentBitmap(tracking, devices: [7]) { loans.put($0) }
    #expect(!memory.handBack(bytesSent: 5))
    let reading = memory.read(.first)
    #expect(reading.pages == UInt64(TestGuest.pages))
    let loan = loans.take()
    #expect(loan == memory.loan && loan?.moment == .first && loan?.reading == reading)
    let thread = try BlockingThread(name: "VMM") { memory.handBack(bytesSent: 12_345) }
    #expect(try memory.send() == 12_345)
    thread.join()
    #expect(memory.loan == nil && !memory.handBack(bytesSent: 5))
    // It has cleared nothing.
    #expect(memory.read(.next) == reading)
    memory.restartTracking(device: 0)
    let canceller = try BlockingThread(name: "session") { memory.cancel() }
    let failure = #expect(throws: MovingMemoryError.self) { try memory.send() }
    canceller.join()
    #expect(failure?.errno == ErrorNumber(rawValue: ECANCELED))
    #expect(throws: MovingMemoryError.self) { try memory.send() }
  }
}
