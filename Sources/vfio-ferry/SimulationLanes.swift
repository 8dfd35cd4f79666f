// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Simulation

/// What a device went through on one host, from the beginning to the end of a run.
struct DeviceLane: Hashable {
  /// What a device is doing, as people care about it.
  enum Activity: CaseIterable, Hashable {
    /// Nobody's device: nothing was loaded into it yet.
    case empty
    case runs
    case preCopies
    case answers
    case standsStill
    case isRead
    case isFilled
    case failed

    /// What a device does in a state.
    init(_ state: MigrationState) {
      self =
        switch state {
        case .error: .failed
        case .stop: .standsStill
        case .running: .runs
        case .stopCopy: .isRead
        case .resuming: .isFilled
        case .runningP2P, .preCopyP2P: .answers
        case .preCopy: .preCopies
        }
    }

    /// As a legend says it.
    var words: String {
      switch self {
      case .empty: "empty, nobody uses it"
      case .runs: "runs"
      case .preCopies: "runs, its state is read ahead (pre-copy)"
      case .answers: "answers other devices, starts no transfer to them (P2P)"
      case .standsStill: "stands still (stop)"
      case .isRead: "stands still, its state is read (stop-copy)"
      case .isFilled: "is filled with the state (resuming)"
      case .failed: "failed (error)"
      }
    }

    /// Whether it may still change guest memory.
    var isAlive: Bool {
      switch self {
      case .runs, .preCopies, .answers: true
      case .empty, .standsStill, .isRead, .isFilled, .failed: false
      }
    }
  }

  /// A time in which it did one thing. Microseconds on the virtual clock.
  struct Segment: Hashable {
    var activity: Activity
    var begin: UInt64
    var end: UInt64

    /// How long it was, in microseconds.
    var length: UInt64 { end - begin }
  }

  let segments: [Segment]

  /// - Parameters:
  ///   - changes: the times at which it entered states, oldest first.
  ///   - side: the destination's devices are empty until they are filled.
  ///   - end: the end of the run.
  init(_ changes: [(time: UInt64, state: MigrationState)], side: SimulatedSide, end: UInt64) {
    var segments: [Segment] = []
    var current = Segment(activity: side == .source ? .runs : .empty, begin: 0, end: 0)
    for change in changes {
      var next = Activity(change.state)
      if current.activity == .empty, next != .isFilled, next != .failed { next = .empty }
      guard next != current.activity else { continue }
      current.end = change.time
      if current.length > 0 { segments.append(current) }
      current = Segment(activity: next, begin: change.time, end: 0)
    }
    current.end = max(end, current.begin)
    self.segments = segments + [current]
  }
}

/// A device on both hosts.
struct DeviceLanes: Hashable {
  let source: DeviceLane
  let destination: DeviceLane

  /// Of each device of a world, as far as it has come.
  static func all(of world: SimulatedWorld) -> [DeviceLanes] {
    let end = world.now.microseconds
    let truth = world.stateChanges
    let arcs = world.summary.devices.map(\.arcs)
    return arcs.indices.map { device in
      func lane(_ side: SimulatedSide) -> DeviceLane {
        var changes = truth.filter { $0.device == device && $0.side == side }.map { ($0.time.microseconds, $0.state) }
        // A scenario without a world says nothing; what sessions saw is close.
        if truth.isEmpty {
          changes = arcs[device].filter { $0.side == side && $0.error == nil }.map { ($0.end.microseconds, $0.to) }
        }
        return DeviceLane(changes.map { (time: $0.0, state: $0.1) }, side: side, end: end)
      }
      return DeviceLanes(source: lane(.source), destination: lane(.destination))
    }
  }

  /// Microseconds in P2P states, on both hosts.
  var quietMicroseconds: UInt64 {
    (source.segments + destination.segments).filter { $0.activity == .answers }.reduce(0) { $0 + $1.length }
  }

  /// From when until when neither host's device was alive. Nil where it never stood still; without an end where it still does.
  var standstill: (begin: UInt64, end: UInt64?)? {
    guard let begin = source.segments.first(where: { !$0.activity.isAlive })?.begin else { return nil }
    let lives = (source.segments + destination.segments).filter { $0.activity.isAlive && $0.begin >= begin }
    return (begin, lives.map(\.begin).min())
  }

  /// Microseconds from when its state could be read at rest until the destination had all of it; nil where it did not come
  /// so far.
  var wireMicroseconds: UInt64? {
    guard let begin = source.segments.last(where: { $0.activity == .isRead })?.begin,
      let filled = destination.segments.lastIndex(where: { $0.activity == .isFilled }),
      filled + 1 < destination.segments.count, destination.segments[filled].end > begin
    else { return nil }
    return destination.segments[filled].end - begin
  }
}
