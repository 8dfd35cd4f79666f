// SPDX-License-Identifier: Apache-2.0
import Engine
import Foundation
import LinuxIO
import Migration
import MockIOMMU
import Testing

@testable import VFIO

extension LabTests {
  /// Dirty bits of page tables, on the kernel's mock IOMMU: real iommufd objects whose bits a test sets.
  @Suite(.serialized, .enabled(if: Lab.isHere))
  struct PageTableTrackerTests {
    static let page: UInt64 = 4096

    private static let start: UInt64 = 1 << 24

    /// Not identity: I/O addresses begin elsewhere than the guest's.
    private func runs() throws -> [MappedRun] {
      [
        try MappedRun(Self.start..<Self.start + 32 << 20, guest: 1 << 40),
        try MappedRun(Self.start + 64 << 20..<Self.start + 64 << 20 + 67 * Self.page, guest: 0x10_0000),
        try MappedRun(Self.start + 96 << 20..<Self.start + 96 << 20 + Self.page, guest: 0x20_0000),
      ]
    }

    private func layout(_ pageSize: UInt64 = page) throws -> DirtyLayout {
      try DirtyLayout(ranges: [0..<1 << 30, 1 << 40..<1 << 40 + 1 << 30], pageSize: pageSize)
    }

    /// All that the mock IOMMU has from 1 GiB on: the pages that are asked for are as large as the run's ends allow.
    private func largeRun() throws -> [MappedRun] { [try MappedRun(1 << 30..<1 << 31, guest: 1 << 40)] }

    @Test(
      "bits at random, at range ends and over 64-page edges are read exactly, and are gone then",
      arguments: [4096, 8192, 65536, 1 << 21, 1 << 24] as [UInt64])
    func exact(pageSize: UInt64) throws {
      let mock = try MockDevice()
      try start(mock, try runs())
      var bitmap = DirtyBitmap(layout: try layout(pageSize))
      try readExactly(mock, &bitmap, try runs(), rounds: 6)
      // The kernel writes straight into this one, where the pages are of the same size.
      var shared = try DirtyBitmap(sharing: try layout(pageSize))
      try readExactly(mock, &shared, try runs(), rounds: 4)
    }

    @Test("so are they in pages from 4 KiB to 1 GiB where a mapping is so large")
    func exactLarge() throws {
      let mock = try MockDevice()
      try start(mock, try largeRun())
      for shift in [12, 16, 21, 25, 26, 27, 28, 29, 30] {
        var bitmap = try DirtyBitmap(sharing: try layout(1 << shift))
        try readExactly(mock, &bitmap, try largeRun(), rounds: 2)
      }
    }

    private func start(_ mock: MockDevice, _ runs: [MappedRun]) throws {
      var map = MappedMemory(layout: try layout())
      for run in runs {
        try mock.map(run.addresses)
        try map.add(run)
      }
      try mock.tracker.start(map)
    }

    private func readExactly<Words: DirtyWords & ~Copyable>(
      _ mock: MockDevice, _ bitmap: inout DirtyBitmap<Words>, _ runs: [MappedRun], rounds: Int
    ) throws {
      let pageSize = bitmap.layout.pageSize
      var random = SystemRandomNumberGenerator()
      for round in 0..<rounds {
        var expected: Set<UInt64> = []
        for run in runs {
          let last = run.length / Self.page - 1
          var pages = Set((0..<round * 16).map { _ in UInt64.random(in: 0...last, using: &random) })
          if round > 0 { pages.formUnion([0, last, min(last, 63), min(last, 64), min(last, 127), min(last, 128)]) }
          try mock.write(run, Set(pages.map { run.addresses.lowerBound + $0 * Self.page }))
          expected.formUnion(pages.map { (run.guest + $0 * Self.page) & ~(pageSize - 1) })
        }
        try mock.tracker.read(runs, for: .next, into: &bitmap)
        #expect(bitmap.takePages() == expected, "round \(round) in pages of \(pageSize)")
        try mock.tracker.read(runs, for: .next, into: &bitmap)
        #expect(bitmap.takePages() == [], "round \(round) in pages of \(pageSize)")
      }
    }

