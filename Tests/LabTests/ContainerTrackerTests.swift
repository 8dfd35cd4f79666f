// SPDX-License-Identifier: Apache-2.0
import Engine
import Foundation
import LinuxIO
import Migration
import Testing

@testable import VFIO

extension LabTests {
  /// The legacy container's dirty bitmap as a tracker, on synthetic devices that are opened by their groups.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct ContainerTrackerTests {
    private static let page: UInt64 = 4096
    private static let high: UInt64 = 1 << 40

    /// Not identity: I/O addresses begin elsewhere than the guest's.
    private static func runs() throws -> [MappedRun] {
      [
        try MappedRun(0x100_0000..<0x100_0000 + 67 * page, guest: 0x20_0000),
        try MappedRun(high..<high + 130 * page, guest: 0),
        try MappedRun(high + 1 << 30..<high + 1 << 30 + page, guest: 0x40_0000),
      ]
    }

    private func withGuest(
      _ way: WatchedGuest.Way = .container, _ body: (WatchedGuest, ContainerTracker) throws -> Void
    ) throws {
      let synthetic = try Synthetic("container", ["iommu": way.iommu.rawValue, "dma_rate": "10000"])
      defer { synthetic.remove() }
      let guest = try WatchedGuest(synthetic, way, guest: [0..<8 << 20])
      let group = try #require(guest.device.support as? LegacyGroup)
      try body(guest, ContainerTracker(group.container))
      withExtendedLifetime(guest) {}
    }

    private func memory<Words: DirtyWords & ~Copyable>(
      _ guest: WatchedGuest, _ tracker: ContainerTracker, _ bitmap: inout DirtyBitmap<Words>
    ) throws -> TrackedMemory {
      let choice = try TrackerChoice(for: guest.device.name, from: [.ready(tracker)])
      var memory = TrackedMemory(layout: bitmap.layout, [choice])
      for run in try Self.runs() {
        try guest.map(run)
        try memory.add(run, into: &bitmap)
      }
      memory.start(into: &bitmap)
      bitmap.clearAll()
      return memory
    }

