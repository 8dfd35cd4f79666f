// SPDX-License-Identifier: Apache-2.0
import Engine
import Foundation
import LinuxIO
import Migration
import Testing

@testable import VFIO

extension LabTests {
  /// The device's own log as a tracker, on synthetic devices: bits that a test sets, errors on demand, and the referee.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct DeviceLogTrackerTests {
    private static let page: UInt64 = 4096

    private func withDevice(
      _ settings: KeyValuePairs<String, String> = [:], _ body: (Synthetic, KernelDevice) throws -> Void
    ) throws {
      let device = try Synthetic("log", settings)
      defer { device.remove() }
      try body(device, try device.open())
    }

    private func layout(pageSize: UInt64 = page) throws -> DirtyLayout {
      try DirtyLayout(ranges: [0..<1 << 30], pageSize: pageSize)
    }

    private func memory<Words: DirtyWords & ~Copyable>(
      _ device: KernelDevice, _ runs: [MappedRun], _ bitmap: inout DirtyBitmap<Words>
    ) throws -> TrackedMemory {
      let choice = try TrackerChoice(for: device.name, from: [DeviceLogTracker.offer(device)])
      #expect(choice.kind == .device)
      var memory = TrackedMemory(layout: bitmap.layout, [choice])
      for run in runs { try memory.add(run, into: &bitmap) }
      memory.start(into: &bitmap)
      bitmap.clearAll()
      return memory
    }

    private static let high: UInt64 = 1 << 40

