// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing

@testable import VFIO

extension LabTests {
  /// Dirty bits of page tables that VFIO devices are attached to: what a device writes is what is read.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct DevicePageTableTests {
    private static let page: UInt64 = 4096
    private static let high: UInt64 = 1 << 41

    private static func runs() throws -> [MappedRun] {
      [
        try MappedRun(high..<high + 64 << 20, guest: 0),
        try MappedRun(0x100_0000..<0x100_0000 + 67 * page, guest: 64 << 20),
        try MappedRun(5 << 30..<5 << 30 + page, guest: 65 << 20),
      ]
    }

    private func withGuest(_ body: (WatchedGuest, PageTable) throws -> Void) throws {
      let synthetic = try Synthetic("table", ["iommu": "own", "dma_rate": "20000"])
      defer { synthetic.remove() }
      let guest = try WatchedGuest(synthetic, .pageTable, guest: [0..<66 << 20])
      guard case .pageTable(let table) = guest.device.attachment else { return }
      try body(guest, table)
      withExtendedLifetime(guest) {}
    }

    private func start(_ guest: WatchedGuest, _ tracker: PageTableTracker) throws {
      var map = MappedMemory(layout: guest.layout)
      for run in try Self.runs() {
        try guest.map(run)
        try map.add(run)
      }
      try tracker.start(map)
    }

    @Test("what it wrote, at random, at range ends and over 64-page edges, is read exactly, and is gone then")
    func exact() throws {
      try withGuest { guest, table in
        let tracker = PageTableTracker(table)
        try start(guest, tracker)
        let runs = try Self.runs()
        for pageSize: UInt64 in [4096, 65536, 1 << 21, 1 << 26, 1 << 30] {
          var bitmap = DirtyBitmap(layout: try guest.layout.with(pageSize: pageSize))
          for _ in 0..<3 {
            var ranges: [Range<UInt64>] = []
            var expected: Set<UInt64> = []
            for run in runs {
              let last = run.length / Self.page - 1
              // A device has 16 ranges.
              var pages = Set([0, last, min(last, 63), min(last, 64)])
              if last > 100 { pages.formUnion((0..<6).map { _ in UInt64.random(in: 0...last) }) }
              ranges += pages.map { run.addresses.lowerBound + $0 * Self.page }.map { $0..<$0 + Self.page }
              expected.formUnion(pages.map { (run.guest + $0 * Self.page) & ~(pageSize - 1) })
            }
            try guest.write(ranges)
            try tracker.read(runs, for: .next, into: &bitmap)
            #expect(bitmap.takePages() == expected, "in pages of \(pageSize)")
            try tracker.read(runs, for: .next, into: &bitmap)
            #expect(bitmap.takePages() == [], "in pages of \(pageSize)")
            #expect(try guest.synthetic.referee["dma_unreported"] == 0)
          }
        }
      }
    }

    @Test("what is read before an unmap is not cleared, and nothing is unmapped unread")
    func beforeUnmap() throws {
      try withGuest { guest, table in
        let tracker = PageTableTracker(table)
        try start(guest, tracker)
        let run = try Self.runs()[1]
        var bitmap = DirtyBitmap(layout: guest.layout)
        try guest.write([run.addresses.lowerBound + 65 * Self.page..<run.addresses.upperBound])
        for purpose in [ReadingPurpose.beforeUnmap, .beforeUnmap, .next] {
          try tracker.read([run], for: purpose, into: &bitmap)
          #expect(bitmap.takePages() == [run.guest + 65 * Self.page, run.guest + 66 * Self.page])
        }
        try tracker.read([run], for: .next, into: &bitmap)
        #expect(bitmap.takePages() == [])
        try guest.unmap(run)
        #expect(try guest.synthetic.referee["dma_unmapped_unreported"] == 0)
      }
    }

    @Test("of two devices on one page table one reading tells what both wrote")
    func shared() throws {
      let other = try Synthetic("table", ["iommu": "own", "dma_rate": "20000"])
      defer { other.remove() }
      try withGuest { guest, table in
        let device = try table.space.iommufd.openDevice(node: other.node, name: #require(DeviceName(other.node)))
        try device.attach(to: .pageTable(table))
        var offers = TrackerOffers()
        var choices: [TrackerChoice] = []
        for device in [guest.device, device] {
          choices.append(try TrackerChoice(for: device.name, from: offers.offers(for: device)))
        }
        var memory = TrackedMemory(layout: guest.layout, choices)
        var bitmap = DirtyBitmap(layout: guest.layout)
        for run in try Self.runs() {
          try guest.map(run)
          try memory.add(run, into: &bitmap)
        }
        memory.start(into: &bitmap)
        bitmap.clearAll()
        try guest.write([Self.high..<Self.high + Self.page])
        try other.set("dma_ranges", "\(Self.high + 9 * Self.page)+4096")
        try other.set("activity", "dma")
        try Lab.wait(until: "the second device wrote") { try other.referee["dma_pages"] > 0 }
        _ = try device.setMigrationState(.runningP2P)
        _ = try device.setMigrationState(.stop)
        memory.read(into: &bitmap)
        #expect(bitmap.takePages() == [0, 9 * Self.page])
        memory.read(into: &bitmap)
        #expect(bitmap.takePages() == [] && memory.failures.isEmpty)
        #expect(try other.referee["dma_unreported"] == 0 && guest.synthetic.referee["dma_unreported"] == 0)
        #expect(memory.stop().isEmpty && memory.current.map(\.kind) == [.iommu, .iommu])
      }
    }
  }
}
