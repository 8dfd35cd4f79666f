// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@Suite("Trackers of dirty pages")
struct TrackedMemoryTests {
  static let page: UInt64 = 4096
  static let device = DeviceName("0000:01:00.1")!
  static let other = DeviceName("0000:02:00.1")!

  private func layout() throws -> DirtyLayout {
    try DirtyLayout(ranges: [0..<256 * Self.page, 1 << 32..<1 << 32 + 256 * Self.page], pageSize: Self.page)
  }

  /// Pages by number: so many, from one I/O page to a guest page.
  private func run(_ address: UInt64, _ guest: UInt64, _ pages: UInt64 = 16) throws -> MappedRun {
    try MappedRun(address * Self.page..<(address + pages) * Self.page, guest: guest * Self.page)
  }

  private func pages(_ bitmap: inout DirtyBitmap<PrivateWords>) -> Set<UInt64> {
    var pages: Set<UInt64> = []
    bitmap.forEachRun { run in
      pages.formUnion(run.lowerBound / Self.page..<run.upperBound / Self.page)
      return true
    }
    bitmap.clearAll()
    return pages
  }

  @Test("a device is tracked by the first that there is: IOMMU, device, container, everything; and told why")
  func automatic() throws {
    let kernel = FakeKernel()
    let all = TrackerKind.allCases.filter { $0 != .everything }.map { FakeTracker($0, kernel) }
    for missing in 0...3 {
      let offers = all.enumerated().map { index, tracker -> TrackerOffer in
        index < missing ? .missing(tracker.kind, "not \(index)") : .ready(tracker)
      }
      // The order in which they are offered means nothing.
      let choice = try TrackerChoice(for: Self.device, from: offers.reversed())
      #expect(choice.kind == TrackerKind.allCases[missing])
      #expect(choice.replacements == Array(TrackerKind.allCases.dropFirst(missing + 1)))
      let expected = [
        "iommu, the first choice", "device; no iommu: not 0", "container; no iommu: not 0; no device: not 1",
        "everything; no iommu: not 0; no device: not 1; no container: not 2",
      ]
      #expect(choice.reason == expected[missing])
    }
    let bare = try TrackerChoice(for: Self.device, from: [])
    #expect(bare.reason == "everything; no iommu: there is none; no device: there is none; no container: there is none")
  }

  @Test("a tracker that is asked for is taken, and refused where it is not there")
  func forced() throws {
    let kernel = FakeKernel()
    let offers: [TrackerOffer] = [
      .ready(FakeTracker(.iommu, kernel)), .missing(.device, "it keeps no log"),
      .ready(FakeTracker(.container, kernel)),
    ]
    let container = try TrackerChoice(for: Self.device, .only(.container), from: offers)
    #expect(container.kind == .container && container.replacements == [.everything])
    #expect(container.reason == "container, as asked for")
    let everything = try TrackerChoice(for: Self.device, .only(.everything), from: offers)
    #expect(everything.kind == .everything && everything.replacements == [])
    do throws(TrackerRefusal) {
      _ = try TrackerChoice(for: Self.device, .only(.device), from: offers)
      Issue.record("it was taken")
    } catch {
      #expect("\(error)" == "no tracker \"device\" for 0000:01:00.1: it keeps no log")
    }
  }

  @Test("what is mapped where is checked before any tracker hears of it")
  func mapping() throws {
    let kernel = FakeKernel()
    let choice = try TrackerChoice(for: Self.device, from: [.ready(FakeTracker(.iommu, kernel))])
    var memory = TrackedMemory(layout: try layout(), [choice])
    var bitmap = DirtyBitmap(layout: try layout())
    memory.start(into: &bitmap)
    let page = Self.page
    func refusal(_ range: Range<UInt64>, _ guest: UInt64) -> MappedMemoryError? {
      do throws(MappedMemoryError) {
        try memory.add(MappedRun(range, guest: guest), into: &bitmap)
        return nil
      } catch {
        return error
      }
    }
    #expect(refusal(16 * page..<32 * page, 0) == nil)
    #expect(refusal(31 * page..<33 * page, 0) == .overlap(31 * page..<33 * page))
    #expect(refusal(0..<17 * page, 0) == .overlap(0..<17 * page))
    #expect(refusal(32 * page..<32 * page, 0) == .range(32 * page..<32 * page, guest: 0))
    #expect(refusal(1..<page, 0) == .range(1..<page, guest: 0))
    #expect(refusal(0..<page, 8) == .range(0..<page, guest: 8))
    #expect(refusal(0..<2 * page, 0 &- page) == .range(0..<2 * page, guest: 0 &- page))
    #expect(refusal(0..<2 * page, 255 * page) == .outside(255 * page..<257 * page))
    #expect(refusal(32 * page..<33 * page, 1 << 32) == nil)
    #expect(refusal(0..<16 * page, 0) == nil)
    #expect(memory.map.runs.map(\.addresses.lowerBound) == [0, 16 * page, 32 * page])
    for range in [0..<page, 0..<32 * page, 15 * page..<16 * page, 1 << 40..<1 << 41] {
      #expect(throws: MappedMemoryError.notMapped(range)) { try memory.remove(range, into: &bitmap) }
    }
    #expect(kernel.journal == ["iommu start 0", "iommu add 1", "iommu add 2", "iommu add 3"])
  }

