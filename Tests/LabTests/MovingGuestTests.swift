// SPDX-License-Identifier: Apache-2.0
import Engine
import Foundation
import LinuxIO
import Migration
import Synchronization
import Testing
import Transport
import VFIO

extension LabTests {
  /// A guest's memory and its device saved together by the engine: the loop's rounds on a real kernel, and the last reading
  /// after the stop.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct MovingGuestTests {
    /// How a case is tracked, and by that how its device reaches memory.
    enum Tracked: CaseIterable {
      case byPageTable, byLog, byContainer, byNobody

      var kind: TrackerKind {
        switch self {
        case .byPageTable: .iommu
        case .byLog: .device
        case .byContainer: .container
        case .byNobody: .everything
        }
      }

      var way: WatchedGuest.Way {
        switch self {
        case .byPageTable: .pageTable
        case .byLog, .byNobody: .addressSpace
        case .byContainer: .container
        }
      }
    }

    private static let page: UInt64 = 4096
    private static let runs = [
      (0x100_0000, 0, 2048), (0x1_8000_0000, 5 << 30, 1024), (0x180_0000_0000, 1100 << 30, 1024),
    ]

    /// What became of a save.
    private struct Ended {
      let session: SaveSession
      let decisions: [PreCopyDecision]
      let moments: [DirtyMoment]
      let restarts: Int
      let failures: [TrackedMemory.Failure]
      let kind: TrackerKind
      let state: MigrationState
      let differingPages: Int
      let writesAfterStop: Int
    }

    private func save(
      _ tracked: Tracked, readsLast: Bool = true, resets: Int = 0, arcTime: String = ""
    ) throws -> Ended {
      let synthetic = try Synthetic(
        "loop",
        [
          "iommu": tracked.way.iommu.rawValue, "dma_rate": "12000", "dma_pattern": "hot", "dma_seed": "1",
          "state_bytes": "1M", "state_rate": "100", "arc_time": arcTime,
        ])
      // It waits until nobody holds the device.
      defer { synthetic.remove() }
      return try save(synthetic, tracked, readsLast: readsLast, resets: resets)
    }

    private func save(_ synthetic: Synthetic, _ tracked: Tracked, readsLast: Bool, resets: Int) throws -> Ended {
      let runs = try Self.runs.map { address, guest, pages in
        try MappedRun(UInt64(address)..<UInt64(address) + UInt64(pages) * Self.page, guest: UInt64(guest))
      }
      let guest = try WatchedGuest(synthetic, tracked.way, guest: runs.map(\.guestAddresses))
      for run in runs { try guest.map(run) }
      try guest.aim(runs.map(\.addresses))
      let memory = try CopiedMemory(guest, tracked.kind, runs, readsLast: readsLast, resets: resets)
      try synthetic.resetReferee()
      try synthetic.set("activity", "dma state")
      try guest.wait(pages: 100)
      var configuration = SaveSession.Configuration()
      configuration.buffers = 2
      configuration.keepStopped = true
      configuration.quiescing.vcpusAreStopped = true
      var loop = PreCopyConfiguration()
      loop.lastResort = .force
      // As quick as memory is, the first round takes no time: what matters are rounds.
      loop.downtimeLimit = resets > 0 ? 0 : 50_000
      configuration.memory = loop
      let features = try guest.device.migrationFeatures()
      let devices = [
        SessionDevice(name: "\(guest.device.name)", driver: "synthetic", features: features, state: .running)
      ]
      let plan = try QuiescePlan(devices: devices, reachability: .assumed(count: 1))
      let session = SaveSession(devices: devices, plan: plan, configuration: configuration)
      let runner = try SessionRunner(
        devices: [guest.device], memory: memory, channel: try Stream().channel(), checksum: .xxh3, buffers: 2)
      let decisions = Mutex<[PreCopyDecision]>([])
      let ended = try runner.run(
        session,
        observer: .init(note: { note, _ in
          if case .decided(let decision) = note { decisions.withLock { $0.append(decision) } }
        }))
      memory.stop()
      return Ended(
        session: ended, decisions: decisions.withLock { $0 }, moments: memory.moments, restarts: memory.restarts,
        failures: memory.failures, kind: memory.kind, state: try guest.device.migrationState(),
        differingPages: guest.differingPages, writesAfterStop: try synthetic.referee["dma_after_stop"])
    }

