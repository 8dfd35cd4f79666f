// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

extension LabTests {
  /// `dirty` on a device that a process holds: what it sees, and what it leaves behind.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct DirtyCommandTests {
    private static let ranges = [GuestMemory.Range(0x100_0000, 8 << 20), GuestMemory.Range(0x1_8000_0000, 8 << 20)]
    private static let options = ranges.flatMap { ["--range", "\($0)"] }

    private func withGuest(
      _ settings: KeyValuePairs<String, String> = [:], way: GuestMemory.Way = .emulatedWithLog,
      _ body: (Synthetic, GuestMemory) throws -> Void
    ) throws {
      let device = try Synthetic("dirty", settings)
      defer { device.remove() }
      let guest = try GuestMemory(device, way)
      defer { guest.quit() }
      guest.map(Self.ranges)
      try body(device, guest)
    }

    private func arguments(_ device: Synthetic, _ guest: GuestMemory, _ more: [String]) -> [String] {
      ["dirty", device.node, "--pid", "\(guest.pid)"] + more
    }

    /// Whether the holder can have the log: it is off.
    private func expectFree(
      _ device: Synthetic, _ guest: GuestMemory, sourceLocation: SourceLocation = #_sourceLocation
    )
      throws
    {
      #expect(try device.referee["log_running"] == 0, sourceLocation: sourceLocation)
      #expect(guest.ask("track") == "ok 4096", sourceLocation: sourceLocation)
      #expect(guest.ask("untrack") == "ok", sourceLocation: sourceLocation)
    }

    @Test(
      "what is seen is every page that the device writes and no other, and the log is off after SIGINT or SIGTERM",
      arguments: [SIGINT, SIGTERM])
    func exact(signal: Int32) throws {
      // Fewer pages than there are, one after the other: none is written twice.
      let settings: KeyValuePairs = ["dma_ranges": GuestMemory.setting(Self.ranges), "dma_rate": "2000"]
      try withGuest(settings) { device, guest in
        let command = try FerryLines(arguments(device, guest, Self.options + ["-j", "--interval", "0.1"]))
        var readings = [try command.next()]
        #expect(readings[0]["dirty_pages"] as? Int == 0)
        try device.resetReferee()
        #expect(guest.ask("control 2") == "ok")
        try Lab.wait(until: "500 pages were written") { try device.referee["dma_pages"] >= 500 }
        guest.stop()
        repeat { readings.append(try command.next()) } while try seen(readings) < device.referee["dma_pages"]
        readings.append(try command.next())
        #expect(readings.last?["dirty_pages"] as? Int == 0)
        #expect(try seen(readings) == device.referee["dma_pages"])
        #expect(readings.last?["written_bytes_so_far"] as? Int == seen(readings) * 4096)
        #expect(readings.last?["tracker"] as? String == "device")
        #expect(try device.referee["log_running"] == 1)
        #expect(command.end(signal).status == 0)
        try expectFree(device, guest)
      }
    }

    private func seen(_ readings: [[String: Any]]) -> Int {
      readings.reduce(0) { $0 + ($1["dirty_pages"] as? Int ?? 0) }
    }

