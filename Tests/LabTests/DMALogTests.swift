// SPDX-License-Identifier: Apache-2.0
import LinuxIO
import Migration
import Testing

extension LabTests {
  /// A device's own log of what it writes: its limits, its failures, and guests of a terabyte.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct DMALogTests {
    private func withGuest(
      _ settings: KeyValuePairs<String, String> = [:], way: GuestMemory.Way = .emulatedWithLog,
      _ body: (Synthetic, GuestMemory) throws -> Void
    ) throws {
      let device = try Synthetic("log", settings)
      defer { device.remove() }
      let guest = try GuestMemory(device, way)
      defer { guest.quit() }
      try body(device, guest)
    }

    /// Has the device write to all of its ranges, and stops it.
    private func write(_ pages: Int, _ device: Synthetic, _ guest: GuestMemory) throws {
      #expect(guest.ask("control 2") == "ok")
      try Lab.wait(until: "\(pages) pages were written") { try device.referee["dma_position"] >= pages }
      guest.stop()
    }

    private static let ranges = [GuestMemory.Range(0x100_0000, 1 << 20), GuestMemory.Range(0x1_8000_0000, 1 << 20)]

    @Test("an error on demand is the caller's, and what a failed report did not tell the next one does")
    func failures() throws {
      let settings: KeyValuePairs = ["dma_ranges": GuestMemory.setting(Self.ranges), "dma_rate": "10000"]
      try withGuest(settings) { device, guest in
        guest.map(Self.ranges)
        try device.set("log_fail", "start 1 12")
        #expect(guest.ask("track") == "errno ENOMEM DMA_LOGGING_START")
        #expect(try device.referee["log_running"] == 0)
        #expect(guest.ask("track") == "ok 4096")
        #expect(try device.referee["log_running"] == 1)
        try write(1000, device, guest)
        for range in 1...2 {
          // Of the two reports that a reading takes, the first or the second.
          try device.set("log_fail", "report \(range) 5")
          #expect(guest.ask("copy") == "errno EIO DMA_LOGGING_REPORT")
          #expect(try device.referee["dma_unreported"] > 0)
        }
        guest.copy()
        #expect(guest.ask("compare") == "same")
        #expect(try device.referee["dma_unreported"] == 0)
        try device.set("log_fail", "stop 1 16")
        #expect(guest.ask("untrack") == "errno EBUSY DMA_LOGGING_STOP")
        #expect(try device.referee["log_running"] == 1)
        #expect(guest.ask("untrack") == "ok")
        #expect(try device.referee["log_running"] == 0)
      }
    }

    @Test("a device without a log says so")
    func none() throws {
      try withGuest(["log": "0"]) { _, guest in
        guest.map(Self.ranges)
        #expect(guest.ask("track") == "errno ENOTTY DMA_LOGGING_START")
      }
    }

    @Test("ranges outside of the device's limits are refused")
    func limits() throws {
      try withGuest(["log_limits": "0x1000000+16M"]) { _, guest in
        for range in ["0xfff000+8192", "0x1fff000+8192", "0x100000000+4096"] {
          #expect(guest.ask("log 4096 0x1100000+4096 \(range)") == "errno ERANGE DMA_LOGGING_START", "\(range)")
        }
        #expect(guest.ask("log 4096 0x1000000+16777216") == "ok 4096")
      }
    }

    @Test("a page size below the log's smallest becomes that, and every write is still reported")
    func pageSize() throws {
      let settings: KeyValuePairs = [
        "log_page_size": "65536", "dma_ranges": GuestMemory.setting(Self.ranges), "dma_rate": "10000",
        "dma_pattern": "hot",
      ]
      try withGuest(settings) { device, guest in
        guest.map(Self.ranges)
        #expect(guest.ask("track 4096") == "ok 65536")
        try write(2000, device, guest)
        guest.copy()
        #expect(guest.ask("compare") == "same")
        // A bit stands for all of its bytes, also for who asks in smaller pages.
        try device.set("log_set", "0x1010000 4096")
        #expect(guest.ask("runs 0x1000000 0x100000 4096") == "1 0x1010000+0x10000")
        #expect(guest.ask("untrack") == "ok")
        #expect(guest.ask("track 1048576") == "ok 1048576")
      }
    }

    @Test("too many ranges are refused, or merged across the smallest gaps", arguments: ["refuse", "merge"])
    func tooMany(what: String) throws {
      try withGuest(["log_max_ranges": "2", "log_too_many": what]) { device, guest in
        let answer = guest.ask("log 4096 0x100000+4096 0x103000+4096 0x10000000+4096")
        guard what == "merge" else {
          #expect(answer == "errno E2BIG DMA_LOGGING_START")
          #expect(guest.ask("log 4096 0x100000+4096 0x103000+4096") == "ok 4096")
          return
        }
        #expect(answer == "ok 4096")
        // What lies between the first two is the log's now; what lies before the third is not.
        try device.set("log_set", "0x101000 4096")
        #expect(throws: SystemError.self) { try device.set("log_set", "0x8000000 4096") }
        #expect(guest.ask("runs 0x100000 0x10000000 4096") == "1 0x101000+0x1000")
      }
    }

    @Test("merged ranges report every write")
    func merged() throws {
      let ranges = (0..<8).map { GuestMemory.Range(0x100_0000 + UInt64($0) << 22, 64 << 10) }
      let settings: KeyValuePairs = [
        "log_max_ranges": "3", "dma_ranges": GuestMemory.setting(ranges), "dma_rate": "10000",
      ]
      try withGuest(settings) { device, guest in
        guest.map(ranges)
        #expect(guest.ask("track") == "ok 4096")
        try write(500, device, guest)
        #expect(guest.ask("copy") == "128")
        #expect(guest.ask("compare") == "same")
        #expect(try device.referee["dma_unreported"] == 0)
      }
    }

    @Test("the log of a guest of 1 TiB is read back exactly, once")
    func terabyte() throws {
      try withGuest { device, guest in
        let (start, size) = (UInt64(1) << 32, UInt64(1) << 40)
        #expect(guest.ask("log 4096 \(start)+\(size)") == "ok 4096")
        // Three pages in each gigabyte, and one at the very end.
        try device.set("log_set", "\(start + 8192) 12K 1G 1024")
        try device.set("log_set", "\(start + size - 4096) 4096")
        func hex(_ number: UInt64) -> String { "0x" + String(number, radix: 16) }
        var expected = (0..<1024).map { "\(hex(start + 8192 + UInt64($0) << 30))+0x3000" }
        expected.append("\(hex(start + size - 4096))+0x1000")
        #expect(guest.ask("runs \(start) \(size) 4096") == "1025 " + expected.joined(separator: " "))
        #expect(guest.ask("runs \(start) \(size) 4096") == "0")
      }
    }

    @Test("a part of the log is read alone, and the rest stays")
    func parts() throws {
      try withGuest { device, guest in
        #expect(guest.ask("log 4096 0x1000000+0x1000000") == "ok 4096")
        try device.set("log_set", "0x1000000 0x1000000")
        #expect(guest.ask("runs 0x1400000 0x1000 4096") == "1 0x1400000+0x1000")
        #expect(guest.ask("runs 0x1000000 0x1000000 4096") == "2 0x1000000+0x400000 0x1401000+0xbff000")
      }
    }
  }
}