    @Test("what an emulated device wrote is read exactly, once, at range ends and over 64-page edges")
    func exact() throws {
      try withGuest { guest, tracker in
        var bitmap = DirtyBitmap(layout: guest.layout)
        var memory = try memory(guest, tracker, &bitmap)
        func written(_ run: MappedRun, _ pages: Range<UInt64>) -> Range<UInt64> {
          run.addresses.lowerBound + pages.lowerBound * Self.page..<run.addresses.lowerBound + pages.upperBound
            * Self.page
        }
        let runs = try Self.runs()
        try guest.write([
          written(runs[0], 66..<67), written(runs[1], 0..<1), written(runs[1], 63..<65), written(runs[1], 129..<130),
          written(runs[2], 0..<1),
        ])
        memory.read(into: &bitmap)
        let page = Self.page
        #expect(
          bitmap.takeRuns() == [
            0..<page, 63 * page..<65 * page, 129 * page..<130 * page, 0x20_0000 + 66 * page..<0x20_0000 + 67 * page,
            0x40_0000..<0x40_0000 + page,
          ])
        memory.read(into: &bitmap)
        #expect(bitmap.takeRuns() == [] && memory.failures.isEmpty)
        // Mapped while tracking is on, and let go of again.
        let later = try MappedRun(Self.high + 1 << 31..<Self.high + 1 << 31 + 3 * page, guest: 0x60_0000)
        try guest.map(later)
        try memory.add(later, into: &bitmap)
        #expect(bitmap.takeRuns() == [])
        try guest.write([written(later, 1..<3)])
        try memory.remove(later.addresses, into: &bitmap)
        try guest.unmap(later)
        #expect(bitmap.takeRuns() == [0x60_0000 + page..<0x60_0000 + 3 * page])
        memory.read(into: &bitmap)
        #expect(bitmap.takeRuns() == [] && memory.failures.isEmpty && memory.stop() == [])
      }
    }

    @Test("what was dirty before a reading stays so, though the kernel writes over all that it is given")
    func overwritten() throws {
      try withGuest { guest, tracker in
        var bitmap = try DirtyBitmap(sharing: guest.layout)
        let before = try Lab.lockedKilobytes()
        var memory = try memory(guest, tracker, &bitmap)
        let run = try Self.runs()[1]
        try bitmap.mark(5 * Self.page)
        try guest.write([run.addresses.lowerBound + 7 * Self.page..<run.addresses.lowerBound + 8 * Self.page])
        memory.read(into: &bitmap)
        #expect(bitmap.takeRuns() == [5 * Self.page..<6 * Self.page, 7 * Self.page..<8 * Self.page])
        // The memory for answers, and the word for what the kernel has to refuse, are kept.
        #expect(try Lab.lockedKilobytes() == before + 8)
        #expect(memory.failures.isEmpty && memory.stop() == [])
        #expect(try Lab.lockedKilobytes() == before)
      }
    }

    @Test("of a device behind an IOMMU all that is mapped is dirty, each time")
    func behindIOMMU() throws {
      try withGuest(.containerWithIOMMU) { guest, tracker in
        var bitmap = DirtyBitmap(layout: guest.layout)
        var memory = try memory(guest, tracker, &bitmap)
        let all = try Self.runs().map(\.guestAddresses).sorted { $0.lowerBound < $1.lowerBound }
        for _ in 1...2 {
          memory.read(into: &bitmap)
          #expect(bitmap.takeRuns() == all)
        }
        #expect(memory.failures.isEmpty)
      }
    }

    @Test(
      "a run that is not mapped, which the kernel answers without a word, makes everything dirty and ends the tracker")
    func unmapped() throws {
      try withGuest { guest, tracker in
        var bitmap = DirtyBitmap(layout: guest.layout)
        var memory = try memory(guest, tracker, &bitmap)
        let gone = try Self.runs()[1]
        try guest.unmap(gone)
        // What the kernel itself says of it.
        let answer = try LockedWords(count: 3)
        try tracker.container.readDirty(gone.addresses, pageSize: Self.page, to: AnswerWords(answer))
        memory.read(into: &bitmap)
        #expect(memory.failures.map(\.error) == [TrackerError(.container, .check, .notMapped(gone.addresses))])
        #expect(bitmap.takeRuns().count == 3 && memory.current.map(\.kind) == [.everything])
      }
    }

    @Test("a part of a mapping is refused by the kernel, and makes everything dirty")
    func parts() throws {
      try withGuest { guest, tracker in
        let whole = try Self.runs()[1]
        try guest.map(whole)
        for part in [
          whole.addresses.lowerBound..<whole.addresses.upperBound - 4 * Self.page,
          whole.addresses.lowerBound + Self.page..<whole.addresses.upperBound,
        ] {
          let choice = try TrackerChoice(for: guest.device.name, from: [.ready(tracker)])
          var memory = TrackedMemory(layout: guest.layout, [choice])
          var bitmap = DirtyBitmap(layout: guest.layout)
          let run = try MappedRun(part, guest: 0)
          try memory.add(run, into: &bitmap)
          memory.start(into: &bitmap)
          bitmap.clearAll()
          memory.read(into: &bitmap)
          #expect(memory.failures.map(\.error) == [TrackerError(.container, .read, .errno(.invalidArgument))])
          #expect(bitmap.takeRuns() == [run.guestAddresses])
        }
      }
    }

    @Test("it is not read before it is on; one that was turned off by others, or can't be on, makes everything dirty")
    func notOn() throws {
      try withGuest { guest, tracker in
        let run = try Self.runs()[0]
        var map = MappedMemory(layout: guest.layout)
        try map.add(run)
        var bitmap = DirtyBitmap(layout: guest.layout)
        #expect(throws: TrackerError(.container, .check, .notMapped(run.addresses))) { try tracker.start(map) }
        try guest.map(run)
        do throws(TrackerError) {
          try tracker.read([run], for: .next, into: &bitmap)
          Issue.record("it was read")
        } catch {
          #expect(error == TrackerError(.container, .read, .notTracking))
        }
        #expect(throws: TrackerError(.container, .add, .notTracking)) { _ = try tracker.add(run, to: map) }
        #expect(throws: TrackerError(.container, .stop, .notTracking)) { try tracker.stop() }
        try tracker.start(map)
        #expect(throws: TrackerError(.container, .start, .alreadyTracking)) { try tracker.start(map) }
        try tracker.container.setTracking(false)
        do throws(TrackerError) {
          try tracker.read([run], for: .next, into: &bitmap)
          Issue.record("it was read")
        } catch {
          #expect(error == TrackerError(.container, .read, .errno(.invalidArgument)))
        }
        try tracker.stop()
        #expect(try tracker.container.trackingPageSize() == Self.page)
      }
    }
  }
}