    @Test(
      "a tenth that is hot is found, at any time no more is seen than is written, and the picture is there at the end")
    func hot() throws {
      let settings: KeyValuePairs = [
        "dma_ranges": GuestMemory.setting(Self.ranges), "dma_rate": "20000", "dma_pattern": "hot",
      ]
      try withGuest(settings) { device, guest in
        #expect(guest.ask("control 2") == "ok")
        try Lab.wait(until: "1000 pages were written") { try device.referee["dma_pages"] >= 1000 }
        let folder = try Lab.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let svg = folder.appendingPathComponent("heat.svg")
        let before = try device.referee["dma_pages"]
        let ended = try Lab.ferry(
          arguments(
            device, guest,
            Self.options + ["-j", "--interval", "0.2", "--count", "6", "--svg", svg.path, "--link", "1M"]))
        let written = try device.referee["dma_pages"] - before
        #expect(ended.status == 0, "\(ended.err)")
        let readings = try ended.out.split(separator: "\n").map { try FerryLines.object(String($0)) }
        #expect(readings.count == 6)
        #expect(seen(readings) > 0 && seen(readings) <= written, "\(seen(readings)) of \(written)")
        let hottest = try #require((readings.last?["hottest"] as? [[String: Any]])?.first)
        // The first tenth of 4,096 pages is 1.6 MiB.
        #expect(
          hottest["start"] as? String == "0x1000000" && hottest["length_bytes"] as? Int ?? 0 <= 2 << 20, "\(hottest)")
        #expect(hottest["percent"] as? Int ?? 0 > 50, "\(hottest)")
        #expect(readings.last?["link_verdict"] as? String == "outrun")
        #expect(try String(contentsOf: svg, encoding: .utf8).hasSuffix("</svg>\n"))
        guest.stop()
        try expectFree(device, guest)
      }
    }

    @Test(
      "however the process has the device, lines without JSON end in what it means", arguments: GuestMemory.Way.allCases
    )
    func text(way: GuestMemory.Way) throws {
      try withGuest(["iommu": way.iommu.rawValue], way: way) { device, guest in
        let ended = try Lab.ferry(arguments(device, guest, Self.options + ["--interval", "0.05", "--count", "3"]))
        let lines = ended.out.split(separator: "\n")
        #expect(ended.status == 0 && lines.count == 5, "\(ended.out)\(ended.err)")
        #expect(lines.last == "no device has written anything: for them any link will do")
        #expect(ended.err.contains("must not migrate"), "\(ended.err)")
        try expectFree(device, guest)
      }
    }

    @Test("it ends when nobody reads its output any more, and the log is off")
    func nobodyReads() throws {
      try withGuest { device, guest in
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        let command = arguments(device, guest, Self.options + ["-j", "--interval", "0.05"])
        process.arguments =
          ["-c", "\"$0\" \"$@\" | head -n 1", Lab.ferryProgram.path] + command
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        try expectFree(device, guest)
      }
    }

    @Test("devices of one process are watched together, and where one log can't be turned on, none stays on")
    func several() throws {
      let devices = [try Synthetic("dirty"), try Synthetic("dirty")]
      defer { for device in devices { device.remove() } }
      let holder = try DeviceHolder(devices.map(\.node))
      defer { holder.quit() }
      let arguments =
        ["dirty"] + devices.map(\.node) + ["--pid", "\(holder.pid)", "--interval", "0.05", "--count", "1"]
        + Self.options
      let both = try Lab.ferry(arguments + ["-j"])
      #expect(both.status == 0, "\(both.err)")
      let reading = try FerryLines.object(both.out)
      #expect((reading["devices"] as? [[String: Any]])?.compactMap { $0["name"] as? String } == devices.map(\.node))
      try devices[1].set("log_fail", "start 1 12")
      let refused = try Lab.ferry(arguments)
      #expect(refused.status == 3 && refused.err.contains("ENOMEM"), "\(refused.err)")
      for device in devices { #expect(try device.referee["log_running"] == 0) }
    }

    @Test("on a terminal a picture is drawn over the one before it, no wider than the terminal")
    func terminal() throws {
      let settings: KeyValuePairs = ["dma_ranges": GuestMemory.setting(Self.ranges), "dma_rate": "2000"]
      try withGuest(settings) { device, guest in
        #expect(guest.ask("control 2") == "ok")
        let command =
          ([Lab.ferryProgram.path] + arguments(device, guest, Self.options))
          .joined(separator: " ")
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/script")
        process.arguments = ["-qec", "stty cols 60 rows 24; \(command) --interval 0.1 --count 3", "/dev/null"]
        process.environment = Lab.environment.merging(["TERM": "dumb", "COLORTERM": "", "NO_COLOR": "1"]) { $1 }
        process.standardInput = FileHandle.nullDevice
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let out = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(process.terminationStatus == 0, "\(out)")
        let pictures = out.split(separator: /\u{1b}\[[0-9]+A/)
        #expect(pictures.count == 3, "\(out)")
        for line in (pictures.last ?? "").split(whereSeparator: \.isNewline) {
          #expect(line.replacing(/\u{1b}\[[0-9]*[A-Z]/, with: "").count < 60, "\(line)")
        }
        #expect(out.contains("0x001000000 ") && out.contains("hottest"), "\(out)")
        guest.stop()
        try expectFree(device, guest)
      }
    }

    @Test("a log that is on already is refused and left on; what a killed run has left is turned off on demand")
    func taken() throws {
      try withGuest { device, guest in
        #expect(guest.ask("track") == "ok 4096")
        let refused = try Lab.ferry(arguments(device, guest, Self.options))
        #expect(refused.status == 3 && refused.err.contains("--turn-off"), "\(refused.err)")
        #expect(try device.referee["log_running"] == 1)
        #expect(guest.ask("copy") == "0")
        #expect(guest.ask("untrack") == "ok")
        let command = try FerryLines(arguments(device, guest, Self.options + ["-j", "--interval", "0.05"]))
        _ = try command.next()
        _ = command.end(SIGKILL)
        #expect(try device.referee["log_running"] == 1)
        let off = try Lab.ferry(arguments(device, guest, ["--turn-off"]))
        #expect(off.status == 0, "\(off.err)")
        try expectFree(device, guest)
      }
    }

    @Test("whose log was turned off by somebody else fails with a word of it, and does not touch theirs")
    func stolen() throws {
      try withGuest { device, guest in
        let command = try FerryLines(arguments(device, guest, Self.options + ["-j", "--interval", "0.05"]))
        _ = try command.next()
        #expect(guest.ask("untrack") == "ok")
        let ended = command.wait()
        #expect(ended.status == 1 && ended.err.contains("somebody else"), "\(ended.err)")
        try expectFree(device, guest)
      }
    }

    @Test("an error of the log ends it with a failure, and the log is off")
    func failure() throws {
      try withGuest { device, guest in
        try device.set("log_fail", "report 3 5")
        let ended = try Lab.ferry(arguments(device, guest, Self.options + ["--interval", "0.05"]))
        #expect(ended.status == 1 && ended.err.contains("EIO"), "\(ended.err)")
        try expectFree(device, guest)
      }
    }

    @Test("a process that ends is noticed, and its device let go")
    func holderEnds() throws {
      let device = try Synthetic("dirty")
      defer { device.remove() }
      let guest = try GuestMemory(device, .emulatedWithLog)
      let command = try FerryLines(arguments(device, guest, Self.options + ["-j", "--interval", "0.05"]))
      _ = try command.next()
      guest.crash()
      let ended = command.wait()
      #expect(ended.status == 1 && ended.err.contains("has ended"), "\(ended.err)")
    }

    @Test("what can't be watched is refused with the reason, before anything was changed")
    func refusals() throws {
      try withGuest(["log": "0"]) { device, guest in
        let none = try Lab.ferry(arguments(device, guest, Self.options))
        #expect(none.status == 3 && none.err.contains("no log of its own") && none.err.contains("VMM"), "\(none.err)")
        let table = try Lab.ferry(arguments(device, guest, Self.options + ["--tracker", "iommu"]))
        #expect(table.status == 3 && table.err.contains("only its holder knows"), "\(table.err)")
        let noHolder = try Lab.ferry(["dirty", device.node] + Self.options)
        #expect(noHolder.status == 3 && noHolder.err.contains("--pid"), "\(noHolder.err)")
        let noRange = try Lab.ferry(arguments(device, guest, []))
        #expect(noRange.status == 2 && noRange.err.contains("info mtree"), "\(noRange.err)")
      }
      try withGuest(["log_limits": "0x1000000+8M"]) { device, guest in
        let beyond = try Lab.ferry(arguments(device, guest, Self.options))
        #expect(beyond.status == 3 && beyond.err.contains("ERANGE") && beyond.err.contains("--range"), "\(beyond.err)")
        try expectLimited(device, guest)
      }
    }

    private func expectLimited(_ device: Synthetic, _ guest: GuestMemory) throws {
      #expect(try device.referee["log_running"] == 0)
      #expect(guest.ask("log 4096 0x1000000+4096") == "ok 4096")
      #expect(guest.ask("untrack") == "ok")
    }
  }
}
