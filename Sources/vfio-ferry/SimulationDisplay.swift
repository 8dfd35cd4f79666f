// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import Simulation

/// A simulated move as it happens: what goes on as lines that stay and, on a terminal, how things stand below them.
struct SimulationDisplay {
  private let console: Console
  private let isLive: Bool
  private var phases: SimulationPhases
  private var notesShown = 0
  private var linesDrawn = 0
  private var place = MachinePlace.runs(.source)
  private var before: (time: MonotonicTime, answers: Int)?

  init(console: Console, isLive: Bool, names: [String]) {
    self.console = console
    self.isLive = isLive
    phases = SimulationPhases(names: names)
  }

  /// Shows what has happened since the last picture, and how things stand.
  mutating func show(_ world: SimulatedWorld) {
    clear()
    var lines = phases.lines(world.notes[notesShown...]) + newPlace(world)
    notesShown = world.notes.count
    lines.sort { $0.time < $1.time }
    for line in lines { console.line(line.text) }
    guard isLive, !world.isOver else { return }
    for line in SimulationPane(world, since: before).lines {
      console.err(line + "\n")
      linesDrawn += 1
    }
    before = world.peers.map { (world.now, $0.answered) }
    Pause.milliseconds(30)
  }

  /// Removes what only stands while things move.
  mutating func end() { clear() }

  private mutating func clear() {
    if linesDrawn > 0 { console.err("\u{1b}[\(linesDrawn)A\u{1b}[J") }
    linesDrawn = 0
  }

  /// A line where the machine has come to run elsewhere, or was lost.
  private mutating func newPlace(_ world: SimulatedWorld) -> [SimulationPhases.Line] {
    let now = world.place
    guard now != place else { return [] }
    defer { place = now }
    switch now {
    case .runs(let side):
      let time = world.stopPhases.last?.end ?? world.now
      let stop = world.stoppedMicroseconds.map { ", after it stood still for \(Figures.time($0))" } ?? ""
      return [SimulationPhases.Line(time, "machine", "runs on the \(side)\(stop)")]
    case .stopped: return []
    case .lost: return [SimulationPhases.Line(world.now, "machine", "is lost")]
    }
  }
}

/// How fast the virtual clock goes for a person who watches: the stop is what they came for, and gets half of the pictures.
struct SimulationPace {
  private let stop: Range<UInt64>
  private let usual: UInt64
  private let slow: UInt64
  private static let pictures: UInt64 = 90

  /// - Parameter world: one that has not begun. It is played to its end beforehand.
  init(_ world: SimulatedWorld) {
    var ahead = world
    let summary = ahead.run()
    let end = summary.totalMicroseconds
    stop = (summary.stopPhases.first?.begin.microseconds ?? end)..<(summary.stopPhases.last?.end.microseconds ?? end)
    usual = max(1, (end - UInt64(stop.count)) / Self.pictures)
    slow = max(1, UInt64(stop.count) / Self.pictures)
  }

  /// Microseconds until the next picture.
  func step(at time: MonotonicTime) -> UInt64 { stop.contains(time.microseconds) ? slow : usual }
}