  @Test("I/O addresses need not be the guest's, and two for one page mark it by either")
  func aliases() throws {
    let kernel = FakeKernel()
    let choice = try TrackerChoice(for: Self.device, from: [.ready(FakeTracker(.iommu, kernel))])
    var memory = TrackedMemory(layout: try layout(), [choice])
    var bitmap = DirtyBitmap(layout: try layout())
    try memory.add(run(1000, 40), into: &bitmap)
    try memory.add(run(5000, 32), into: &bitmap)
    try memory.add(run(9000, 1 << 20), into: &bitmap)
    memory.start(into: &bitmap)
    #expect(pages(&bitmap) == Set(32..<56).union(1 << 20..<1 << 20 + 16))
    kernel.write(1003 * Self.page)
    memory.read(into: &bitmap)
    #expect(pages(&bitmap) == [43])
    kernel.write(5011 * Self.page)
    kernel.write(9015 * Self.page)
    memory.read(into: &bitmap)
    #expect(pages(&bitmap) == Set([43, 1 << 20 + 15]))
    memory.read(into: &bitmap)
    #expect(pages(&bitmap) == [])
  }

  @Test("memory is read for the last time before it goes, and not after")
  func removal() throws {
    let kernel = FakeKernel()
    let choice = try TrackerChoice(for: Self.device, from: [.ready(FakeTracker(.iommu, kernel))])
    var memory = TrackedMemory(layout: try layout(), [choice])
    var bitmap = DirtyBitmap(layout: try layout())
    try memory.add(run(0, 0), into: &bitmap)
    try memory.add(run(100, 100), into: &bitmap)
    memory.start(into: &bitmap)
    bitmap.clearAll()
    kernel.write(103 * Self.page)
    kernel.write(3 * Self.page)
    try memory.remove(run(100, 100).addresses, into: &bitmap)
    #expect(pages(&bitmap) == [103])
    memory.read(into: &bitmap)
    #expect(pages(&bitmap) == [3])
    #expect(kernel.journal == ["iommu start 2", "iommu read 1 beforeUnmap", "iommu read 1 next"])
  }

