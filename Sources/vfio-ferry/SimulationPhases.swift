// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Simulation

/// What goes on in a move, for somebody who has read nothing: a line for each part of the way.
struct SimulationPhases {
  /// Devices' names.
  let names: [String]
  /// Whether the source has let go: then a failure brings nothing back.
  private var hasLetGo = false
  /// Whether the destination has begun to load. Before, it only gets ready.
  private var loads = false

  init(names: [String]) { self.names = names }

  /// A line, and the moment that it is about.
  struct Line {
    let time: MonotonicTime
    let text: String

    /// Who is the side's name, or the machine itself.
    init(_ time: MonotonicTime, _ who: String, _ words: String) {
      self.time = time
      let gap = String(repeating: " ", count: max(0, 11 - who.count))
      text = "\(SimulationPhases.time(time))  \(who)\(gap)  \(words)"
    }
  }

  /// The lines for these notes; what tells a person nothing new has none.
  mutating func lines(_ notes: some Sequence<TimedNote>) -> [Line] {
    var lines: [Line] = []
    var resets: (time: MonotonicTime, side: SimulatedSide, devices: [Int])?
    func endResets() {
      guard let (time, side, devices) = resets else { return }
      let text =
        devices.count > 2
        ? "\(devices.count) devices were"
        : devices.map { names[$0] }.joined(separator: " and ") + (devices.count == 1 ? " was" : " were")
      lines.append(Line(time, "\(side)", "\(text) reset, and \(devices.count == 1 ? "is" : "are") empty now"))
      resets = nil
    }
    for timed in notes {
      if case .reset(let device) = timed.note {
        // All devices of a side are reset together: one line is enough.
        if resets?.time != timed.time || resets?.side != timed.side {
          endResets()
          resets = (timed.time, timed.side, [])
        }
        resets?.devices.append(device)
        continue
      }
      endResets()
      if let words = words(timed) { lines.append(Line(timed.time, "\(timed.side)", words)) }
    }
    endResets()
    return lines
  }

  private mutating func words(_ timed: TimedNote) -> String? {
    switch timed.note {
    case .phase(let name): return words(phase: name, timed.side)
    case .decided(let decision):
      let isWorthALine = decision.verdict == .stop || decision.verdict.isOutOfTheOrdinary
      return isWorthALine ? "\(decision)" : nil
    case .notLimited(let device, let error): return "what comes in to \(names[device]) could not be limited: \(error)"
    case .stillLimited(let device, let error): return "what comes in to \(names[device]) is still limited: \(error)"
    case .restarted(let device, let times):
      return "\(names[device]) was reset by its guest (\(times)); its state is sent anew"
    case .unlike(let device, let finding): return "\(names[device]): \(finding)"
    case .reset, .stepEnded, .ready: return nil
    case .hung(let device, _, let waited): return "\(names[device]) has not answered for \(Figures.time(waited))"
    case .slow(let call, let waited): return call.words(names, Figures.time(waited))
    case .arc(let arc): return arc.error.map { "\(names[arc.device]) did not get to \(arc.to): \($0)" }
    }
  }

  private mutating func words(phase: String, _ side: SimulatedSide) -> String? {
    if phase == "going back" {
      if side == .destination { return "something failed: the devices are let go" }
      return hasLetGo
        ? "something failed, but it has let go: its devices stand still"
        : "something failed: the devices go back to running"
    }
    if phase == "committed" { hasLetGo = true }
    if phase == "closing data sessions", side == .source, hasLetGo {
      return "its devices stay stopped, and are let go of"
    }
    if side == .destination {
      if phase == "loading" { loads = true }
      if !loads, phase != "waiting for the stream" { return nil }
    }
    let words = (side == .source ? Self.source : Self.destination)[phase] ?? Self.rounds(phase)
    return words.isEmpty ? nil : words
  }

  /// The parts of the way that there may be several of, with a number at the end.
  private static func rounds(_ phase: String) -> String {
    if phase.hasPrefix("stopping devices without P2P states") {
      return "devices without P2P states stop, those first that start transfers to others"
    }
    if phase.hasPrefix("starting devices without P2P states") {
      return "devices without P2P states run, now that all others answer them"
    }
    return phase
  }

  /// What the source's parts of the way are; empty for one that is not worth a line.
  private static let source = [
    "looking": "finds all devices running",
    "pre-copy": "state is sent ahead, while the machine runs on",
    "waiting for the vCPUs": "has sent most of it, and the vCPUs are to stop",
    "looking again": "",
    "ending peer transfers": "all devices into a P2P state: they start no transfer to each other any more",
    "stopping all": "all devices stop, now that none can be written to any more",
    "flushing what is on its way": "what is still on its way to a device arrives",
    "copying": "what has changed since it was sent ahead is sent now",
    "committed": "lets go: from here on only the destination may run",
    "closing data sessions": "devices are not read any more",
    "answering peers": "devices answer each other again",
    "starting all": "devices run again",
  ]

  private static let destination = [
    "waiting for the stream": "has the same devices, empty, and waits",
    "loading": "its devices take in what comes",
    "waiting for the commit": "has everything, and asks whether it may run",
    "closing data sessions": "devices check what they were given",
    "answering peers": "devices answer each other; none starts a transfer yet",
    "starting all": "devices run",
  ]

  /// "   12.345 ms"
  static func time(_ time: MonotonicTime) -> String {
    let text = "\(time.microseconds / 1000).\(String(1000 + time.microseconds % 1000).dropFirst()) ms"
    return String(repeating: " ", count: max(0, 12 - text.count)) + text
  }
}
