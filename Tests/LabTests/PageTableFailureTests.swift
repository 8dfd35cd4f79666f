// SPDX-License-Identifier: Apache-2.0
import Engine
import Foundation
import LinuxIO
import Migration
import Testing

@testable import VFIO

extension LabTests {
  /// Every call that the tracker of a page table makes is failed once, inside the kernel: its iommufd has places that fail on
  /// demand. Whatever fails, no page that was written is missed.
  @Suite(.serialized, .enabled(if: Lab.isHere))
  struct PageTableFailureTests {
    private static let page: UInt64 = 4096

    @Test("whichever place in the kernel fails, first to last, every page written is told")
    func everyPlace() throws {
      try everyPlace { DirtyBitmap(layout: $0) }
    }

    @Test("so is it where the kernel writes straight into the bitmap")
    func everyPlaceInPlace() throws {
      try everyPlace { try DirtyBitmap(sharing: $0) }
    }

    private func everyPlace<Words: DirtyWords & ~Copyable>(
      _ makeBitmap: (DirtyLayout) throws -> DirtyBitmap<Words>
    ) throws {
      try FailNth.beQuiet()
      let start: UInt64 = 1 << 24
      let runs = try (0..<3 as Range<UInt64>).map {
        try MappedRun(start + $0 << 24..<start + $0 << 24 + 80 * Self.page, guest: $0 << 20)
      }
      var place = 0
      var failures: [TrackerError] = []
      while true {
        place += 1
        var fail = FailNth(place)
        let mock = try MockDevice()
        let choice = try TrackerChoice(for: DeviceName("0000:01:00.1")!, from: [.ready(mock.tracker)])
        var memory = TrackedMemory(layout: try DirtyLayout(ranges: [0..<1 << 24], pageSize: Self.page), [choice])
        var bitmap = try makeBitmap(memory.map.layout)
        for run in runs { try mock.map(run.addresses) }
        try memory.add(runs[0], into: &bitmap)
        try fail.during { memory.start(into: &bitmap) }
        bitmap.clearAll()

        // Each reading is after a write, and so is what is added and removed.
        func write(_ run: Int, _ pages: Set<UInt64>) throws -> Set<UInt64> {
          // Where tracking is off the mock IOMMU can't be written to.
          if memory.current[0].kind == .iommu {
            try mock.write(runs[run], Set(pages.map { runs[run].addresses.lowerBound + $0 * Self.page }))
          }
          return Set(pages.map { runs[run].guest + $0 * Self.page })
        }
        var written = try write(0, [0, 63, 79])
        try fail.during { memory.read(into: &bitmap) }
        #expect(bitmap.takePages().isSuperset(of: written), "place \(place)")
        try fail.during { try memory.add(runs[1], into: &bitmap) }
        try fail.during { try memory.add(runs[2], into: &bitmap) }
        written = try write(0, [5]).union(write(1, [64])).union(write(2, [1]))
        try fail.during { try memory.remove(runs[1].addresses, into: &bitmap) }
        try mock.unmap(runs[1].addresses)
        try fail.during { memory.read(into: &bitmap) }
        #expect(bitmap.takePages().isSuperset(of: written), "place \(place)")
        // And after the failure, if there was one.
        written = try write(0, [6]).union(write(2, [79]))
        memory.read(into: &bitmap)
        let told = bitmap.takePages()
        #expect(told.isSuperset(of: written), "place \(place)")
        if memory.failures.isEmpty { #expect(told == written, "place \(place)") }
        var stopped: [TrackerError] = []
        try fail.during { stopped = memory.stop() }
        failures += memory.failures.map(\.error) + stopped
        if fail.left > 0 { break }
      }
      // Each call that there is has failed.
      let operations = Set(failures.map(\.operation))
      #expect(operations.isSuperset(of: [.start, .read, .check, .stop]), "\(failures)")
      #expect(place > 10)
    }
  }
}
