// SPDX-License-Identifier: Apache-2.0
// What happened on the way of a group: which device made which arc when, and how far apart they arrived.

/// When a request on a device's control lane began and ended, by the clock of whoever made it: a thread just before and
/// just after its ioctl.
public struct RequestTimes: Hashable, Sendable {
  /// Just before it.
  public var began: MonotonicTime
  /// Just after it.
  public var ended: MonotonicTime

  /// These times.
  public init(began: MonotonicTime, ended: MonotonicTime) {
    self.began = began
    self.ended = ended
  }

  /// How long the request took.
  public var microseconds: UInt64 { ended.microseconds(since: began) }
}

/// One arc of one device, or the attempt.
public struct ArcReport: Hashable, Sendable {
  /// The device's position in the group.
  public var device: Int
  /// Where it was; nil where that was not known.
  public var from: MigrationState?
  /// Where it was asked to go.
  public var to: MigrationState
  /// When.
  public var times: RequestTimes
  /// Why it failed; nil where it did not. It may have moved all the same.
  public var error: DeviceError?
}

/// A part of a group's way that all devices walk together, with a barrier at its end.
public enum GroupStep: Hashable, Sendable {
  /// Devices that offer it enter PRE_COPY, or PRE_COPY_P2P.
  case enterPreCopy
  /// Every device is asked where it is, because a guest ran since it was asked last.
  case look
  /// A step to a stop.
  case stop(QuiescePlan.StopStep)
  /// The configuration space of every device is read, so that what is still on its way arrives.
  case flush
  /// A step to running.
  case start(QuiescePlan.StartStep)
}

/// A step that has ended, or was broken off by a fault.
public struct StepReport: Hashable, Sendable {
  /// Which step.
  public var step: GroupStep
  /// Whether it belongs to the way back after a fault.
  public var isWayBack: Bool
  /// When its first requests were handed out.
  public var began: MonotonicTime
  /// When the last answer was in. Of a step that was broken off: when the way back began.
  public var ended: MonotonicTime
  /// Every arc in it, in the order in which the answers came.
  public var arcs: [ArcReport]

  /// How far apart the devices that moved arrived, in microseconds: from the end of the first device's last arc to that
  /// of the last device's. 0 where fewer than two moved.
  public var skew: UInt64 {
    var arrivals: [Int: MonotonicTime] = [:]
    for arc in arcs where arc.error == nil {
      arrivals[arc.device] = max(arrivals[arc.device] ?? arc.times.ended, arc.times.ended)
    }
    guard let first = arrivals.values.min(), let last = arrivals.values.max() else { return 0 }
    return last.microseconds(since: first)
  }
}

extension GroupStep {
  /// Whether it belongs to the way to a stop, for which the vCPUs have to have stopped.
  var isTowardsStop: Bool {
    switch self {
    case .look, .stop, .flush: true
    case .enterPreCopy, .start: false
    }
  }
}

extension GroupStep: CustomStringConvertible {
  /// As users read it.
  public var description: String {
    switch self {
    case .enterPreCopy: "pre-copy"
    case .look: "looking again"
    case .stop(let step): "\(step)"
    case .flush: "flushing what is on its way"
    case .start(let step): "\(step)"
    }
  }
}