    @Test("into a bitmap that is locked the kernel writes by itself, and changes nothing around what it is asked for")
    func inPlace() throws {
      let mock = try MockDevice()
      let run = try runs()[1]
      try start(mock, [run])
      var bitmap = try DirtyBitmap(sharing: try layout())
      let before = try Lab.lockedKilobytes()
      let (first, last) = (run.guest, run.guest + 66 * Self.page)
      let around = [first - Self.page, first + 7 * Self.page, last + Self.page, last + 3 * Self.page]
      for page in around { try bitmap.mark(page) }
      try mock.write(run, Set([0, 63, 64, 66].map { run.addresses.lowerBound + $0 * Self.page }))
      try mock.tracker.read([run], for: .next, into: &bitmap)
      #expect(
        bitmap.takePages()
          == Set(around + [first, first + 63 * Self.page, first + 64 * Self.page, last]))
      try mock.tracker.read([run], for: .next, into: &bitmap)
      #expect(bitmap.takePages() == [])
      #expect(try Lab.lockedKilobytes() == before, "memory for the answer was taken")
      // The same by way of another memory, since the run is not where a word begins.
      let shifted = try MappedRun(run.addresses, guest: run.guest + Self.page)
      try mock.write(run, [run.addresses.lowerBound])
      try mock.tracker.read([shifted], for: .next, into: &bitmap)
      #expect(bitmap.takePages() == [shifted.guest])
      #expect(try Lab.lockedKilobytes() > before)
    }

    @Test("what is read before an unmap is not cleared, and a reading after it does so")
    func beforeUnmap() throws {
      let mock = try MockDevice()
      let run = try runs()[1]
      var map = MappedMemory(layout: try layout())
      var bitmap = DirtyBitmap(layout: map.layout)
      try mock.map(run.addresses)
      try map.add(run)
      try mock.tracker.start(map)
      try mock.write(run, [run.addresses.lowerBound + 65 * Self.page])
      for purpose in [ReadingPurpose.beforeUnmap, .beforeUnmap, .next] {
        try mock.tracker.read([run], for: purpose, into: &bitmap)
        #expect(bitmap.takePages() == [run.guest + 65 * Self.page])
      }
      try mock.tracker.read([run], for: .next, into: &bitmap)
      #expect(bitmap.takePages() == [])
    }

    @Test("two devices on one page table are read once; one that can't track is known before")
    func shared() throws {
      let mock = try MockDevice()
      let second = try MockDevice.device(mock.descriptor.rawValue, mock.space)
      try MockDevice.done(mock_device_attach(mock.descriptor.rawValue, second.standard_device, mock.table.number))
      #expect(try mock.iommufd.canTrackWrites(of: mock.device.device))
      let blind = try MockDevice.device(mock.descriptor.rawValue, try AddressSpace(in: mock.iommufd), canTrack: false)
      #expect(try !mock.iommufd.canTrackWrites(of: blind.device))
      #expect(throws: SystemError.self) { try PageTable(for: blind.device, of: mock.space) }

      // A VMM's page table, by its number, for both devices.
      let adopted = PageTableTracker(
        PageTable(adopting: mock.table.number, of: AddressSpace(adopting: mock.space.number, in: mock.iommufd)))
      let names = [DeviceName("0000:01:00.1")!, DeviceName("0000:01:00.2")!]
      let choices = try names.map { try TrackerChoice(for: $0, from: [.ready(adopted)]) }
      var memory = TrackedMemory(layout: try layout(), choices)
      var bitmap = DirtyBitmap(layout: memory.map.layout)
      let run = try runs()[1]
      try mock.map(run.addresses)
      try memory.add(run, into: &bitmap)
      memory.start(into: &bitmap)
      bitmap.clearAll()
      try mock.write(run, [run.addresses.lowerBound + 3 * Self.page])
      memory.read(into: &bitmap)
      #expect(bitmap.takePages() == [run.guest + 3 * Self.page])
      memory.read(into: &bitmap)
      #expect(bitmap.takePages() == [])
      #expect(memory.failures.isEmpty && memory.stop().isEmpty)
    }