  @Test("devices on one page table are read once, and each falls back on its own tracker")
  func shared() throws {
    let kernel = FakeKernel(failing: 3...3)
    let table = FakeTracker(.iommu, kernel)
    let choices = [
      try TrackerChoice(for: Self.device, from: [.ready(table), .ready(FakeTracker(.device, kernel, name: "log"))]),
      try TrackerChoice(for: Self.other, from: [.ready(table), .missing(.device, "no log")]),
    ]
    var memory = TrackedMemory(layout: try layout(), choices)
    var bitmap = DirtyBitmap(layout: try layout())
    try memory.add(run(0, 0), into: &bitmap)
    memory.start(into: &bitmap)
    memory.read(into: &bitmap)
    #expect(kernel.journal == ["iommu start 1", "iommu read 1 next"])
    bitmap.clearAll()
    memory.read(into: &bitmap)
    #expect(pages(&bitmap) == Set(0..<16))
    #expect(kernel.journal.dropFirst(2) == ["iommu read 1 next", "iommu stop", "log start 1"])
    #expect(memory.current.map(\.kind) == [.device, .everything])
    #expect(memory.failures.count == 1 && memory.failures[0].replacements == memory.current)
    #expect(
      memory.failures[0].error.description == "the tracker \"iommu\": reading what was written: the kernel answered EIO"
    )
  }

  @Test("a log that had to begin anew with other ranges makes everything dirty")
  func restarted() throws {
    let kernel = FakeKernel()
    let choice = try TrackerChoice(for: Self.device, from: [.ready(FakeTracker(.device, kernel, restarts: true))])
    var memory = TrackedMemory(layout: try layout(), [choice])
    var bitmap = DirtyBitmap(layout: try layout())
    try memory.add(run(0, 0), into: &bitmap)
    memory.start(into: &bitmap)
    bitmap.clearAll()
    kernel.write(Self.page)
    try memory.add(run(100, 100), into: &bitmap)
    #expect(pages(&bitmap) == Set(0..<16).union(100..<116))
    #expect(memory.failures.isEmpty)
  }

  @Test("a log that a guest's reset has ended is begun anew, and all is dirty; what the IOMMU knows outlives a reset")
  func guestReset() throws {
    for (kind, calls) in [(TrackerKind.device, ["device stop", "device start 1"]), (.iommu, []), (.container, [])] {
      let kernel = FakeKernel()
      let choice = try TrackerChoice(for: Self.device, .only(kind), from: [.ready(FakeTracker(kind, kernel))])
      var memory = TrackedMemory(layout: try layout(), [choice])
      var bitmap = DirtyBitmap(layout: try layout())
      try memory.add(run(100, 0), into: &bitmap)
      memory.restart(Self.device, into: &bitmap)
      #expect(kernel.calls == 0)
      memory.start(into: &bitmap)
      _ = pages(&bitmap)
      let before = kernel.calls
      memory.restart(Self.other, into: &bitmap)
      memory.restart(Self.device, into: &bitmap)
      #expect(Array(kernel.journal[before...]) == calls)
      #expect(pages(&bitmap) == (kind == .device ? Set(0..<16) : []))
      kernel.write(101 * Self.page)
      memory.read(into: &bitmap)
      #expect(pages(&bitmap) == [1])
    }
  }

  @Test("a log that can't be begun anew after a guest's reset is replaced, and all is dirty")
  func guestResetFails() throws {
    let kernel = FakeKernel(failing: 3...3)
    let choice = try TrackerChoice(for: Self.device, from: [.ready(FakeTracker(.device, kernel))])
    var memory = TrackedMemory(layout: try layout(), [choice])
    var bitmap = DirtyBitmap(layout: try layout())
    try memory.add(run(100, 0), into: &bitmap)
    memory.start(into: &bitmap)
    _ = pages(&bitmap)
    memory.restart(Self.device, into: &bitmap)
    #expect(memory.current.map(\.kind) == [.everything])
    #expect(pages(&bitmap) == Set(0..<16))
  }

  @Test("a log that a reading found ended is taken back when the guest's reset is told, and all is dirty")
  func guestResetAfterReading() throws {
    for isShared in [false, true] {
      // The first reading of the log, after each tracker was started.
      let reading = isShared ? 3 : 2
      let kernel = FakeKernel(failing: reading...reading)
      let container = FakeTracker(.container, kernel)
      let log = TrackerOffer.ready(FakeTracker(.device, kernel))
      var choices = [try TrackerChoice(for: Self.device, from: [log, .ready(container)])]
      if isShared { choices.append(try TrackerChoice(for: Self.other, from: [.ready(container)])) }
      var memory = TrackedMemory(layout: try layout(), choices)
      var bitmap = DirtyBitmap(layout: try layout())
      try memory.add(run(100, 0), into: &bitmap)
      memory.start(into: &bitmap)
      memory.read(into: &bitmap)
      #expect(memory.current.allSatisfy { $0.kind == .container } && memory.failures.count == 1)
      _ = pages(&bitmap)
      let before = kernel.calls
      memory.restart(Self.device, into: &bitmap)
      // What another device still needs goes on.
      #expect(Array(kernel.journal[before...]) == ["device start 1"] + (isShared ? [] : ["container stop"]))
      #expect(memory.current.map(\.kind) == (isShared ? [.device, .container] : [.device]))
      #expect(pages(&bitmap) == Set(0..<16) && memory.failures.count == 1)
      kernel.write(101 * Self.page)
      memory.read(into: &bitmap)
      #expect(pages(&bitmap) == [1])
      // The next reset is one as any other.
      memory.restart(Self.device, into: &bitmap)
      #expect(Array(kernel.journal.suffix(2)) == ["device stop", "device start 1"])
    }
  }

  @Test("where it does not start the device stays with what has tracked it since, until a later reset brings it back")
  func guestResetWithoutLog() throws {
    let kernel = FakeKernel()
    let offers: [TrackerOffer] = [.ready(FakeTracker(.device, kernel)), .ready(FakeTracker(.container, kernel))]
    var memory = TrackedMemory(layout: try layout(), [try TrackerChoice(for: Self.device, from: offers)])
    var bitmap = DirtyBitmap(layout: try layout())
    try memory.add(run(100, 0), into: &bitmap)
    memory.start(into: &bitmap)
    kernel.fail(2...2)
    memory.read(into: &bitmap)
    _ = pages(&bitmap)
    kernel.fail(5...5)
    kernel.write(102 * Self.page)
    memory.restart(Self.device, into: &bitmap)
    #expect(kernel.journal.dropFirst(3) == ["container start 1", "device start 1", "device stop"])
    #expect(memory.current.map(\.kind) == [.container])
    #expect(memory.failures.map(\.error.operation) == [.read, .start])
    #expect(memory.failures[1].replacements == memory.current)
    memory.read(into: &bitmap)
    #expect(pages(&bitmap) == [2])
    memory.restart(Self.device, into: &bitmap)
    #expect(memory.current.map(\.kind) == [.device])
    #expect(pages(&bitmap) == Set(0..<16))
  }

  @Test("a log that failed at anything but a reading is not taken back by a reset")
  func guestResetAfterOtherFailure() throws {
    let kernel = FakeKernel(failing: 1...1)
    let choice = try TrackerChoice(for: Self.device, from: [.ready(FakeTracker(.device, kernel))])
    var memory = TrackedMemory(layout: try layout(), [choice])
    var bitmap = DirtyBitmap(layout: try layout())
    try memory.add(run(100, 0), into: &bitmap)
    memory.start(into: &bitmap)
    memory.restart(Self.device, into: &bitmap)
    #expect(kernel.journal == ["device start 1", "device stop"])
    #expect(memory.current.map(\.kind) == [.everything])
  }

  @Test("nothing is known before the trackers are on, nor after")
  func off() throws {
    let kernel = FakeKernel()
    let choice = try TrackerChoice(for: Self.device, from: [.ready(FakeTracker(.iommu, kernel))])
    var memory = TrackedMemory(layout: try layout(), [choice])
    var bitmap = DirtyBitmap(layout: try layout())
    try memory.add(run(0, 0), into: &bitmap)
    memory.read(into: &bitmap)
    #expect(pages(&bitmap) == Set(0..<16))
    memory.start(into: &bitmap)
    #expect(memory.stop() == [])
    bitmap.clearAll()
    memory.read(into: &bitmap)
    #expect(pages(&bitmap) == Set(0..<16))
    #expect(kernel.journal == ["iommu start 1", "iommu stop"])
  }

  /// A session with map changes over two devices and four trackers. What was written is always among what was reported.
  /// - Returns: how many calls it made.
  private func session(failing: ClosedRange<Int>?) throws -> Int {
    let kernel = FakeKernel(failing: failing)
    let table = FakeTracker(.iommu, kernel)
    let container = FakeTracker(.container, kernel)
    let choices = [
      try TrackerChoice(
        for: Self.device,
        from: [.ready(table), .ready(FakeTracker(.device, kernel, restarts: true)), .ready(container)]),
      try TrackerChoice(for: Self.other, from: [.ready(table), .ready(container)]),
    ]
    var memory = TrackedMemory(layout: try layout(), choices)
    var bitmap = DirtyBitmap(layout: try layout())
    // Which pages the copy has not yet in their last version.
    var stale: Set<UInt64> = []
    func write(_ address: UInt64, _ guest: UInt64) {
      kernel.write(address * Self.page)
      stale.insert(guest)
    }
    try memory.add(run(0, 32), into: &bitmap)
    write(4, 36)
    memory.start(into: &bitmap)
    write(5, 37)
    stale.subtract(pages(&bitmap))
    #expect(stale.isSubset(of: [37]))
    memory.read(into: &bitmap)
    stale.subtract(pages(&bitmap))
    #expect(stale.isEmpty)
    write(6, 38)
    try memory.add(run(100, 100), into: &bitmap)
    write(107, 107)
    try memory.add(run(200, 32), into: &bitmap)
    write(201, 33)
    try memory.remove(run(100, 100).addresses, into: &bitmap)
    stale.subtract(pages(&bitmap))
    #expect(!stale.contains(107))
    write(15, 47)
    memory.restart(Self.device, into: &bitmap)
    memory.read(into: &bitmap)
    stale.subtract(pages(&bitmap))
    #expect(stale.isEmpty)
    write(14, 46)
    memory.restart(Self.device, into: &bitmap)
    write(207, 39)
    memory.read(into: &bitmap)
    stale.subtract(pages(&bitmap))
    #expect(stale.isEmpty, "failing \(failing.map { "\($0)" } ?? "nothing")")
    let errors = memory.stop()
    #expect((failing == nil) == (memory.failures.isEmpty && errors.isEmpty))
    #expect(memory.current.allSatisfy { failing != nil || $0.kind == .iommu })
    return kernel.calls
  }

  @Test("whatever call fails, alone, with those after it, or with some of them, no written page is missed")
  func everyFailure() throws {
    let calls = try session(failing: nil)
    #expect(calls == 8)
    for first in 1...calls {
      for count in [1, 2, 3, 4, 5, 1000] { _ = try session(failing: first...first + count - 1) }
    }
  }
}
