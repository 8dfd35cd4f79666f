// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import Synchronization

/// A session that is run by jobs on a lane of its own, one at a time: each takes in what has happened, and what the session wants
/// done then follows from it.
///
/// So no thread has the session. That of the lane which brings what a step has waited for takes the next one itself.
final class SessionSteps<Machine: SessionMachine>: Sendable {
  private struct State {
    var machine: Machine
    var nextProgress: MonotonicTime
    /// When the calling thread will wake the session, as far as it was told.
    var alarm: MonotonicTime?
  }

  /// What the calling thread, which has the clock, is told.
  enum Word: Sendable {
    /// Wake the session at this time, where it is earlier than what was said before.
    case alarm(MonotonicTime)
    case over
  }

  // Its lane has one job at a time; the lock is there because the compiler can't know.
  private let state: Mutex<State>
  private let lanes: SessionLanes
  private let inbox: SessionInbox
  private let observer: SessionRunner.Observer
  private let ended: @Sendable (Machine) -> Void
  /// For the thread that has the clock.
  let words = BlockingQueue<Word>()

  init(
    _ machine: Machine, lanes: SessionLanes, inbox: SessionInbox, observer: SessionRunner.Observer,
    ended: @escaping @Sendable (Machine) -> Void
  ) {
    state = Mutex(State(machine: machine, nextProgress: MonotonicTime(microseconds: monotonicMicroseconds())))
    self.lanes = lanes
    self.inbox = inbox
    self.observer = observer
    self.ended = ended
  }

  /// The session as it is.
  var machine: Machine { state.withLock { $0.machine } }

  /// The first job, before which nothing is taken in.
  func begin() -> [LaneCrew.Job] {
    state.withLock { state in
      let now = Self.now
      return lanes.jobs(for: state.machine.begin(at: now), at: now, observer)
    } + [lanes.ownJob { [self] in step() }]
  }

  /// Every later one: takes in what there is, until the session has to wait.
  func step() -> [LaneCrew.Job] {
    let (jobs, isOver) = state.withLock { state in
      (takeEvents(&state), state.machine.outcome != nil)
    }
    guard isOver else { return jobs }
    // What the last step wants done is on its lanes before anybody hears that it was the last, and waits for these.
    return jobs
      + [
        lanes.ownJob { [self] in
          end()
          return []
        }
      ]
  }

  private func takeEvents(_ state: inout State) -> [LaneCrew.Job] {
    var jobs: [LaneCrew.Job] = []
    var now = Self.now
    while state.machine.outcome == nil {
      // Nobody's request waits for what may be a slow terminal: the alarm brings a step of its own for it.
      if jobs.isEmpty, now >= state.nextProgress {
        observer.progress(state.machine.progress, now)
        state.nextProgress = now.adding(microseconds: observer.interval)
      }
      guard let event = inbox.take(atLeast: state.machine.quorum) else {
        setAlarm(&state)
        break
      }
      now = Self.now
      if case .time = event {
        state.alarm = nil
        // It may have been for progress, or for a moment that has been put off since.
        guard let deadline = state.machine.deadline, deadline <= now else { continue }
      }
      jobs += lanes.jobs(for: state.machine.handle(event, at: now), at: now, observer)
    }
    return jobs
  }

  private func setAlarm(_ state: inout State) {
    let due = min(state.machine.deadline ?? state.nextProgress, state.nextProgress)
    if let alarm = state.alarm, alarm <= due { return }
    state.alarm = due
    words.put(.alarm(due))
  }

  private func end() {
    let last = machine
    observer.progress(last.progress, Self.now)
    // After a fault memory may still be read, or sent: that is waited for.
    if last.outcome?.fault == nil { ended(last) }
    words.put(.over)
  }

  private static var now: MonotonicTime { MonotonicTime(microseconds: monotonicMicroseconds()) }
}