    @Test("a hole, which the kernel answers without a word, makes everything dirty and ends the tracker")
    func hole() throws {
      let mock = try MockDevice()
      let whole = try MappedRun(Self.start..<Self.start + 192 * Self.page, guest: 0)
      let pieces = (0..<3).map { Self.start + $0 * 64 * Self.page..<Self.start + ($0 + 1) * 64 * Self.page }
      for piece in pieces { try mock.map(piece) }
      let choice = try TrackerChoice(for: DeviceName("0000:01:00.1")!, from: [.ready(mock.tracker)])
      var memory = TrackedMemory(layout: try layout(), [choice])
      var bitmap = DirtyBitmap(layout: memory.map.layout)
      try memory.add(whole, into: &bitmap)
      memory.start(into: &bitmap)
      bitmap.clearAll()
      memory.read(into: &bitmap)
      #expect(bitmap.takePages() == [] && memory.failures.isEmpty)
      try mock.unmap(pieces[1])
      try mock.write(whole, [Self.start + 190 * Self.page])
      // What the kernel itself says of it.
      var bits = [UInt64](repeating: 0, count: 3)
      #expect(
        unsafe mock_read(mock.descriptor.rawValue, mock.table.number, Self.start, whole.length, &bits) == 0)
      #expect(bits == [0, 0, 0])
      memory.read(into: &bitmap)
      #expect(bitmap.takePages().count == 192)
      #expect(memory.failures.map(\.error) == [TrackerError(.iommu, .check, .notMapped(whole.addresses))])
      #expect(memory.current.map(\.kind) == [.everything])
    }

    @Test("it is not read before tracking is on, nor turned on twice, which would clear what it knows")
    func notOn() throws {
      let mock = try MockDevice()
      let run = try runs()[1]
      var map = MappedMemory(layout: try layout())
      var bitmap = DirtyBitmap(layout: map.layout)
      try mock.map(run.addresses)
      try map.add(run)
      // The kernel has no objection.
      var bits: [UInt64] = [0, 0]
      #expect(
        unsafe mock_read(mock.descriptor.rawValue, mock.table.number, run.addresses.lowerBound, run.length, &bits) == 0)
      func error(_ body: () throws(TrackerError) -> Void) -> TrackerError.Cause? {
        do throws(TrackerError) {
          try body()
          return nil
        } catch {
          return error.cause
        }
      }
      do throws(TrackerError) {
        try mock.tracker.read([run], for: .next, into: &bitmap)
        Issue.record("it was read")
      } catch {
        #expect(error.cause == .notTracking)
      }
      #expect(error { () throws(TrackerError) in _ = try mock.tracker.add(run, to: map) } == .notTracking)
      try mock.tracker.start(map)
      #expect(error { () throws(TrackerError) in try mock.tracker.start(map) } == .alreadyTracking)
      try mock.tracker.stop()
      #expect(error { () throws(TrackerError) in _ = try mock.tracker.add(run, to: map) } == .notTracking)
    }

    @Test("the kernel loses bits into memory that it can't write; here the memory for them is locked")
    func pinned() throws {
      let mock = try MockDevice()
      let run = try runs()[1]
      var map = MappedMemory(layout: try layout())
      var bitmap = DirtyBitmap(layout: map.layout)
      try mock.map(run.addresses)
      try map.add(run)
      try mock.tracker.start(map)
      let address = run.addresses.lowerBound + 5 * Self.page
      try mock.write(run, [address])
      #expect(mock_read_lost(mock.descriptor.rawValue, mock.table.number, run.addresses.lowerBound, run.length) == 0)
      try mock.tracker.read([run], for: .next, into: &bitmap)
      #expect(bitmap.takePages() == [], "the bare call has cleared it")
      try mock.write(run, [address])
      try mock.tracker.read([run], for: .next, into: &bitmap)
      #expect(bitmap.takePages() == [run.guest + 5 * Self.page])
      #expect(try Lab.lockedKilobytes() > 0)
    }

    @Test("what can't be mapped as told is refused at once")
    func refused() throws {
      let mock = try MockDevice()
      let run = try runs()[1]
      var map = MappedMemory(layout: try layout())
      try map.add(run)
      #expect(throws: TrackerError(.iommu, .check, .notMapped(run.addresses))) { try mock.tracker.start(map) }
      try mock.map(run.addresses)
      try mock.tracker.start(map)
      let missing = try runs()[2]
      try map.add(missing)
      #expect(throws: TrackerError(.iommu, .check, .notMapped(missing.addresses))) {
        _ = try mock.tracker.add(missing, to: map)
      }
    }
  }
}
