// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Metrics
internal import Migration
internal import Synchronization

/// What a helper counts: docs/metrics.md has the names. The server's thread counts as it tells its VMM, which costs it nothing but
/// additions; the page is made on another thread, when somebody wants it.
public final class HelperMetrics: Sendable {
  fileprivate struct Counts {
    var phase = HelperPhase.setup
    var devices = 0
    var hung = 0
    var stateBytes: UInt64 = 0
    var memoryBytes: UInt64 = 0
    var dirtyPages: UInt64 = 0
    var sessions: [String: UInt64] = ["save": 0, "load": 0, "resume": 0]
    var failures: UInt64 = 0
    var rounds: UInt64 = 0
    var hangs: UInt64 = 0
    var linkLosses: UInt64 = 0
    var trackersReplaced: UInt64 = 0
    var arcs: [MigrationState: DurationHistogram] = [:]
    var failedArcs: UInt64 = 0
    /// When the devices of a stop were first told to, on the monotonic clock.
    var stopBegan: UInt64?
    var lastStop: UInt64?
  }

  private let counts = Mutex(Counts())
  private let version: String
  private let common: [MetricsPage.Label]

  /// - Parameters:
  ///   - name: tells this helper from others: a label of every line.
  ///   - version: of the program.
  public init(name: String, version: String) {
    common = [MetricsPage.Label("helper", name)]
    self.version = version
  }

  /// How many devices there are, and on how many of them a call has not come back: either changes without an event, too.
  func take(devices: Int, hung: Int) {
    counts.withLock { counts in
      counts.devices = devices
      counts.hung = hung
    }
  }

  /// Counts an event as the VMM is told of it.
  /// - Parameter status: asked only for events that change it.
  func take(_ event: HelperEvent, _ status: () -> HelperStatus) {
    switch event {
    case .arc(_, _, let to, let error, let microseconds):
      counts.withLock { counts in
        if error == nil {
          counts.arcs[to, default: DurationHistogram()].add(microseconds)
        } else {
          counts.failedArcs += 1
        }
      }
    case .phase(let phase):
      let (status, now) = (status(), monotonicMicroseconds())
      counts.withLock { counts in
        counts.enter(phase, at: now)
        counts.take(status)
      }
    case .progress:
      let status = status()
      counts.withLock { $0.take(status) }
    case .hung:
      let status = status()
      counts.withLock { counts in
        counts.hangs += 1
        counts.take(status)
      }
    case .decision(let estimate):
      counts.withLock { counts in
        counts.rounds += 1
        counts.dirtyPages = estimate.dirty
      }
    case .linkLost: counts.withLock { $0.linkLosses += 1 }
    case .tracker: counts.withLock { $0.trackersReplaced += 1 }
    case .failed: counts.withLock { $0.failures += 1 }
    case .slow, .reset, .ready, .throttle, .loaded, .tag: break
    }
  }

  /// The page.
  public var page: String {
    let counts = counts.withLock { $0 }
    var page = MetricsPage(common: common)
    page.add(
      "vfio_ferry_helper_info", .gauge, "The version of a helper; always 1.",
      [([.init("version", version)], .count(1))])
    page.add(
      "vfio_ferry_helper_phase", .gauge, "Whether a session is in this phase.",
      HelperPhase.allCases.map { ([.init("phase", $0.name)], .count($0 == counts.phase ? 1 : 0)) })
    page.add("vfio_ferry_helper_devices", .gauge, "Devices that a helper has.", .count(UInt64(counts.devices)))
    page.add(
      "vfio_ferry_helper_hung_devices", .gauge, "Devices on which a call has not come back.",
      .count(UInt64(counts.hung)))
    page.add(
      "vfio_ferry_helper_sessions_total", .counter, "Sessions begun, by kind.",
      ["save", "load", "resume"].map { ([.init("kind", $0)], .count(counts.sessions[$0] ?? 0)) })
    page.add("vfio_ferry_helper_failures_total", .counter, "Sessions that have failed.", .count(counts.failures))
    page.add(
      "vfio_ferry_helper_hangs_total", .counter, "How often a device did not answer in time.", .count(counts.hangs))
    page.add(
      "vfio_ferry_helper_link_losses_total", .counter, "How often a stream broke off.", .count(counts.linkLosses))
    page.add(
      "vfio_ferry_helper_trackers_replaced_total", .counter, "How often a tracker of dirty pages had to be replaced.",
      .count(counts.trackersReplaced))
    page.add("vfio_ferry_helper_rounds_total", .counter, "Rounds of pre-copy that were judged.", .count(counts.rounds))
    page.add(
      "vfio_ferry_helper_state_bytes", .gauge, "Bytes of device state moved in this session, or the last.",
      .count(counts.stateBytes))
    page.add(
      "vfio_ferry_helper_memory_bytes", .gauge,
      "Bytes of guest memory moved by the helper in this session, or the last.",
      .count(counts.memoryBytes))
    page.add(
      "vfio_ferry_helper_dirty_pages", .gauge, "Pages that were dirty at the last round's end.",
      .count(counts.dirtyPages))
    if let stop = counts.lastStop {
      page.add(
        "vfio_ferry_helper_last_stop_seconds", .gauge,
        "How long the last stop took on this side: until its devices were let go of, or ran again.", .microseconds(stop)
      )
    }
    page.add(
      "vfio_ferry_helper_arc_duration_seconds",
      "How long devices took to change their state, by the state they came to.",
      MigrationState.allCases.compactMap { state in counts.arcs[state].map { ([.init("to", state.name)], $0) } })
    page.add(
      "vfio_ferry_helper_arc_failures_total", .counter, "Changes of state that have failed.", .count(counts.failedArcs))
    return page.text
  }
}

extension HelperMetrics.Counts {
  fileprivate mutating func take(_ status: HelperStatus) {
    stateBytes = status.bytes
    memoryBytes = status.memoryBytes
  }

  fileprivate mutating func enter(_ next: HelperPhase, at now: UInt64) {
    switch next {
    case .preCopy: sessions["save", default: 0] += 1
    case .quiescing where phase != .preCopy: sessions["save", default: 0] += 1
    case .loading: sessions["load", default: 0] += 1
    case .resuming: sessions["resume", default: 0] += 1
    default: break
    }
    switch next {
    case .quiescing: stopBegan = now
    case .committed, .setup:
      if let began = stopBegan { lastStop = now - began }
      stopBegan = nil
    default: break
    }
    phase = next
  }
}
