// SPDX-License-Identifier: Apache-2.0

/// The steps of ``Quiescing``, taken by a group: what the sessions share.
extension GroupMover {
  /// Begins a step towards a stop. `goal` is STOP_COPY or RESUMING.
  mutating func stop(
    _ step: Quiescing.StopStep, towards goal: MigrationState, at now: MonotonicTime
  ) -> [SessionEffect] {
    let targets = members.map { member in
      member.state.flatMap { Quiescing.target(step, graph: member.graph, from: $0, goal: goal) }
    }
    return named(step.phaseName, begin(.forward, targets: targets, at: now))
  }

  /// Begins a step towards running.
  /// - Parameters:
  ///   - goals: where each device should end: RUNNING, RUNNING_P2P or STOP.
  ///   - direction: `forward` where a failure is to be dealt with by the caller.
  mutating func start(
    _ step: Quiescing.StartStep, towards goals: [MigrationState], direction: Direction = .back, at now: MonotonicTime
  ) -> [SessionEffect] {
    let targets = zip(members, goals).map { member, goal -> MigrationState? in
      // A device that does not say where it is can only be reset, where that is allowed; then it joins the others.
      guard let state = member.state else { return step == .leaveData ? .stop : goal }
      if step == .leaveData {
        if member.ladder.mustReset { return .running }
        if member.ladder.mustPassStop { return .stop }
      }
      return Quiescing.target(step, graph: member.graph, from: state, goal: goal)
    }
    return named(
      step.phaseName, begin(direction, targets: targets, resetSuffices: step == .leaveData, at: now))
  }

  /// A step in which no device has anything to do is not worth a word.
  private func named(_ name: String, _ effects: [SessionEffect]) -> [SessionEffect] {
    effects.isEmpty ? [] : [.note(.phase(name))] + effects
  }

  /// Where every device is, for a session's outcome.
  func outcomes(of devices: [SessionDevice]) -> [DeviceOutcome] {
    zip(devices, members).map { device, member in
      DeviceOutcome(name: device.name, state: member.state, wasReset: member.wasReset, isHung: member.isHung)
    }
  }
}

extension CaseIterable where Self: Equatable, AllCases == [Self] {
  /// The case after this one; nil after the last.
  var next: Self? {
    guard let index = Self.allCases.firstIndex(of: self), index + 1 < Self.allCases.count else { return nil }
    return Self.allCases[index + 1]
  }
}
