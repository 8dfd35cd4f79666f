// SPDX-License-Identifier: Apache-2.0
import Migration

// A small model of devices that write to each other, made from linux/vfio.h and not from the plan that it judges. It
// knows nothing of levels, of refusals or of why a step is there: only what devices do while they walk their arcs.
//
// - In RUNNING and PRE_COPY a device starts writes to each device that it reaches, and takes those of others. In the
//   P2P states it takes them but starts none. In the other states it does neither.
// - An arc takes time. Meanwhile the device starts what either state lets it start, and takes only what both do.
// - A write is in flight for as long as it likes, and lands. To land at a device that does not take it is a violation.
// - When an arc that ends the starting of writes returns, the device's writes have landed (drivers drain). An arc that
//   fails promises nothing of the kind.
// - The devices of a step walk independently of each other; the next step begins when all of them have ended this one.

/// One arc that a device walks, or tries to.
struct ModelArc: Hashable, CustomStringConvertible {
  var from: MigrationState
  var to: MigrationState
  /// The device behaves as on the arc for a while, and is then where it was.
  var fails = false

  var end: MigrationState { fails ? from : to }
  var description: String { "\(from)->\(to)\(fails ? " (fails)" : "")" }

  static func starts(_ state: MigrationState) -> Bool { state == .running || state == .preCopy }

  static func takes(_ state: MigrationState) -> Bool {
    starts(state) || state == .runningP2P || state == .preCopyP2P
  }
}

/// What one device does in one step: the arcs of its request, one after the other.
struct Walk: Hashable {
  var from: MigrationState
  var arcs: [ModelArc] = []

  var end: MigrationState { arcs.last?.end ?? from }

  /// The walk as far as the model can tell it from others.
  var motion: Motion {
    var motion = Motion(last: arcs.count * 2, starts: 0, takes: 0, drains: 0)
    func add(_ phase: Int, starts: Bool, takes: Bool) {
      if starts { motion.starts |= 1 << phase }
      if takes { motion.takes |= 1 << phase }
    }
    add(0, starts: ModelArc.starts(from), takes: ModelArc.takes(from))
    for (index, arc) in arcs.enumerated() {
      let phase = index * 2 + 1
      add(
        phase, starts: ModelArc.starts(arc.from) || ModelArc.starts(arc.to),
        takes: ModelArc.takes(arc.from) && ModelArc.takes(arc.to))
      if !arc.fails, !ModelArc.starts(arc.to) { motion.drains |= 1 << phase }
      add(phase + 1, starts: ModelArc.starts(arc.end), takes: ModelArc.takes(arc.end))
    }
    return motion
  }
}

/// A walk in bits, one for each phase: phase 0 is the rest before it, phase 1 its first arc, phase 2 the rest after
/// that, and so on.
struct Motion: Hashable {
  /// The phase in which the device has ended the step.
  var last: Int
  /// In which phases writes are started.
  var starts: Int
  /// In which phases writes are taken.
  var takes: Int
  /// Which phases are left only when the device has no write in flight.
  var drains: Int
}

/// The ordered pairs of different devices of a group. A relation, or the writes that are in flight, is a set of them in
/// bits.
struct OrderedPairs {
  let count: Int
  let pairs: [(from: Int, to: Int)]

  init(count: Int) {
    self.count = count
    pairs = (0..<count).flatMap { from in (0..<count).filter { $0 != from }.map { (from, $0) } }
  }

  /// All relations.
  var relations: Range<Int> { 0..<1 << pairs.count }

  /// For each device, the pairs in which it is the first.
  var startedBy: [Int] {
    (0..<count).map { device in pairs.indices.reduce(0) { $0 | (pairs[$1].from == device ? 1 << $1 : 0) } }
  }
}

/// All interleavings of one step of up to three devices: an explicit search of what can be reached.
struct StepSearch {
  /// What happens at one moment.
  enum Event: Hashable {
    case begins(device: Int, arc: Int)
    case ends(device: Int, arc: Int)
    case starts(pair: Int)
    case lands(pair: Int)
  }

