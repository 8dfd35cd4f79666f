// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

/// What the kernel's documentation of `enum vfio_device_mig_state` says, written down a second time and in another way:
/// every simple path is listed, and the rules pick one.
private struct Specification {
  let features: MigrationFeatures

  var states: [MigrationState] {
    var states: [MigrationState] = [.running, .stop, .stopCopy, .resuming]
    if features.contains(.p2p) { states.append(.runningP2P) }
    if features.contains(.preCopy) { states.append(.preCopy) }
    if features.contains(.p2p), features.contains(.preCopy) { states.append(.preCopyP2P) }
    return states
  }

  func isArc(_ from: MigrationState, _ to: MigrationState) -> Bool {
    let (p2p, preCopy) = (features.contains(.p2p), features.contains(.preCopy))
    switch (from, to) {
    case (.resuming, .stop), (.stop, .resuming), (.stop, .stopCopy), (.stopCopy, .stop): return true
    case (.running, .stop), (.stop, .running): return !p2p
    case (.running, .runningP2P), (.runningP2P, .running), (.runningP2P, .stop), (.stop, .runningP2P): return p2p
    case (.running, .preCopy), (.preCopy, .running): return preCopy
    case (.preCopy, .stopCopy): return preCopy && !p2p
    case (.preCopy, .preCopyP2P), (.preCopyP2P, .preCopy), (.preCopyP2P, .runningP2P), (.runningP2P, .preCopyP2P),
      (.preCopyP2P, .stopCopy):
      return preCopy && p2p
    default: return false
    }
  }

  private func isSaving(_ state: MigrationState) -> Bool { [.preCopy, .preCopyP2P, .stopCopy].contains(state) }

  private func simplePaths(from: MigrationState, to: MigrationState, without: [MigrationState]) -> [[MigrationState]] {
    if from == to { return [[]] }
    return states.filter { isArc(from, $0) && !without.contains($0) && $0 != from }.flatMap { next in
      simplePaths(from: next, to: to, without: without + [from]).map { [next] + $0 }
    }
  }

  /// The one path that the rules leave; nil where the request is refused.
  func path(from: MigrationState, to: MigrationState) -> [MigrationState]? {
    guard states.contains(from), states.contains(to) else { return nil }
    if from == .stopCopy, [.preCopy, .preCopyP2P].contains(to) { return nil }
    if from == .preCopy, to == .stopCopy { return features.contains(.p2p) ? [.preCopyP2P, .stopCopy] : [.stopCopy] }
    let paths = simplePaths(from: from, to: to, without: []).filter { !$0.dropLast().contains(where: isSaving) }
    let shortest = paths.map(\.count).min()
    let candidates = paths.filter { $0.count == shortest }
    #expect(candidates.count < 2, "the rules leave a choice from \(from) to \(to)")
    return candidates.first
  }
}

@Suite("The state graph")
struct StateGraphTests {
  @Test(
    "agrees with the kernel's documentation on all pairs of states", arguments: MigrationFeatures.definedCombinations)
  func agreesWithSpecification(features: MigrationFeatures) {
    let graph = StateGraph(features: features)
    let specification = Specification(features: features)
    for from in MigrationState.allCases {
      #expect(graph.contains(from) == (specification.states.contains(from) || from == .error))
      for to in MigrationState.allCases {
        let expected = specification.path(from: from, to: to)
        #expect(graph.path(from: from, to: to) == expected, "from \(from) to \(to)")
        #expect(graph.allows(from: from, to: to) == (expected != nil))
        #expect((graph.refusal(from: from, to: to) == nil) == (expected != nil))
        #expect(graph.arcs.contains(StateGraph.Arc(from, to)) == specification.isArc(from, to))
        // The kernel hands out a descriptor on entry to the saving group and on entry to RESUMING.
        let isSaving = { (state: MigrationState) in [.preCopy, .preCopyP2P, .stopCopy].contains(state) }
        if expected != nil {
          let opens = from != to && (to == .resuming || (isSaving(to) && !isSaving(from)))
          #expect(graph.opensData(from: from, to: to) == opens, "from \(from) to \(to)")
        }
      }
    }
  }