    @Test("what the device writes is read exactly, once, at I/O addresses that are not the guest's")
    func exact() throws {
      try withDevice { synthetic, device in
        let runs = [
          try MappedRun(Self.high..<Self.high + 32 << 20, guest: 0x100_0000),
          try MappedRun(Self.high + 1 << 30..<Self.high + 1 << 30 + 67 * Self.page, guest: 0),
        ]
        var bitmap = DirtyBitmap(layout: try layout())
        var memory = try memory(device, runs, &bitmap)
        #expect(try synthetic.referee["log_running"] == 1)
        try synthetic.set("log_set", "\(Self.high + 63 * Self.page) 8192")
        try synthetic.set("log_set", "\(Self.high + 32 << 20 - Self.page) 4096")
        try synthetic.set("log_set", "\(Self.high + 1 << 30 + 66 * Self.page) 4096")
        memory.read(into: &bitmap)
        #expect(
          bitmap.takeRuns() == [
            66 * Self.page..<67 * Self.page, 0x100_0000 + 63 * Self.page..<0x100_0000 + 65 * Self.page,
            0x300_0000 - Self.page..<0x300_0000,
          ])
        memory.read(into: &bitmap)
        #expect(bitmap.takeRuns() == [] && memory.failures.isEmpty)
        #expect(memory.stop() == [])
        #expect(try synthetic.referee["log_running"] == 0)
      }
    }

    @Test(
      "into a bitmap that is locked the kernel writes by itself, and changes nothing around what it is asked for",
      arguments: [4096, 65536] as [UInt64])
    func inPlace(pageSize: UInt64) throws {
      try withDevice(["log_page_size": "\(pageSize)", "log_fail": "report 4 5"]) { synthetic, device in
        // The first two are one run to the device and to the guest; the third is one by itself.
        let runs = [
          try MappedRun(Self.high..<Self.high + 70 * pageSize, guest: 128 * pageSize),
          try MappedRun(Self.high + 70 * pageSize..<Self.high + 131 * pageSize, guest: 198 * pageSize),
          try MappedRun(Self.high + 1 << 30..<Self.high + 1 << 30 + 3 * pageSize, guest: 1024 * pageSize),
        ]
        var bitmap = try DirtyBitmap(sharing: try layout(pageSize: pageSize))
        var memory = try memory(device, runs, &bitmap)
        let locked = try Lab.lockedKilobytes()
        let around = [127, 130, 259, 319, 1023, 1027].map { $0 * pageSize }
        for page in around { try bitmap.mark(page) }
        for page in [0, 63, 64, 69, 70, 130] as [UInt64] {
          try synthetic.set("log_set", "\(Self.high + page * pageSize) \(pageSize)")
        }
        try synthetic.set("log_set", "\(Self.high + 1 << 30 + 2 * pageSize) \(pageSize)")
        memory.read(into: &bitmap)
        #expect(
          bitmap.takePages() == Set(around + [128, 191, 192, 197, 198, 258, 1026].map { $0 * pageSize }))
        #expect(try Lab.lockedKilobytes() == locked, "memory for the answer was taken")
        // It fails at the second half of this one.
        try synthetic.set("log_set", "\(Self.high) \(pageSize)")
        try bitmap.mark(127 * pageSize)
        memory.read(into: &bitmap)
        #expect(memory.failures.map(\.error.cause) == [.errno(.inputOutput)])
        #expect(bitmap.takePages().count == 1 + 131 + 3)
      }
    }

    @Test("a log that would not stop may be on: it is stopped by the next stop, or before the next start")
    func stopFails() throws {
      try withDevice(["log_fail": "stop 1 5"]) { synthetic, device in
        let tracker = DeviceLogTracker(device)
        var map = MappedMemory(layout: try layout())
        try map.add(MappedRun(Self.high..<Self.high + 16 * Self.page, guest: 0))
        let notStopped = TrackerError(.device, .stop, .errno(.inputOutput))
        try tracker.start(map)
        #expect(throws: notStopped) { try tracker.stop() }
        #expect(try synthetic.referee["log_running"] == 1)
        var bitmap = DirtyBitmap(layout: map.layout)
        do throws(TrackerError) {
          try tracker.read(map.runs, for: .next, into: &bitmap)
          Issue.record("it was read")
        } catch {
          #expect(error.cause == .notTracking)
        }
        try tracker.stop()
        #expect(try synthetic.referee["log_running"] == 0)
        #expect(throws: TrackerError(.device, .stop, .notTracking)) { try tracker.stop() }

        // Twice: the start says what is wrong, and not that a log is on already.
        try tracker.start(map)
        try synthetic.set("log_fail", "stop 1 5\nstop 2 5")
        #expect(throws: notStopped) { try tracker.stop() }
        #expect(throws: TrackerError(.device, .start, .errno(.inputOutput))) { try tracker.start(map) }
        try tracker.start(map)
        try synthetic.set("log_set", "\(Self.high + Self.page) 4096")
        try tracker.read(map.runs, for: .next, into: &bitmap)
        #expect(bitmap.takeRuns() == [Self.page..<2 * Self.page])

        // While memory is added that the log does not watch.
        try synthetic.set("log_fail", "stop 1 5")
        let later = try MappedRun(Self.high + 1 << 30..<Self.high + 1 << 30 + Self.page, guest: 1 << 20)
        try map.add(later)
        #expect(throws: TrackerError(.device, .add, .errno(.inputOutput))) { _ = try tracker.add(later, to: map) }
        #expect(try synthetic.referee["log_running"] == 1)
        try tracker.stop()
        #expect(try synthetic.referee["log_running"] == 0)

        // By somebody else, whatever our own stop says then: the start finds it over.
        try tracker.start(map)
        try synthetic.set("log_fail", "stop 1 5\nstop 3 5")
        #expect(throws: notStopped) { try tracker.stop() }
        try DeviceLogTracker.turnOff(device)
        try tracker.start(map)
        try tracker.stop()
      }
      // While the ranges are rounded to the device's own pages, which takes a second start.
      try withDevice(["log_page_size": "65536", "log_fail": "stop 1 5"]) { synthetic, device in
        let tracker = DeviceLogTracker(device)
        var map = MappedMemory(layout: try layout())
        try map.add(MappedRun(Self.high + Self.page..<Self.high + 16 * Self.page, guest: 0))
        #expect(throws: TrackerError(.device, .start, .errno(.inputOutput))) { try tracker.start(map) }
        #expect(try synthetic.referee["log_running"] == 1)
        try tracker.start(map)
        try tracker.stop()
        #expect(try synthetic.referee["log_running"] == 0)
      }
    }

    @Test(
      "a log that ended with a guest's reset, which a reading finds before anybody has told of it, is on again after that"
    )
    func resetFoundByReading() throws {
      try withDevice { synthetic, device in
        let run = try MappedRun(Self.high..<Self.high + 16 * Self.page, guest: 0)
        var bitmap = DirtyBitmap(layout: try layout())
        var memory = try memory(device, [run], &bitmap)
        // As drivers do whose log does not outlive a reset.
        try synthetic.set("reset", "1")
        try DeviceLogTracker.turnOff(device)
        memory.read(into: &bitmap)
        #expect(memory.failures.map(\.error.cause) == [.errno(.invalidArgument)])
        #expect(memory.current.map(\.kind) == [.everything])
        #expect(bitmap.takeRuns() == [0..<16 * Self.page])
        memory.restart(device.name, into: &bitmap)
        #expect(memory.current.map(\.kind) == [.device] && memory.failures.count == 1)
        #expect(bitmap.takeRuns() == [0..<16 * Self.page])
        try synthetic.set("log_set", "\(Self.high + Self.page) 4096")
        memory.read(into: &bitmap)
        #expect(bitmap.takeRuns() == [Self.page..<2 * Self.page])
        #expect(memory.stop() == [])
        #expect(try synthetic.referee["log_running"] == 0)
      }
    }

    @Test(
      "of runs at random, in the log's own pages and ranges, every page that was written is told, and none that was not",
      arguments: [4096, 65536, 1 << 21] as [UInt64], ["merge", "refuse"])
    func random(logPage: UInt64, tooMany: String) throws {
      let settings: KeyValuePairs = ["log_page_size": "\(logPage)", "log_max_ranges": "5", "log_too_many": tooMany]
      try withDevice(settings) { synthetic, device in
        var (next, guest) = (Self.high + 3 * Self.page, 0 as UInt64)
        let runs = try (0..<24).map { _ in
          let length = UInt64.random(in: 1...200) * Self.page
          defer {
            // Some touch, some share a page of the log, some are far from each other.
            next += length + [0, 0, 1, 7, 300, 5000].randomElement()! * Self.page
            guest += length + Self.page
          }
          return try MappedRun(next..<next + length, guest: guest)
        }
        var bitmap = DirtyBitmap(layout: try layout())
        var memory = try memory(device, runs, &bitmap)
        for _ in 0..<5 {
          var expected: Set<UInt64> = []
          for run in (0..<6).map({ _ in runs.randomElement()! }) {
            let page = run.addresses.lowerBound + UInt64.random(in: 0..<run.length / Self.page) * Self.page
            try synthetic.set("log_set", "\(page) 4096")
            let told = page & ~(logPage - 1)..<(page & ~(logPage - 1)) + logPage
            for run in runs where run.addresses.overlaps(told) {
              let part = run.addresses.clamped(to: told)
              let first = run.guest + (part.lowerBound - run.addresses.lowerBound)
              expected.formUnion(stride(from: first, to: first + (part.upperBound - part.lowerBound), by: 4096))
            }
          }
          memory.read(into: &bitmap)
          #expect(bitmap.takePages() == expected)
          memory.read(into: &bitmap)
          #expect(bitmap.takePages() == [])
        }
        #expect(memory.failures.isEmpty && memory.stop().isEmpty)
      }
    }

    @Test("a page of the device that two runs share marks its parts of both, also where one of them is about to go")
    func sharedPage() throws {
      try withDevice(["log_page_size": "65536"]) { synthetic, device in
        let runs = [
          try MappedRun(Self.high + 2 * Self.page..<Self.high + 8 * Self.page, guest: 64 * Self.page),
          try MappedRun(Self.high + 8 * Self.page..<Self.high + 40 * Self.page, guest: 256 * Self.page),
        ]
        let both = [64 * Self.page..<70 * Self.page, 256 * Self.page..<264 * Self.page]
        var bitmap = DirtyBitmap(layout: try layout())
        var memory = try memory(device, runs, &bitmap)
        try synthetic.set("log_set", "\(Self.high + 3 * Self.page) 4096")
        memory.read(into: &bitmap)
        #expect(bitmap.takeRuns() == both)
        try synthetic.set("log_set", "\(Self.high + 12 * Self.page) 4096")
        try memory.remove(runs[0].addresses, into: &bitmap)
        #expect(bitmap.takeRuns() == both)
        memory.read(into: &bitmap)
        #expect(bitmap.takeRuns() == [] && memory.failures.isEmpty)
      }
    }

    @Test(
      "whatever the log fails at, everything is dirty, and the session goes on", arguments: ["start", "report", "stop"])
    func failures(call: String) throws {
      try withDevice(["log_fail": "\(call) 1 5"]) { _, device in
        let run = try MappedRun(Self.high..<Self.high + 16 * Self.page, guest: 0)
        var bitmap = DirtyBitmap(layout: try layout())
        var memory = try memory(device, [run], &bitmap)
        #expect(memory.failures.isEmpty == (call != "start"))
        memory.read(into: &bitmap)
        #expect(bitmap.takeRuns() == (call == "stop" ? [] : [0..<16 * Self.page]))
        #expect(memory.current.map(\.kind) == [call == "stop" ? .device : .everything])
        let told = memory.stop() + memory.failures.map(\.error)
        #expect(told.map(\.cause) == [.errno(.inputOutput)])
      }
    }

    @Test("fewer ranges are asked for where the device takes no more; where it takes none, everything is dirty")
    func limits() throws {
      let runs = try (0..<3 as Range<UInt64>).map {
        try MappedRun(Self.high + $0 << 20..<Self.high + $0 << 20 + 4 * Self.page, guest: $0 * 64 * Self.page)
      }
      try withDevice(["log_max_ranges": "2", "log_too_many": "refuse"]) { synthetic, device in
        var bitmap = DirtyBitmap(layout: try layout())
        var memory = try memory(device, runs, &bitmap)
        #expect(memory.failures.isEmpty)
        try synthetic.set("log_set", "\(Self.high + 1 << 20) 4096")
        memory.read(into: &bitmap)
        #expect(bitmap.takeRuns() == [64 * Self.page..<65 * Self.page])
        // Between the first two, which are one range now.
        let between = try MappedRun(Self.high + 1 << 19..<Self.high + 1 << 19 + Self.page, guest: 0)
        try memory.add(between, into: &bitmap)
        #expect(bitmap.takeRuns() == [])
        let beyond = try MappedRun(Self.high + 9 << 20..<Self.high + 9 << 20 + Self.page, guest: 512 * Self.page)
        try memory.add(beyond, into: &bitmap)
        #expect(bitmap.takeRuns().count == 4, "a new log knows nothing of before")
        #expect(memory.failures.isEmpty && memory.current.map(\.kind) == [.device])
      }
      try withDevice(["log_limits": "0+1G"]) { _, device in
        var bitmap = DirtyBitmap(layout: try layout())
        var memory = try memory(device, runs, &bitmap)
        #expect(memory.failures.map(\.error.cause) == [.errno(ErrorNumber(rawValue: ERANGE))])
        memory.read(into: &bitmap)
        #expect(bitmap.takeRuns().count == 3)
      }
    }

    @Test("a guest that resets its device changes nothing: what was written before and after is told")
    func reset() throws {
      try withDevice { synthetic, device in
        let run = try MappedRun(Self.high..<Self.high + 16 * Self.page, guest: 0)
        var bitmap = DirtyBitmap(layout: try layout())
        var memory = try memory(device, [run], &bitmap)
        try synthetic.set("log_set", "\(Self.high + Self.page) 4096")
        try synthetic.set("reset", "1")
        try synthetic.set("log_set", "\(Self.high + 3 * Self.page) 4096")
        memory.read(into: &bitmap)
        #expect(bitmap.takeRuns() == [Self.page..<2 * Self.page, 3 * Self.page..<4 * Self.page])
        #expect(memory.failures.isEmpty)
      }
    }

    @Test("large pages that would reach beyond the device's limits are asked for smaller, and still mark whole pages")
    func limitsOfLargePages() throws {
      let limits = Self.high + Self.page..<Self.high + 9 * Self.page
      try withDevice(["log_limits": "\(limits.lowerBound)+\(8 * Self.page)"]) { synthetic, device in
        let run = try MappedRun(limits, guest: 0)
        var bitmap = DirtyBitmap(layout: try layout(pageSize: 1 << 21))
        let tracker = DeviceLogTracker(device, limits: limits)
        let choice = try TrackerChoice(for: device.name, from: [.ready(tracker)])
        var memory = TrackedMemory(layout: bitmap.layout, [choice])
        try memory.add(run, into: &bitmap)
        memory.start(into: &bitmap)
        bitmap.clearAll()
        try synthetic.set("log_set", "\(Self.high + 8 * Self.page) 4096")
        memory.read(into: &bitmap)
        #expect(bitmap.takeRuns() == [0..<1 << 21] && memory.failures.isEmpty)
        let beyond = try MappedRun(Self.high + 9 * Self.page..<Self.high + 10 * Self.page, guest: 1 << 21)
        try memory.add(beyond, into: &bitmap)
        #expect(memory.failures.map(\.error.cause) == [.beyondLimits(beyond.addresses)])
        #expect(bitmap.takeRuns() == [0..<1 << 22] && memory.current.map(\.kind) == [.everything])
      }
      // The device's own pages are larger than what its limits leave room for: then there is no log.
      try withDevice(["log_page_size": "65536"]) { _, device in
        var map = MappedMemory(layout: try layout())
        let run = try MappedRun(limits, guest: 0)
        try map.add(run)
        #expect(throws: TrackerError(.device, .start, .beyondLimits(limits))) {
          try DeviceLogTracker(device, limits: limits).start(map)
        }
      }
    }

    @Test("a device without a log says so before anything is turned on")
    func none() throws {
      try withDevice(["log": "0"]) { _, device in
        let choice = try TrackerChoice(for: device.name, from: [DeviceLogTracker.offer(device)])
        #expect(choice.reason.contains("no device: the device has no log of its own"))
      }
    }

    @Test("of a device that writes 10,000 pages a second, while another process holds it, nothing is left unreported")
    func held() throws {
      let settings: KeyValuePairs = [
        "dma_ranges": GuestMemory.setting(GuestMemory.ranges), "dma_rate": "10000", "dma_pattern": "random",
      ]
      let synthetic = try Synthetic("log", settings)
      defer { synthetic.remove() }
      let guest = try GuestMemory(synthetic, .emulatedWithLog)
      defer { guest.quit() }
      guest.map(GuestMemory.ranges)
      let held = try #require(try Holder(pid: guest.pid).descriptors().first)
      let device = KernelDevice(
        adopting: try ProcessHandle(pid: guest.pid).duplicate(descriptor: held.number, subject: synthetic.name),
        name: try #require(DeviceName(synthetic.node)))
      var next: UInt64 = 0
      let runs = try GuestMemory.ranges.map { range in
        defer { next += range.length }
        return try MappedRun(range.iova..<range.iova + range.length, guest: next)
      }
      var bitmap = DirtyBitmap(layout: try layout())
      var memory = try memory(device, runs, &bitmap)
      try synthetic.resetReferee()
      #expect(guest.ask("control 2") == "ok")
      while try synthetic.referee["dma_position"] < 20_000 { memory.read(into: &bitmap) }
      #expect(try synthetic.referee["dma_unreported"] >= 0)
      guest.stop()
      memory.read(into: &bitmap)
      #expect(try synthetic.referee["dma_unreported"] == 0 && !bitmap.takeRuns().isEmpty)
      #expect(memory.failures.isEmpty && memory.stop().isEmpty)
    }
  }
}