  /// The pairs of which a write landed where it was not taken.
  private(set) var violated = 0
  /// The sets of writes that may be in flight when all devices have ended the step, as a set in bits.
  private(set) var endings: UInt64 = 0

  // A state is the writes in flight, and above them four bits for the phase of each device.
  private let width: Int
  private var before: [Int32]
  private var firstViolation: (state: Int, pair: Int)?
  private var endedWith: [Int: Int] = [:]

  /// - Parameter flights: the sets of writes that may be in flight at the beginning, as a set in bits.
  init(_ motions: [Motion], of group: OrderedPairs, relation: Int, flights: UInt64, drivers: Drivers = .drain) {
    width = group.pairs.count
    precondition(width <= 6, "a set of sets of pairs has 64 bits")
    before = [Int32](repeating: -1, count: 1 << (width + 4 * group.count))
    var ended = 0
    for device in motions.indices { ended |= motions[device].last << (width + 4 * device) }
    let startedBy = group.startedBy
    let related = group.pairs.indices.filter { relation & 1 << $0 != 0 }
    var reached: [Int] = []
    for flight in 0..<64 where flights & 1 << UInt64(flight) != 0 {
      before[flight] = Int32(flight)
      reached.append(flight)
    }
    func phase(_ device: Int, _ state: Int) -> Int { state >> (width + 4 * device) & 15 }
    // In the order in which they are found, so that the first violation has the shortest history.
    var next = 0
    while next < reached.count {
      let state = reached[next]
      next += 1
      let inFlight = state & (1 << width - 1)
      if state &- inFlight == ended {
        endings |= 1 << UInt64(inFlight)
        endedWith[inFlight] = state
      }
      for device in motions.indices {
        let (motion, phase) = (motions[device], phase(device, state))
        if phase == motion.last { continue }
        let mustDrain = drivers == .drain && motion.drains & 1 << phase != 0
        if mustDrain && inFlight & startedBy[device] != 0 { continue }
        visit(state + 1 << (width + 4 * device), from: state, &reached)
      }
      for pair in related {
        let (from, to) = group.pairs[pair]
        if inFlight & 1 << pair == 0 {
          if motions[from].starts & 1 << phase(from, state) != 0 { visit(state | 1 << pair, from: state, &reached) }
        } else {
          if motions[to].takes & 1 << phase(to, state) == 0 {
            violated |= 1 << pair
            if firstViolation == nil { firstViolation = (state, pair) }
          }
          visit(state & ~(1 << pair), from: state, &reached)
        }
      }
    }
  }

  /// What drivers are taken to do when they end the starting of writes.
  enum Drivers { case drain, forget }

  private mutating func visit(_ state: Int, from: Int, _ reached: inout [Int]) {
    guard before[state] < 0 else { return }
    before[state] = Int32(from)
    reached.append(state)
  }

  /// How the step came to its first violation.
  var violation: (flight: Int, events: [Event])? {
    firstViolation.map { state, pair in
      let (flight, events) = path(to: state)
      return (flight, events + [.lands(pair: pair)])
    }
  }

  /// How the step came to an end with these writes in flight.
  func ending(_ inFlight: Int) -> (flight: Int, events: [Event])? { endedWith[inFlight].map(path) }

  private func path(to state: Int) -> (flight: Int, events: [Event]) {
    var events: [Event] = []
    var state = state
    while before[state] != state {
      let earlier = Int(before[state])
      events.append(event(earlier, state))
      state = earlier
    }
    return (state, events.reversed())
  }

  private func event(_ earlier: Int, _ state: Int) -> Event {
    let changed = (earlier ^ state) & (1 << width - 1)
    if changed != 0 {
      let pair = changed.trailingZeroBitCount
      return state & changed != 0 ? .starts(pair: pair) : .lands(pair: pair)
    }
    let device = ((state - earlier).trailingZeroBitCount - width) / 4
    let phase = earlier >> (width + 4 * device) & 15
    return phase % 2 == 0 ? .begins(device: device, arc: phase / 2) : .ends(device: device, arc: phase / 2)
  }
}
