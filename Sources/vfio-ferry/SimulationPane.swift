// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Simulation

/// How a simulated move stands at one moment, as lines that fit a terminal: one for each device, and four more.
struct SimulationPane {
  /// No line is longer: it would wrap, and the next picture would not cover it.
  static let width = 79
  private static let barWidth = 16

  /// A device on both hosts.
  struct Device {
    let name: String
    let source: MigrationState
    /// Nil where it is empty: nobody's device, whatever its state.
    let destination: MigrationState?
    /// Bytes that the destination has.
    let bytes: UInt64
    /// Bytes that are expected in all.
    let expectedBytes: UInt64
  }

  let devices: [Device]
  let memory: MemorySummary?
  let peers: PeerSummary?
  let place: MachinePlace
  let stoppedMicroseconds: UInt64?
  /// Answers of peers in a millisecond, of late.
  let answersPerMillisecond: UInt64?

  /// - Parameter before: the moment that the answers' rate is reckoned from.
  init(_ world: SimulatedWorld, since before: (time: MonotonicTime, answers: Int)?) {
    let progress = zip(world.progress(of: .source), world.progress(of: .destination))
    let states = zip(world.devices(of: .source), world.devices(of: .destination))
    devices = zip(states, progress).map { states, progress in
      Device(
        name: states.0.configuration.name, source: states.0.state,
        destination: states.1.isInUse || states.1.state == .resuming ? states.1.state : nil,
        bytes: progress.1.bytes, expectedBytes: max(progress.0.expectedBytes ?? 0, progress.0.bytes))
    }
    memory = world.memory
    peers = world.peers
    place = world.place
    stoppedMicroseconds = world.stoppedMicroseconds
    answersPerMillisecond = before.flatMap { before in
      guard let peers = world.peers, world.now > before.time else { return nil }
      return UInt64(max(0, peers.answered - before.answers)) * 1000 / world.now.microseconds(since: before.time)
    }
  }

  /// Of these values.
  init(
    devices: [Device], memory: MemorySummary?, peers: PeerSummary?, place: MachinePlace, stoppedMicroseconds: UInt64?,
    answersPerMillisecond: UInt64?
  ) {
    self.devices = devices
    self.memory = memory
    self.peers = peers
    self.place = place
    self.stoppedMicroseconds = stoppedMicroseconds
    self.answersPerMillisecond = answersPerMillisecond
  }

  /// What is drawn.
  var lines: [String] {
    var lines = [
      Self.pad("DEVICE", 13) + Self.pad("ON THE SOURCE", 14) + Self.pad("SENT", Self.barWidth + 2)
        + "ON THE DESTINATION"
    ]
    lines += devices.map(Self.line)
    if let memory {
      let rounds = memory.rounds.count > 1 ? "round \(memory.rounds.count)" : "first round"
      lines.append(
        "guest memory   \(memory.pages) pages, \(rounds) with \(memory.rounds.last ?? 0), \(Figures.bytes(memory.bytes))"
      )
    }
    if let peers {
      let rate = answersPerMillisecond.map { ", \($0) in a ms" } ?? ""
      let trouble = peers.broken > 0 ? ", \(peers.broken) connections broken" : ""
      lines.append("peers          \(peers.answered) of \(peers.wanted) answers\(rate)\(trouble)")
    }
    lines.append("machine        \(machine)")
    return lines.map { String($0.prefix(Self.width)) }
  }

  private var machine: String {
    let stopped = stoppedMicroseconds.map { "stopped for \(Figures.time($0))" }
    switch place {
    case .runs(let side): return "runs on the \(side)" + (stopped.map { ", was \($0)" } ?? "")
    case .stopped: return "runs nowhere, \(stopped ?? "stopped") so far"
    case .lost: return "is lost"
    }
  }

  private static func line(_ device: Device) -> String {
    let expected = max(device.expectedBytes, device.bytes, 1)
    let full = Int(device.bytes.multipliedFullWidth(by: UInt64(barWidth)).low / expected)
    let bar = String(repeating: "#", count: full) + String(repeating: ".", count: barWidth - full)
    return pad(device.name, 13) + pad(device.source.name, 14) + "[\(bar)] "
      + pad(device.destination?.name ?? "empty", 13)
      + Figures.bytes(device.bytes)
  }

  private static func pad(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(1, width - text.count))
  }
}
