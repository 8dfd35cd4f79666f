// SPDX-License-Identifier: Apache-2.0
import Migration

/// A counterexample: what happened, in order, until a write landed at a device that does not take it.
struct QuiesceTrace: CustomStringConvertible {
  /// What happens, or that all have ended a step.
  enum Event: Hashable {
    case happens(StepSearch.Event)
    case barrier
  }

  let schedule: Schedule
  let relation: Int
  var events: [Event]
  private let pairs: [(from: Int, to: Int)]

  /// Looks for a counterexample; nil where the schedule has none.
  init?(_ schedule: Schedule, relation: Int) {
    self.schedule = schedule
    self.relation = relation
    let group = OrderedPairs(count: schedule.steps.first?.count ?? 0)
    pairs = group.pairs
    // For each set of writes that may be in flight at a barrier, how that came.
    var histories: [Int: [Event]] = [0: []]
    for walks in schedule.steps {
      var next: [Int: [Event]] = [:]
      for (flight, history) in histories.sorted(by: { $0.key < $1.key }) {
        let search = StepSearch(walks.map(\.motion), of: group, relation: relation, flights: 1 << UInt64(flight))
        if let violation = search.violation {
          events = history + violation.events.map { .happens($0) }
          return
        }
        for ending in 0..<64 where next[ending] == nil {
          guard let path = search.ending(ending) else { continue }
          next[ending] = history + path.events.map { .happens($0) } + [.barrier]
        }
      }
      histories = next
    }
    return nil
  }

  /// Plays the events one by one by the rules that the model states in words, with none of its search.
  /// - Returns: whether each event can happen, all landings but the last are taken, and the last is not.
  var isReal: Bool {
    var step = 0
    // For each device how many arcs it ended, and whether it is on its next one.
    var ended = schedule.steps[0].map { _ in 0 }
    var isUnderWay = schedule.steps[0].map { _ in false }
    var inFlight: [Int] = []
    func state(_ device: Int) -> MigrationState {
      let walk = schedule.steps[step][device]
      return ended[device] == 0 ? walk.from : walk.arcs[ended[device] - 1].end
    }
    func states(_ device: Int) -> [MigrationState] {
      isUnderWay[device] ? [state(device), schedule.steps[step][device].arcs[ended[device]].to] : [state(device)]
    }
    for (index, event) in events.enumerated() {
      let isLast = index == events.count - 1
      switch event {
      case .barrier:
        guard !isUnderWay.contains(true), step + 1 < schedule.steps.count else { return false }
        guard ended == schedule.steps[step].map(\.arcs.count) else { return false }
        let rests = ended.indices.map(state)
        step += 1
        ended = ended.map { _ in 0 }
        guard ended.indices.map(state) == rests else { return false }
      case .happens(.begins(let device, let arc)):
        let arcs = schedule.steps[step][device].arcs
        guard !isUnderWay[device], arc == ended[device], arc < arcs.count else { return false }
        guard arcs[arc].from == state(device) else { return false }
        isUnderWay[device] = true
      case .happens(.ends(let device, let arc)):
        guard isUnderWay[device], arc == ended[device] else { return false }
        let end = schedule.steps[step][device].arcs[arc].end
        let stillSends = end == .running || end == .preCopy
        guard stillSends || !inFlight.contains(where: { pairs[$0].from == device }) else { return false }
        isUnderWay[device] = false
        ended[device] += 1
      case .happens(.starts(let pair)):
        let sender = states(pairs[pair].from)
        guard relation & 1 << pair != 0, sender.contains(.running) || sender.contains(.preCopy) else { return false }
        inFlight.append(pair)
      case .happens(.lands(let pair)):
        guard let landing = inFlight.firstIndex(of: pair) else { return false }
        inFlight.remove(at: landing)
        let isTaken = states(pairs[pair].to).allSatisfy {
          [.running, .preCopy, .runningP2P, .preCopyP2P].contains($0)
        }
        guard isTaken != isLast else { return false }
      }
      if isLast, case .happens(.lands) = event { return true }
    }
    return false
  }

  /// One event per line, for a person.
  var description: String {
    var step = 0
    return events.map { event in
      switch event {
      case .barrier:
        step += 1
        return "all have ended step \(step)"
      case .happens(.begins(let device, let arc)):
        return "\(ModelGroup.names[device]) begins \(schedule.steps[step][device].arcs[arc])"
      case .happens(.ends(let device, let arc)):
        return "\(ModelGroup.names[device]) ends \(schedule.steps[step][device].arcs[arc])"
      case .happens(.starts(let pair)):
        return "\(ModelGroup.names[pairs[pair].from]) starts a write to \(ModelGroup.names[pairs[pair].to])"
      case .happens(.lands(let pair)):
        return "the write of \(ModelGroup.names[pairs[pair].from]) lands at \(ModelGroup.names[pairs[pair].to])"
      }
    }.joined(separator: "\n")
  }
}
