// SPDX-License-Identifier: Apache-2.0

/// What a session on the same devices, or a walk through their states, has shown of the time that a stop costs: better than
/// what can be told before the first.
extension PreCopyConfiguration {
  /// Takes over how long the steps to a stop took on the source; see ``quiescing``.
  /// - Parameters:
  ///   - steps: a save's, see ``SaveSession/steps``. Without steps to a stop among them nothing is taken over.
  ///   - vcpus: microseconds in which the vCPUs stopped.
  public mutating func takeQuiescing(from steps: [StepReport], vcpus: UInt64) {
    let towardsStop = steps.filter { !$0.isWayBack && $0.step.isOfStop }
    guard !towardsStop.isEmpty else { return }
    quiescing = towardsStop.reduce(vcpus) { sum($0, $1.ended.microseconds(since: $1.began)) }
  }

  /// Takes over how long the steps to running took on the destination; see ``loading``.
  /// - Parameters:
  ///   - steps: a load's, see ``LoadSession/steps``. Without steps to running among them nothing is taken over.
  ///   - roundTrip: microseconds from one host to the other and back.
  public mutating func takeLoading(from steps: [StepReport], roundTrip: UInt64) {
    let towardsRunning = steps.filter { if case .start = $0.step { !$0.isWayBack } else { false } }
    guard !towardsRunning.isEmpty else { return }
    // One way for the last byte, and once to and fro for the agreement on who runs.
    loading = towardsRunning.reduce(sum(roundTrip, roundTrip / 2)) { sum($0, $1.ended.microseconds(since: $1.began)) }
  }
}

extension GroupStep {
  /// Whether it comes between the stop of the vCPUs and that of the last device.
  fileprivate var isOfStop: Bool {
    switch self {
    case .look, .stop, .flush: true
    case .enterPreCopy, .start: false
    }
  }
}
