// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Simulation

/// What a picture of a simulated move shows. Times are microseconds on the virtual clock.
struct SimulationPicture {
  /// A device on both hosts.
  struct Device {
    let name: String
    /// "NIC" or "GPU"
    let kind: String
    let lanes: DeviceLanes
  }

  /// A part of the time in which the machine stood still.
  struct Phase {
    let name: String
    let begin: UInt64
    let end: UInt64
  }

  /// A time in which the machine was in one place.
  struct Stay {
    let place: MachinePlace
    let begin: UInt64
    var end: UInt64
  }

  /// Pages of guest memory that were sent together.
  struct Round {
    var pages: Int
    let begin: UInt64
    var end: UInt64
  }

  /// An answer that a peer had, and how long it had waited for it.
  struct Answer {
    let time: UInt64
    let waited: UInt64
  }

  /// "nic-gpu, seed 1"
  let scenario: String
  /// How it ended, in a sentence.
  let ending: String
  /// What became of the peers' connections, in a sentence; nil where nobody knows.
  let experience: String?
  let faults: [String]
  /// When the run ended.
  let end: UInt64
  let devices: [Device]
  let phases: [Phase]
  let stays: [Stay]
  let rounds: [Round]
  /// The peer whose answers are drawn: the one that had to wait longest.
  let peer: Int
  let answers: [Answer]

  /// From when until when the machine stood still; nil where it never did.
  var standstill: Range<UInt64>? {
    guard let first = phases.first, let last = phases.last, last.end > first.begin else { return nil }
    return first.begin..<last.end
  }
}

/// Watches a run for a picture: what the world does not keep is taken down while it plays.
struct SimulationRecorder {
  private var stays: [SimulationPicture.Stay] = []
  private var rounds: [SimulationPicture.Round] = []
  private var memoryBytes: UInt64 = 0

  /// Microseconds between two looks.
  static let interval: UInt64 = 20

  /// Plays a world on from one time to another.
  mutating func play(_ world: inout SimulatedWorld, from begin: MonotonicTime, to end: MonotonicTime) {
    var clock = begin
    while !world.isOver, clock < end {
      look(world)
      clock = min(end, clock.adding(microseconds: Self.interval))
      world.advance(to: clock)
    }
    look(world)
  }

  /// Takes down how things stand.
  mutating func look(_ world: SimulatedWorld) {
    let now = world.now.microseconds
    if !stays.isEmpty { stays[stays.count - 1].end = now }
    if stays.last?.place != world.place {
      stays.append(SimulationPicture.Stay(place: world.place, begin: now, end: now))
    }
    guard let memory = world.memory else { return }
    // A round ends when the last of it goes out.
    if memory.bytes != memoryBytes, !rounds.isEmpty { rounds[rounds.count - 1].end = now }
    memoryBytes = memory.bytes
    while rounds.count < memory.rounds.count {
      rounds.append(SimulationPicture.Round(pages: memory.rounds[rounds.count], begin: now, end: now))
    }
    // What is in the last round may still grow.
    if let pages = memory.rounds.last, !rounds.isEmpty { rounds[rounds.count - 1].pages = pages }
  }

  /// What was seen, as a picture.
  func picture(of world: SimulatedWorld, _ report: SimulationReport) -> SimulationPicture {
    let devices = zip(report.summary.devices, zip(report.lanes, world.devices(of: .source))).map { device, rest in
      let kind = rest.1.configuration.driver.hasSuffix("gpu") ? "GPU" : "NIC"
      return SimulationPicture.Device(name: device.name, kind: kind, lanes: rest.0)
    }
    let longest = world.roundTrips.max { $0.microseconds < $1.microseconds }
    let peer = longest?.peer ?? 0
    return SimulationPicture(
      scenario: "\(report.scenario), seed \(report.seed)", ending: report.ending.words,
      experience: report.summary.peers?.connectionWords, faults: report.faults,
      end: world.now.microseconds, devices: devices,
      phases: report.summary.stopPhases.map {
        SimulationPicture.Phase(name: $0.name, begin: $0.begin.microseconds, end: $0.end.microseconds)
      }, stays: exact(stays, report.summary.stopPhases), rounds: rounds, peer: peer,
      answers: world.roundTrips.filter { $0.peer == peer }.map {
        SimulationPicture.Answer(time: $0.end.microseconds, waited: $0.microseconds)
      })
  }

  /// Puts the moments of the stop in the place of the looks that came just after them.
  private func exact(_ stays: [SimulationPicture.Stay], _ phases: [MovePhase]) -> [SimulationPicture.Stay] {
    guard let begin = phases.first?.begin.microseconds, let end = phases.last?.end.microseconds else { return stays }
    func exact(_ time: UInt64) -> UInt64 {
      [begin, end].first { time >= $0 && time - $0 <= 2 * Self.interval } ?? time
    }
    return stays.map { stay in
      SimulationPicture.Stay(
        place: stay.place, begin: exact(stay.begin), end: stay.end == stays.last?.end ? stay.end : exact(stay.end))
    }
  }
}
