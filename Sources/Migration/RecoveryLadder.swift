// SPDX-License-Identifier: Apache-2.0

/// How a device that failed gets back to a named state: one rung at a time.
///
/// The ladder is: back through STOP where the failure was on the way into STOP or STOP_COPY, then arc by arc to the
/// state to return to, then a reset if the caller allowed it, then a report of where the device is.
public struct RecoveryLadder: Hashable, Sendable {
  /// What to do next with the device.
  public enum Rung: Hashable, Sendable {
    /// It is where it should be.
    case arrived
    /// Ask for this state, which is one arc away.
    case request(MigrationState)
    /// Reset it, which loses what the guest had in it. It is in RUNNING afterwards.
    case reset
    /// Nothing more can be done for it: it stays where it is.
    case report
  }

  /// The device's graph.
  public let graph: StateGraph
  /// Whether a device that nothing else brings back may be reset. Its guest's state is lost then.
  public let resetAllowed: Bool

  /// A request into STOP or STOP_COPY failed, and the device has not been stopped since.
  public private(set) var mustPassStop = false
  /// The device holds half of somebody else's state: nothing but a reset helps.
  public private(set) var mustReset = false
  private var failures = 0
  private var wasReset = false

  /// After this many failed requests of its own the ladder stops asking for states.
  public static let failureLimit = 2

  /// The ladder of a device that has not failed yet.
  public init(graph: StateGraph, resetAllowed: Bool) {
    self.graph = graph
    self.resetAllowed = resetAllowed
  }

  /// Takes note that a request failed. A request towards STOP or STOP_COPY may have suspended half of the device
  /// whatever state it now reports (mlx5 does), so the way back leads through STOP.
  ///
  /// - Parameter recovering: whether the request was one of this ladder's own.
  public mutating func noteFailure(of target: MigrationState, recovering: Bool) {
    if target == .stop || target == .stopCopy { mustPassStop = true }
    if recovering { failures += 1 }
  }

  /// Takes note that what is in the device is worth nothing: the next rung is a reset, allowed or not, because there is
  /// nothing that it could lose.
  public mutating func demandReset() { mustReset = true }

  /// The next rung for a device that was just read to be in `state` and should get to `target`.
  public mutating func next(from state: MigrationState, to target: MigrationState) -> Rung {
    if state == .stop || state == .stopCopy { mustPassStop = false }
    if state != .error, state != .resuming, !mustReset, failures < Self.failureLimit {
      if state == target, !mustPassStop { return .arrived }
      let waypoint = mustPassStop ? .stop : target
      if let first = graph.next(from: state, to: waypoint) { return .request(first) }
    }
    if resetAllowed || mustReset, !wasReset {
      wasReset = true
      return .reset
    }
    return .report
  }

  /// Takes note of a reset that succeeded: the device is in RUNNING, and arcs may be tried afresh.
  public mutating func noteReset() {
    mustPassStop = false
    mustReset = false
    failures = 0
  }
}