  /// For a device that has everything: the next state on the way from each row's state to each column's, as the kernel's
  /// table documents its result. The order is stop, running, stop-copy, resuming, running-p2p, pre-copy, pre-copy-p2p.
  static let columns: [MigrationState] = [.stop, .running, .stopCopy, .resuming, .runningP2P, .preCopy, .preCopyP2P]
  static let nextStates: [(MigrationState, [MigrationState?])] = [
    (.stop, [nil, .runningP2P, .stopCopy, .resuming, .runningP2P, .runningP2P, .runningP2P]),
    (.running, [.runningP2P, nil, .runningP2P, .runningP2P, .runningP2P, .preCopy, .runningP2P]),
    (.stopCopy, [.stop, .stop, nil, .stop, .stop, .error, .error]),
    (.resuming, [.stop, .stop, .stop, nil, .stop, .stop, .stop]),
    (.runningP2P, [.stop, .running, .stop, .stop, nil, .running, .preCopyP2P]),
    (.preCopy, [.running, .running, .preCopyP2P, .running, .running, nil, .preCopyP2P]),
    (.preCopyP2P, [.runningP2P, .runningP2P, .stopCopy, .runningP2P, .runningP2P, .preCopy, nil]),
  ]

  @Test("takes the kernel's next step from every state to every other, for a device that has everything")
  func nextSteps() {
    let graph = StateGraph(features: [.stopCopy, .p2p, .preCopy])
    for (from, row) in Self.nextStates {
      for (to, expected) in zip(Self.columns, row) {
        let path = graph.path(from: from, to: to)
        if expected == .error {
          #expect(path == nil, "from \(from) to \(to)")
        } else {
          #expect(path != nil && path?.first == expected, "from \(from) to \(to)")
        }
      }
    }
  }

  @Test(
    "walks each combination arc by arc and never through a saving state, but for the way from pre-copy to stop-copy")
  func pathsAreArcs() {
    for features in MigrationFeatures.definedCombinations {
      let graph = StateGraph(features: features)
      for from in graph.states {
        for to in graph.states {
          guard let path = graph.path(from: from, to: to), let last = path.last else { continue }
          #expect(last == to)
          for (step, next) in zip([from] + path, path) { #expect(graph.arcs.contains(StateGraph.Arc(step, next))) }
          let inside = path.dropLast().filter(\.isSaving)
          #expect(inside == (from == .preCopy && to == .stopCopy && features.contains(.p2p) ? [.preCopyP2P] : []))
        }
      }
    }
  }

  @Test("names every state that a device may be in after a failed request")
  func possibleStates() {
    let graph = StateGraph(features: [.stopCopy, .p2p, .preCopy])
    #expect(
      graph.possibleStates(afterFailed: .running, to: .stopCopy) == [.running, .runningP2P, .stop, .stopCopy, .error])
    #expect(graph.possibleStates(afterFailed: .preCopy, to: .stopCopy) == [.preCopy, .preCopyP2P, .stopCopy, .error])
    #expect(graph.possibleStates(afterFailed: .stop, to: .stop) == [.stop, .error])
    #expect(graph.possibleStates(afterFailed: .error, to: .running) == [.error])
    #expect(graph.possibleStates(afterFailed: .stopCopy, to: .preCopy) == [.stopCopy, .error])
  }

  @Test("says why it refuses a request")
  func refusals() {
    let full = StateGraph(features: [.stopCopy, .p2p, .preCopy])
    let plain = StateGraph(features: [.stopCopy])
    #expect(full.refusal(from: .running, to: .stop) == nil)
    #expect(full.refusal(from: .running, to: .error)?.contains("can't be asked for") == true)
    #expect(full.refusal(from: .error, to: .running)?.contains("only to a reset") == true)
    #expect(full.refusal(from: .stopCopy, to: .preCopyP2P)?.contains("no path from stop-copy to pre-copy-p2p") == true)
    #expect(plain.refusal(from: .running, to: .runningP2P)?.contains("no state running-p2p") == true)
    #expect(plain.refusal(from: .running, to: .preCopy)?.contains("it supports stop-copy") == true)
  }

  @Test(
    "a walk takes every arc, each step is one arc, and it ends in running",
    arguments: MigrationFeatures.definedCombinations)
  func walk(features: MigrationFeatures) {
    let graph = StateGraph(features: features)
    for start in graph.states where start != .error {
      let states = WalkPlan(graph: graph, from: start).states
      let taken = zip([start] + states, states).map { StateGraph.Arc($0, $1) }
      for arc in taken { #expect(graph.arcs.contains(arc)) }
      for arc in graph.arcs { #expect(taken.contains(arc), "\(arc)") }
      #expect(states.last == .running)
    }
  }
}
