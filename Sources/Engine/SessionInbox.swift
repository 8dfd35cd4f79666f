// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import Synchronization

/// What has happened to a session and was not taken in yet, and who sees to that: the session's lane, on which a job is put
/// when there is something for it and none is there already.
final class SessionInbox: Sendable {
  private struct State {
    var events: [(event: SessionEvent, isUrgent: Bool)] = []
    var head = 0
    var urgent = 0
    /// How many events the session waits for, where none of them is urgent.
    var quorum = 1
    /// The session will look here before it waits.
    var isLooking = true
    /// Takes the events in; nil before the session begins.
    var step: LaneCrew.Job?
    var crew: LaneCrew?

    var isWorthAStep: Bool { urgent > 0 || events.count - head >= quorum }
  }

  private let state = Mutex(State())

  /// From any thread.
  func tell(_ event: SessionEvent) {
    let (crew, step) = state.withLock { state in (state.crew, Self.put(event, isUrgent: true, &state)) }
    if let crew, let step { crew.put([step]) }
  }

  /// From a job on one of the lanes, which does nothing more that could wait: the step that follows comes when it returns.
  /// - Parameter isUrgent: whether the session hears of it at once, though it waits for more.
  /// - Returns: what follows from the job.
  func following(_ event: SessionEvent, isUrgent: Bool = true) -> [LaneCrew.Job] {
    let step = state.withLock { Self.put(event, isUrgent: isUrgent, &$0) }
    return step.map { [$0] } ?? []
  }

  private static func put(_ event: SessionEvent, isUrgent: Bool, _ state: inout State) -> LaneCrew.Job? {
    state.events.append((event, isUrgent))
    state.urgent += isUrgent ? 1 : 0
    guard !state.isLooking, state.isWorthAStep else { return nil }
    state.isLooking = true
    return state.step
  }

  /// The session begins: from now on there is who takes events in.
  func open(_ crew: LaneCrew, _ step: LaneCrew.Job) {
    state.withLock { state in
      state.crew = crew
      state.step = step
    }
  }

  /// Nobody takes events in any more.
  func close() {
    state.withLock { state in
      state.crew = nil
      state.step = nil
    }
  }

  /// The oldest event.
  /// - Parameter quorum: with fewer than this, none of them urgent, there is nothing to do.
  /// - Returns: nil where the session waits, and a step will come when that has an end.
  func take(atLeast quorum: Int) -> SessionEvent? {
    state.withLock { state in
      state.quorum = max(1, quorum)
      guard state.isWorthAStep else {
        state.isLooking = false
        return nil
      }
      let (event, isUrgent) = state.events[state.head]
      state.urgent -= isUrgent ? 1 : 0
      state.head += 1
      // Taken events are let go in one go now and then: shifting the others each time is not free.
      if state.head == state.events.count || state.head >= 64 {
        state.events.removeFirst(state.head)
        state.head = 0
      }
      return event
    }
  }
}
