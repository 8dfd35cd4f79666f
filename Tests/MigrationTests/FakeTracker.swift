// SPDX-License-Identifier: Apache-2.0
import Migration
import Synchronization

/// What the devices of a test write, and which trackers are on to see it.
final class FakeKernel: Sendable {
  struct State {
    var trackers: [FakeTracker] = []
    var journal: [String] = []
    var calls = 0
    var failing: ClosedRange<Int>?
  }
  let state = Mutex(State())

  /// - Parameter failing: the calls that fail, counted from 1 over all trackers.
  init(failing: ClosedRange<Int>? = nil) { state.withLock { $0.failing = failing } }

  /// From now on these calls fail.
  func fail(_ calls: ClosedRange<Int>) { state.withLock { $0.failing = calls } }

  var journal: [String] { state.withLock { $0.journal } }
  var calls: Int { state.withLock { $0.calls } }

  /// A device writes to one page.
  func write(_ address: UInt64) {
    for tracker in state.withLock({ $0.trackers }) { tracker.see(address) }
  }

  /// - Returns: whether the call is to fail.
  func note(_ what: String) -> Bool {
    state.withLock { state in
      state.calls += 1
      state.journal.append(what)
      return state.failing?.contains(state.calls) ?? false
    }
  }
}

/// A tracker that is told what is written, and that forgets everything when a call fails.
final class FakeTracker: DirtyTracker {
  private struct State {
    var isOn = false
    var seen: Set<UInt64> = []
  }
  let kind: TrackerKind
  private let name: String
  private let kernel: FakeKernel
  private let restarts: Bool
  private let state = Mutex(State())

  init(_ kind: TrackerKind, _ kernel: FakeKernel, name: String? = nil, restarts: Bool = false) {
    self.kind = kind
    self.name = name ?? "\(kind)"
    self.kernel = kernel
    self.restarts = restarts
    kernel.state.withLock { $0.trackers.append(self) }
  }

  func see(_ address: UInt64) {
    state.withLock { if $0.isOn { $0.seen.insert(address) } }
  }

  private func note(_ operation: TrackerError.Operation, _ what: String) throws(TrackerError) {
    if kernel.note("\(name) \(what)") {
      state.withLock { $0.seen = [] }
      throw TrackerError(kind, operation, .errno(.inputOutput))
    }
  }

  func start(_ map: MappedMemory) throws(TrackerError) {
    try note(.start, "start \(map.runs.count)")
    state.withLock { $0 = State(isOn: true) }
  }

  func read<Words: DirtyWords & ~Copyable>(
    _ runs: [MappedRun], for purpose: ReadingPurpose, into bitmap: inout DirtyBitmap<Words>
  ) throws(TrackerError) {
    try note(.read, "read \(runs.count) \(purpose)")
    guard state.withLock({ $0.isOn }) else { throw TrackerError(kind, .read, .notTracking) }
    let inside = state.withLock { state in
      let inside = state.seen.filter { address in runs.contains { $0.addresses.contains(address) } }
      if purpose == .next { state.seen.subtract(inside) }
      return inside
    }
    for address in inside {
      for run in runs where run.addresses.contains(address) {
        do throws(DirtyBitmapError) {
          try bitmap.mark(run.guest + (address - run.addresses.lowerBound))
        } catch {
          throw TrackerError(kind, .read, .bitmap(error))
        }
      }
    }
  }

  func add(_ run: MappedRun, to map: MappedMemory) throws(TrackerError) -> TrackerContinuity {
    try note(.add, "add \(map.runs.count)")
    if restarts { state.withLock { $0.seen = [] } }
    return restarts ? .restarted : .kept
  }

  func stop() throws(TrackerError) {
    state.withLock { $0.isOn = false }
    try note(.stop, "stop")
  }
}
