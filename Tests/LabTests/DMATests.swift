// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Testing

extension LabTests {
  /// A device that writes 10,000 pages a second: every page whose content changed is reported, by its own log or by the
  /// IOMMU's dirty bits, or the shadow of what was reported would not be what the memory is.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct DMATests {
    private static let seed = 77

    private func withGuest(
      _ way: GuestMemory.Way, pattern: String = "sequential", rate: Int = 10_000,
      ranges: [GuestMemory.Range] = GuestMemory.ranges, _ body: (Synthetic, GuestMemory) throws -> Void
    ) throws {
      let device = try Synthetic(
        "dma",
        [
          "iommu": way.iommu.rawValue, "dma_ranges": GuestMemory.setting(ranges), "dma_rate": "\(rate)",
          "dma_pattern": pattern, "dma_seed": "\(Self.seed)",
        ])
      defer { device.remove() }
      let guest = try GuestMemory(device, way)
      defer { guest.quit() }
      guest.map(ranges)
      try body(device, guest)
    }

    private func waitForPages(_ count: Int, _ device: Synthetic) throws {
      let before = try device.referee["dma_position"]
      try Lab.wait(until: "\(count) pages were written") { try device.referee["dma_position"] >= before + count }
    }

    private static let cases: [(GuestMemory.Way, String, Int)] =
      [GuestMemory.Way.emulatedWithLog, .ownWithLog, .ownWithDirtyBits].flatMap { way in
        [(way, "sequential", 40_000), (way, "random", 10_000), (way, "hot", 10_000)]
      } + [(.emulatedInContainer, "random", 10_000), (.ownInContainer, "random", 10_000)]

    @Test(
      "copying what is reported, again and again, and once more after the stop, gives all of memory", arguments: cases)
    func everyPage(way: GuestMemory.Way, pattern: String, pages: Int) throws {
      try withGuest(way, pattern: pattern) { device, guest in
        #expect(guest.ask("track") == "ok 4096")
        try device.resetReferee()
        #expect(guest.ask("control 2") == "ok")
        let followed = guest.ask("follow \(pages)").split(separator: " ").compactMap { Int($0) }
        #expect(followed.count == 2 && followed.allSatisfy { $0 > 1 }, "\(followed)")
        guest.stop()
        guest.copy()
        #expect(guest.ask("compare") == "same")
        let referee = try device.referee
        #expect(referee["dma_unreported"] == 0 && referee["dma_unmapped_unreported"] == 0)
        #expect(referee["dma_after_stop"] == 0 && referee["dma_faults"] == 0)
        #expect(referee["dma_pages"] == referee["dma_position"] && referee["dma_pages"] >= pages)
        guest.expectRecomputed(
          seed: Self.seed, pattern: pattern, position: referee["dma_position"], GuestMemory.ranges, atLeast: 1000)
        // Nothing more comes, and it was the last reading.
        #expect(guest.ask("copy") == "0")
      }
    }

    @Test(
      "negative control: with a device that keeps pages from its tracker the shadow is not what memory is",
      arguments: GuestMemory.Way.allCases)
    func unlogged(way: GuestMemory.Way) throws {
      try withGuest(way) { device, guest in
        try device.set("misbehave", "unlogged")
        #expect(guest.ask("track") == "ok 4096")
        #expect(guest.ask("control 2") == "ok")
        #expect(!guest.ask("follow 3000").hasPrefix("errno"))
        guest.stop()
        guest.copy()
        #expect(guest.ask("compare").hasPrefix("different "))
        #expect(try device.referee["dma_unreported"] > 0)
      }
    }

    @Test("DMA goes on in the P2P states, unless it is told not to")
    func inP2P() throws {
      try withGuest(.emulatedWithLog) { device, guest in
        #expect(guest.ask("control 2") == "ok")
        try waitForPages(100, device)
        #expect(guest.ask("set running-p2p") == "ok")
        try waitForPages(100, device)
        try device.set("dma_in_p2p", "0")
        // The setting may come into force with the next batch; a state that is entered anew has it from the start.
        #expect(guest.ask("set running") == "ok")
        #expect(guest.ask("set running-p2p") == "ok")
        let still = try device.referee["dma_position"]
        #expect(guest.ask("set stop") == "ok")
        #expect(guest.ask("set running-p2p") == "ok")
        #expect(try device.referee["dma_position"] == still)
        #expect(guest.ask("set running") == "ok")
        try waitForPages(100, device)
        #expect(try device.referee["dma_after_stop"] == 0)
      }
    }

    @Test(
      "a device that writes after its stop is caught by the referee, and by the shadow",
      arguments: [
        GuestMemory.Way.emulatedWithLog, .ownWithDirtyBits,
      ])
    func afterStop(way: GuestMemory.Way) throws {
      try withGuest(way) { device, guest in
        try device.set("misbehave", "dma-after-stop")
        #expect(guest.ask("track") == "ok 4096")
        #expect(guest.ask("control 2") == "ok")
        guest.stop()
        guest.copy()
        try waitForPages(1000, device)
        #expect(guest.ask("compare").hasPrefix("different "))
        #expect(try device.referee["dma_after_stop"] > 0)
      }
    }

    @Test("what is written to nowhere is counted and does nothing; what is unmapped unread is counted, too")
    func unmapped() throws {
      try withGuest(.ownWithDirtyBits) { device, guest in
        #expect(guest.ask("track") == "ok 4096")
        #expect(guest.ask("control 2") == "ok")
        try waitForPages(4096, device)
        guest.stop()
        #expect(try device.referee["dma_faults"] == 0)
        let range = GuestMemory.ranges[1]
        #expect(guest.ask("unmap \(range.iova)") == "ok")
        let pages = Int(range.length / 4096)
        #expect(try device.referee["dma_unmapped_unreported"] == pages)
        #expect(guest.ask("set running") == "ok")
        try waitForPages(4096, device)
        guest.stop()
        let referee = try device.referee
        #expect(referee["dma_faults"] > 0)
        #expect(referee["dma_pages"] + referee["dma_faults"] == referee["dma_position"])
        guest.copy()
        #expect(guest.ask("compare") == "same")
        guest.expectRecomputed(
          seed: Self.seed, pattern: "sequential", position: referee["dma_position"], GuestMemory.ranges, atLeast: 1000)
      }
    }

    @Test("a device is saved by vfio-ferry while the IOMMU notes its writes, and none of them is missed")
    func saved() throws {
      try withGuest(.ownWithDirtyBits, pattern: "random") { device, guest in
        #expect(guest.ask("track") == "ok 4096")
        #expect(guest.ask("control 6") == "ok")
        try device.set("state_rate", "500")
        #expect(!guest.ask("follow 2000").hasPrefix("errno"))
        let save = Process()
        save.executableURL = Lab.ferryProgram
        save.arguments = [
          "save", device.node, "--pid", "\(guest.pid)", "--force", "--keep-stopped", "-o", "/dev/null",
        ]
        let said = Pipe()
        save.standardError = said
        save.standardOutput = FileHandle.nullDevice
        try save.run()
        var text = ""
        while !text.contains("holding") {
          let data = said.fileHandleForReading.availableData
          if data.isEmpty { break }
          text += String(decoding: data, as: UTF8.self)
        }
        #expect(try device.state == .stop, "\(text)")
        guest.copy()
        #expect(guest.ask("compare") == "same")
        #expect(try device.referee["dma_unreported"] == 0 && device.referee["dma_after_stop"] == 0)
        kill(save.processIdentifier, SIGTERM)
        save.waitUntilExit()
      }
    }
  }
}
