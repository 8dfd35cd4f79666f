// SPDX-License-Identifier: Apache-2.0
import Engine
import Foundation
import LinuxIO
import Migration
import Synchronization
import Testing

@testable import VFIO

extension LabTests {
  /// A reader that copies only what trackers report, for a guest that goes on living: memory is mapped and unmapped, the
  /// guest resets its device, trackers fail. At each stop the copy is what memory is.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct AllTrackersTests {
    // All at a time: each waits for most of its half minute. A machine that can't carry them says so, and takes longer.
    @Test("for half a minute at 10,000 pages a second nothing is missed, whoever tracks, and nothing when he fails")
    func endurance() throws {
      try FailNth.beQuiet()
      let endings = Mutex<[Ending]>([])
      let errors = Mutex<[String]>([])
      let threads = try TrackerKind.allCases.map { kind in
        try BlockingThread(name: "\(kind)") {
          do {
            let synthetic = try Reader.device(kind)
            defer { synthetic.remove() }
            let ending = try Reader(kind, synthetic).live(seconds: 30, pages: 300_000)
            endings.withLock { $0.append(ending) }
          } catch {
            errors.withLock { $0.append("\(kind): \(error)") }
          }
        }
      }
      for thread in threads { thread.join() }
      #expect(errors.withLock { $0 } == [])
      for ending in endings.withLock({ $0 }) {
        print(ending)
        #expect(ending.missed == 0, "\(ending)")
        #expect(ending.missedAfterFailure == 0, "\(ending)")
        #expect(ending.unreported == 0 && ending.faults == 0, "\(ending)")
        #expect(ending.written > 1000 && ending.changes > 20 && ending.resets == 3, "\(ending)")
        #expect(ending.replacements == Self.replacements[ending.kind], "\(ending)")
        // As many as in half a minute at that rate, by the device's own count, however long a busy machine takes to it.
        #expect(ending.pages >= 300_000, "\(ending)")
        if ending.rate < 10_000 {
          Issue.record("this machine has carried \(ending.rate) pages a second only: \(ending)", severity: .warning)
        }
      }
    }

    private static let replacements: [TrackerKind: [TrackerKind]] = [
      .iommu: [.device, .everything], .device: [.everything], .container: [.everything], .everything: [],
    ]

    @Test(
      "negative control: what a device keeps from its tracker is missed", arguments: [TrackerKind.iommu, .device])
    func unlogged(kind: TrackerKind) throws {
      let synthetic = try Reader.device(kind)
      defer { synthetic.remove() }
      try synthetic.set("misbehave", "unlogged")
      let ending = try Reader(kind, synthetic).live(seconds: 1, pages: 10_000)
      #expect(ending.missed > 0 && ending.unreported > 0, "\(ending)")
    }
  }
}

/// What became of one life.
private struct Ending: CustomStringConvertible {
  let kind: TrackerKind
  /// Pages that the copy had otherwise than memory, before the tracker was made to fail and after.
  var missed = 0
  var missedAfterFailure = 0
  /// What the referee says that no reading has told, before the failure.
  var unreported = 0
  var faults = 0
  /// Written by the device before the failure, and per second.
  var pages = 0
  var rate = 0
  /// Different pages that were written.
  var written = 0
  var readings = 0
  var copied = 0
  var changes = 0
  var resets = 0
  var replacements: [TrackerKind] = []

  var description: String {
    "\(kind): \(pages) pages at \(rate) a second, \(copied) copied by \(readings) readings, \(changes) changes of the map, "
      + "\(resets) resets; missed \(missed), after a failure \(missedAfterFailure); unreported \(unreported), "
      + "faults \(faults), replaced by \(replacements)"
  }
}

/// A guest with a device that writes to it, and whoever reads what it has written.
private final class Reader {
  private let kind: TrackerKind
  let guest: WatchedGuest
  private var memory: TrackedMemory
  private var bitmap: DirtyBitmap<SharedWords>
  private var ending: Ending
  /// What is mapped all the time, and what comes and goes: low, above 4 GiB and above 1 TiB, in the guest's addresses as well.
  private let lasting: [MappedRun]
  private let changing: [MappedRun]
  private var mapped: Set<Int> = []

  private static func way(_ kind: TrackerKind) -> WatchedGuest.Way {
    switch kind {
    case .iommu: .pageTable
    case .container: .container
    case .device, .everything: .addressSpace
    }
  }

  /// A device for such a tracker. Who makes it removes it, after the reader is gone.
  static func device(_ kind: TrackerKind) throws -> Synthetic {
    try Synthetic(
      "all",
      ["iommu": way(kind).iommu.rawValue, "dma_rate": "12000", "dma_pattern": "random", "dma_seed": "1"])
  }

