// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import Simulation

/// A simulated move as it happens: the phases as lines that stay and, on a terminal, a bar for each device below them.
struct SimulationDisplay {
  private let console: Console
  private let isLive: Bool
  private var notesShown = 0
  private var linesDrawn = 0

  /// How far the virtual clock goes between two pictures.
  let stepMicroseconds: UInt64 = 4000

  init(console: Console, isLive: Bool) {
    self.console = console
    self.isLive = isLive
  }

  /// Shows what has happened since the last picture, and how things stand.
  mutating func show(_ world: SimulatedWorld) {
    clear()
    for timed in world.notes[notesShown...] {
      guard let text = text(timed) else { continue }
      console.line("\(Self.time(timed.time))  \(text)")
    }
    notesShown = world.notes.count
    guard isLive, !world.isOver else { return }
    let sources = world.progress(of: .source)
    let targets = world.progress(of: .destination)
    for (device, (source, target)) in zip(world.devices(of: .source), zip(sources, targets)) {
      let expected = max(source.expectedBytes ?? 1, source.bytes, 1)
      let width = 30
      let full = Int(Double(width) * Double(target.bytes) / Double(expected))
      let bar = String(repeating: "#", count: min(full, width)) + String(repeating: ".", count: max(0, width - full))
      let left = "\(device.configuration.name)  \(source.state?.name ?? "?")"
      console.err(
        left + String(repeating: " ", count: max(1, 28 - left.count)) + "[\(bar)] \(target.state?.name ?? "?")"
          + "  \(Figures.bytes(target.bytes))\n")
      linesDrawn += 1
    }
    Pause.milliseconds(30)
  }

  /// Removes what only stands while things move.
  mutating func end() { clear() }

  private mutating func clear() {
    if linesDrawn > 0 { console.err("\u{1b}[\(linesDrawn)A\u{1b}[J") }
    linesDrawn = 0
  }

  private static func time(_ time: MonotonicTime) -> String {
    let milliseconds = time.microseconds / 1000
    let text = "\(milliseconds / 1000).\(String(1000 + milliseconds % 1000).dropFirst()) s"
    return String(repeating: " ", count: max(0, 9 - text.count)) + text
  }

  private func text(_ timed: TimedNote) -> String? {
    let side = timed.side == .source ? "source     " : "destination"
    switch timed.note {
    case .phase(let name): return "\(side)  \(name)"
    case .restarted(let device, let times): return "\(side)  device \(device) was reset by its guest (\(times))"
    case .reset(let device): return "\(side)  device \(device) was reset"
    case .hung(let device, _, let waited):
      return "\(side)  device \(device) has not answered for \(Figures.time(waited))"
    case .arc(let arc):
      return arc.error.map { "\(side)  device \(arc.device) failed to reach \(arc.to): \($0)" }
    case .stepEnded: return nil
    }
  }
}

extension SimulationSummary {
  /// The closing table.
  var table: [String] {
    var rows = [["DEVICE", "STATE", "SENT", "BEFORE THE STOP", "SAME ON BOTH SIDES"]]
    for device in devices {
      rows.append([
        device.name, Figures.bytes(UInt64(device.stateBytes)), Figures.bytes(device.imageBytes),
        Figures.bytes(device.preCopyBytes), device.isVerified ? "yes" : "NO",
      ])
    }
    var lines = TextTable.lines(rows)
    lines.append("")
    lines.append(
      "Stopped for \(Figures.time(downtimeMicroseconds ?? 0)) of \(Figures.time(totalMicroseconds)); "
        + "\(Figures.bytes(streamBytes)) on the link.")
    lines.append(
      violations.isEmpty
        ? "The referee saw no device stop before the last one had reached its P2P state, and none start too soon."
        : "The referee found: \(violations.joined(separator: "; "))")
    return lines
  }

  func json(seed: UInt64) -> JSON {
    .object([
      "seed": .unsigned(seed), "verified": .bool(isVerified), "downtime_us": JSON(downtimeMicroseconds),
      "total_us": .unsigned(totalMicroseconds), "stream_bytes": .unsigned(streamBytes),
      "run_digest": .string(String(runDigest, radix: 16)),
      "violations": .array(violations.map { .string($0) }),
      "devices": .array(
        devices.map { device in
          .object([
            "name": .string(device.name), "state_bytes": .integer(Int64(device.stateBytes)),
            "image_bytes": .unsigned(device.imageBytes), "pre_copy_bytes": .unsigned(device.preCopyBytes),
            "restarts": .integer(Int64(device.restarts)), "verified": .bool(device.isVerified),
            "arcs": .array(device.arcs.map(\.json)),
          ])
        }),
    ])
  }
}

extension TimedArc {
  var json: JSON {
    .object([
      "side": .string("\(side)"), "from": JSON(from?.name), "to": .string(to.name),
      "begin_us": .unsigned(begin.microseconds), "end_us": .unsigned(end.microseconds),
      "error": JSON(error.map { "\($0)" }),
    ])
  }
}
