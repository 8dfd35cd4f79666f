// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// For how long a virtual machine does not run, and what goes on meanwhile.
struct StopClock: Sendable {
  /// What goes on until every device is in its P2P state.
  static let intoP2P = "devices into P2P states"

  private var ended: [MovePhase] = []
  private var name = ""
  private var began: MonotonicTime?
  private var first: MonotonicTime?

  /// Whether the machine is stopped.
  var isRunning: Bool { began != nil }

  /// Something else goes on from now on.
  mutating func enter(_ name: String, at now: MonotonicTime) {
    close(at: now)
    self.name = name
    began = now
    first = first ?? now
  }

  /// The same, unless that was entered before.
  mutating func enterOnce(_ name: String, at now: MonotonicTime) {
    if self.name != name, !ended.contains(where: { $0.name == name }) { enter(name, at: now) }
  }

  /// The machine runs again, or is lost.
  mutating func stop(at now: MonotonicTime) {
    close(at: now)
    began = nil
  }

  private mutating func close(at now: MonotonicTime) {
    guard let began else { return }
    ended.append(MovePhase(name: name, begin: began, end: now))
  }

  /// The parts of the stop up to now, in order.
  func phases(at now: MonotonicTime) -> [MovePhase] {
    began.map { ended + [MovePhase(name: name, begin: $0, end: now)] } ?? ended
  }

  /// Microseconds from its beginning to its end, or up to now; nil before.
  func microseconds(at now: MonotonicTime) -> UInt64? {
    first.map { (began == nil ? ended.last?.end ?? now : now).microseconds(since: $0) }
  }
}