  init(_ kind: TrackerKind, _ synthetic: Synthetic) throws {
    self.kind = kind
    let (low, middle, high) = (0x100_0000 as UInt64, 0x1_8000_0000 as UInt64, 0x180_0000_0000 as UInt64)
    let (mebi, gibi) = (1 << 20 as UInt64, 1 << 30 as UInt64)
    guest = try WatchedGuest(
      synthetic, Self.way(kind),
      guest: [0..<4 * mebi, 5 * gibi..<5 * gibi + 4 * mebi, 1100 * gibi..<1100 * gibi + 4 * mebi])
    lasting = [
      try MappedRun(low..<low + 2 * mebi, guest: 0),
      try MappedRun(middle..<middle + 3 * mebi, guest: 5 * gibi),
      try MappedRun(high..<high + 2 * mebi, guest: 1100 * gibi + 2 * mebi),
    ]
    changing = [
      try MappedRun(low + 8 * mebi..<low + 9 * mebi, guest: 2 * mebi),
      try MappedRun(middle + 4 * mebi..<middle + 5 * mebi, guest: 5 * gibi + 3 * mebi),
      try MappedRun(high + gibi..<high + gibi + mebi, guest: 1100 * gibi),
      // The same memory a second time, as behind a virtual IOMMU.
      try MappedRun(high + 2 * gibi..<high + 2 * gibi + mebi, guest: 1100 * gibi),
    ]
    var offers = TrackerOffers()
    let choice = try TrackerChoice(for: guest.device.name, .only(kind), from: offers.offers(for: guest.device))
    memory = TrackedMemory(layout: guest.layout, [choice])
    bitmap = try DirtyBitmap(sharing: guest.layout)
    ending = Ending(kind: kind)
  }

  private var aims: [Range<UInt64>] { (lasting + mapped.sorted().map { changing[$0] }).map(\.addresses) }

  private func read() throws {
    memory.read(into: &bitmap)
    ending.copied += try guest.copy(&bitmap)
    ending.readings += 1
  }

  /// Maps what is not mapped, or unmaps what is.
  private func change(_ index: Int) throws {
    let run = changing[index]
    ending.changes += 1
    if mapped.remove(index) != nil {
      // As a driver in the guest: the device knows nothing of it any more when it goes.
      try guest.aim(aims)
      try memory.remove(run.addresses, into: &bitmap)
      try guest.unmap(run)
    } else {
      try guest.map(run)
      try memory.add(run, into: &bitmap)
      mapped.insert(index)
      try guest.aim(aims)
    }
  }

  private func reset() throws {
    ending.resets += 1
    try guest.synthetic.set("dma_seed", "\(ending.resets + 1)")
    try guest.synthetic.set("reset", "1")
    try guest.synthetic.set("activity", "dma")
  }

  /// Reads again and again, while the map changes, and the guest resets its device so many times.
  private func follow(seconds: Int, pages: Int, resets: Int) throws {
    let clock = ContinuousClock()
    let began = clock.now
    let before = try guest.synthetic.referee["dma_pages"]
    var (steps, done, due) = (0, 0, 0)
    while true {
      try read()
      // A pause for the devices' threads: a machine with few processors has nothing else to run them on. Who has everything
      // dirty copies everything each time.
      usleep(kind == .everything ? 100_000 : 2000)
      guard began.duration(to: clock.now) >= .milliseconds(250 * steps) else { continue }
      steps += 1
      let written = try guest.synthetic.referee["dma_pages"] - before
      due = min(resets, written * (resets + 1) / max(pages, 1))
      if done < due {
        done += 1
        try reset()
      }
      try change(steps % changing.count)
      let took = began.duration(to: clock.now)
      if took >= .seconds(seconds), written >= pages {
        ending.pages = written
        ending.rate = Int(
          Double(written) / (Double(took.components.seconds) + Double(took.components.attoseconds) / 1e18))
        return
      }
    }
  }

  /// Stops the device and reads for the last time.
  /// - Returns: how many pages the copy has otherwise than memory.
  private func settle() throws -> Int {
    try guest.stop()
    try read()
    return guest.differingPages
  }

  func live(seconds: Int, pages: Int) throws -> Ending {
    defer { finish() }
    for run in lasting {
      try guest.map(run)
      try memory.add(run, into: &bitmap)
    }
    memory.start(into: &bitmap)
    try guest.synthetic.resetReferee()
    try guest.aim(aims)
    try guest.synthetic.set("activity", "dma")
    try follow(seconds: seconds, pages: pages, resets: 2)
    ending.missed = try settle()
    let referee = try guest.synthetic.referee
    // What tells it is the IOMMU or the log; of the others the referee knows nothing.
    if kind == .iommu || kind == .device {
      ending.unreported = referee["dma_unreported"] + referee["dma_unmapped_unreported"]
    }
    ending.faults = referee["dma_faults"]
    ending.written = guest.writtenPages
    guard memory.failures.isEmpty else { return ending }

    let (was, rate) = (ending.pages, ending.rate)
    try guest.start()
    // A map change between the two failures, and a reset.
    try fail()
    try follow(seconds: 1, pages: pages / 30, resets: 1)
    if memory.current[0].kind == .device {
      try guest.synthetic.set("log_fail", "report 1 5")
      try follow(seconds: 1, pages: pages / 30, resets: 0)
    }
    ending.missedAfterFailure = try settle()
    ending.replacements = memory.failures.flatMap(\.replacements).map(\.kind)
    (ending.pages, ending.rate) = (was, rate)
    return ending
  }

  /// Has the tracker fail at the next reading, which is this thread's.
  private func fail() throws {
    switch kind {
    case .iommu: try FailNth.set(1)
    case .device: try guest.synthetic.set("log_fail", "report 1 5")
    // As a VMM would that thinks its tracking is its own.
    case .container: try (guest.device.support as? LegacyGroup)?.container.setTracking(false)
    case .everything: break
    }
  }

  private func finish() { _ = memory.stop() }
}