    @Test("the copy is what memory is when the device has stopped, whoever tracks", arguments: Tracked.allCases)
    func copied(tracked: Tracked) throws {
      let ended = try save(tracked)
      #expect(ended.session.outcome?.fault == nil)
      #expect(ended.state == .stop && ended.writesAfterStop == 0)
      #expect(ended.differingPages == 0)
      #expect(ended.moments.first == .first && ended.moments.last == .last)
      #expect(ended.moments.count { $0 == .last } == 1)
      #expect(ended.decisions.count >= 2 && ended.session.rounds == ended.decisions.count + 1, "\(ended.decisions)")
      #expect(ended.failures == [] && ended.kind == tracked.kind)
    }

    @Test(
      "negative control: without the reading after the stop pages are missed",
      arguments: [Tracked.byPageTable, .byLog])
    func withoutLast(tracked: Tracked) throws {
      // The arc to the stop takes long enough for the device to write after the reading before.
      let ended = try save(tracked, readsLast: false, arcTime: "pre-copy-p2p:stop-copy 200000")
      #expect(ended.session.outcome?.fault == nil)
      #expect(ended.differingPages > 0)
    }

    @Test(
      "a guest's reset begins a new log and a new image, and nothing is missed",
      arguments: [Tracked.byPageTable, .byLog])
    func reset(tracked: Tracked) throws {
      let ended = try save(tracked, resets: 2)
      #expect(ended.session.outcome?.fault == nil)
      #expect(ended.session.restarts == [2] && ended.restarts == 2)
      #expect(ended.differingPages == 0)
      #expect(ended.failures == [] && ended.kind == tracked.kind)
      #expect(ended.decisions.count > 2)
    }
  }
}

/// Guest memory that moves into a copy in the same process.
private final class CopiedMemory: MovingMemory {
  private struct State: ~Copyable {
    var memory: TrackedMemory
    var bitmap: DirtyBitmap<PrivateWords>
    var moments: [DirtyMoment] = []
    var restarts = 0
    var resetsLeft: Int
  }
  // One thread at a time uses it: the engine's memory lane, and the test when the session is over.
  private nonisolated(unsafe) let guest: WatchedGuest
  private let readsLast: Bool
  private let state: Mutex<State>

  init(_ guest: WatchedGuest, _ kind: TrackerKind, _ runs: [MappedRun], readsLast: Bool, resets: Int) throws {
    unsafe self.guest = guest
    self.readsLast = readsLast
    var offers = TrackerOffers()
    let choice = try TrackerChoice(for: guest.device.name, .only(kind), from: offers.offers(for: guest.device))
    var memory = TrackedMemory(layout: guest.layout, [choice])
    var bitmap = DirtyBitmap(layout: guest.layout)
    for run in runs { try memory.add(run, into: &bitmap) }
    state = Mutex(State(memory: memory, bitmap: bitmap, resetsLeft: resets))
  }

  var moments: [DirtyMoment] { state.withLock { $0.moments } }
  var restarts: Int { state.withLock { $0.restarts } }
  var failures: [TrackedMemory.Failure] { state.withLock { $0.memory.failures } }
  var kind: TrackerKind { state.withLock { $0.memory.current[0].kind } }

  func read(_ moment: DirtyMoment) -> DirtyReading {
    state.withLock { state in
      state.moments.append(moment)
      switch moment {
      case .first: state.memory.start(into: &state.bitmap)
      case .next:
        state.memory.read(into: &state.bitmap)
        if state.resetsLeft > 0, state.moments.count % 2 == 0 {
          state.resetsLeft -= 1
          try? unsafe guest.synthetic.set("reset", "1")
          try? unsafe guest.synthetic.set("activity", "dma state")
        }
      case .last: if readsLast { state.memory.read(into: &state.bitmap) }
      }
      let pages = UInt64(state.bitmap.count)
      return DirtyReading(pages: pages, bytes: pages * WatchedGuest.page)
    }
  }

  func restartTracking(device: Int) {
    state.withLock { state in
      state.restarts += 1
      state.memory.restart(unsafe guest.device.name, into: &state.bitmap)
    }
  }

  func send() throws(MovingMemoryError) -> UInt64 {
    do {
      return try state.withLock { state in UInt64(try unsafe guest.copy(&state.bitmap)) * WatchedGuest.page }
    } catch {
      throw MovingMemoryError("copying guest memory", errno: .invalidArgument)
    }
  }

  func cancel() {}

  func stop() { state.withLock { _ = $0.memory.stop() } }
}
