// SPDX-License-Identifier: Apache-2.0

/// The way that takes every single arc of a device's graph at least once and ends in RUNNING.
public struct WalkPlan: Hashable, Sendable {
  /// The states to ask for, in turn; each is one arc from the one before.
  public let states: [MigrationState]

  /// - Parameter start: where the device is: any state but ERROR.
  public init(graph: StateGraph, from start: MigrationState) {
    var left = graph.arcs
    var states: [MigrationState] = []
    var state = start
    func go(to next: MigrationState) {
      left.removeAll { $0 == StateGraph.Arc(state, next) }
      states.append(next)
      state = next
    }
    while !left.isEmpty {
      // An image has to be read before one can be written: STOP_COPY stands before RESUMING in the table.
      if let arc = left.first(where: { $0.from == state }) {
        go(to: arc.to)
        continue
      }
      guard let way = Self.shortest(graph.arcs, from: state, to: { state in left.contains { $0.from == state } }) else {
        break
      }
      for next in way { go(to: next) }
    }
    for next in Self.shortest(graph.arcs, from: state, to: { $0 == .running }) ?? [] { go(to: next) }
    self.states = states
  }

  private static func shortest(
    _ arcs: [StateGraph.Arc], from start: MigrationState, to isGoal: (MigrationState) -> Bool
  ) -> [MigrationState]? {
    var reached: [(state: MigrationState, way: [MigrationState])] = [(start, [])]
    var seen = [start]
    var next = 0
    while next < reached.count {
      let (state, way) = reached[next]
      next += 1
      if isGoal(state) { return way }
      for arc in arcs where arc.from == state && !seen.contains(arc.to) {
        seen.append(arc.to)
        reached.append((arc.to, way + [arc.to]))
      }
    }
    return nil
  }
}
