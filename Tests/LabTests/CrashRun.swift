// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration

/// A move in which something dies: two devices on each side that write to guest memory and to each other, two VMMs, their helpers.
/// What was found to be wrong is in `faults`.
final class CrashRun {
  private typealias Side = CrashCase.Side
  private typealias Place = CrashCase.Place

  /// The NIC and the GPU of a side.
  private let devices: [[Synthetic]]
  private let vmms: [ExampleVMM]
  private var dead: Set<Side> = []
  private(set) var faults: [String] = []

  /// What the table shows.
  private(set) var places = ["", ""]
  private(set) var runner = ""
  private(set) var recovery = ""

  /// - Parameter more: options of the VMM of that side.
  private init(_ number: Int, _ more: (CrashCase.Side) -> [String]) throws {
    devices = try ["source", "destination"].map { side in
      try (1...2).map { id in
        try Synthetic(
          "\(side.prefix(3))",
          [
            "iommu": "own", "id": "\(id)", "state_bytes": "64K", "dma_ranges": "0x100000000+256K", "dma_rate": "500",
          ])
      }
    }
    for pair in devices { try pair[0].set("peers", "\(pair[1].name) 500") }
    let common = [
      "--peer", "/run/crash-\(number)", "--helper", Lab.ferryProgram.path, "--hold",
      "--memory", "1M",
    ]
    let destination = try ExampleVMM(
      ["destination"] + devices[1].map(\.name) + ["--expect-mark"] + common + more(.destination))
    let source = try ExampleVMM(
      ["source"] + devices[0].map(\.name)
        + ["--mark", "--verify", "--vcpu-writes", "200", "--downtime", "5000", "--run-until-signal"] + common
        + more(.source))
    vmms = [source, destination]
    try source.wait(for: "the guest runs")
    // The guest's drivers set them to work. An active device costs a machine without KVM a lot, so one of them is enough.
    for (device, activity) in zip(devices[0], ["dma peers", "interrupts"]) { try device.set("activity", activity) }
    source.send(SIGUSR1)
  }

  private static func index(_ side: Side) -> Int { side == .source ? 0 : 1 }
  private func vmm(_ side: Side) -> ExampleVMM { vmms[Self.index(side)] }
  private func pair(_ side: Side) -> [Synthetic] { devices[Self.index(side)] }

  private func expect(_ holds: Bool, _ words: @autoclosure () -> String) { if !holds { faults.append(words()) } }

  // MARK: Runs

  /// Plays one case and compares it with the model.
  static func play(_ crash: CrashCase, number: Int) throws -> CrashRun {
    let option = crash.victim == .link ? "--cut-at" : "--pause-at"
    let run = try CrashRun(number) { $0 == crash.step.side ? [option, crash.step.name] : [] }
    defer { run.clean() }
    if crash.victim != .link {
      let paused = run.vmm(crash.step.side)
      try paused.wait(for: "paused")
      try run.strike(crash.victim)
      paused.send(SIGUSR2)
    }
    try run.finish(expected: crash.expected, neverRan: !crash.step.isLast)
    if let side = crash.victim.side, crash.victim.isVMM {
      let phase = run.recordedPhase(side)
      let expected = crash.recordedPhase
      run.expect(
        side != crash.step.side || phase == expected, "the record is of \(phase ?? "none"), not \(expected ?? "none")")
    }
    return run
  }

  /// Kills when the VMM of a side has printed so many lines, wherever everything else is then.
  static func play(_ victim: CrashCase.Victim, when side: CrashCase.Side, hasSaid count: Int, number: Int) throws
    -> CrashRun
  {
    let run = try CrashRun(number) { _ in [] }
    defer { run.clean() }
    while run.vmm(side).lines.count < count, try run.vmm(side).nextLine()?.contains("result: ") == false {}
    try run.strike(victim)
    try run.finish(expected: nil, neverRan: false)
    if let side = victim.side, victim.isVMM { _ = run.recordedPhase(side) }
    return run
  }

  private func strike(_ victim: CrashCase.Victim) throws {
    guard let side = victim.side else { return }
    if victim.isVMM {
      dead.insert(side)
      vmm(side).send(SIGKILL)
      // With it its helper: that is when the devices are free.
      expect(try vmm(side).end() == -SIGKILL, "the \(side.rawValue)'s VMM ended by itself")
    } else {
      try vmm(side).killHelper()
    }
  }

  // MARK: The end

  private func finish(expected: CrashCase.Outcome?, neverRan: Bool) throws {
    for side in [Side.source, .destination] where !dead.contains(side) { try vmm(side).wait(for: "result: ") }
    let (source, destination) = (try place(.source), try place(.destination))
    if let expected {
      expect(source == expected.source, "the source is \(source), and should be \(expected.source)")
      expect(
        destination == expected.destination, "the destination is \(destination), and should be \(expected.destination)")
    }
    expect(CrashCase.isAllowed(source, destination), "source \(source) and destination \(destination)")
    runner = source == .runs ? "source" : destination == .runs ? "destination" : "nobody"
    try checkReferee(destination: destination, neverRan: neverRan)
    var found = recoveryFound()
    // Nobody knows whether it runs there: here somebody does.
    if source == .inDoubt, destination != .runs {
      vmm(.source).send(SIGUSR1)
      try vmm(.source).waitForNext("result: ")
      expect(try place(.source, shown: false) == .runs, "the source can't be taken back by word")
      found = .takesBackByWord
      recovery = "by word, source: " + words(.source)
    }
    if let expected { expect(found == expected.recovery, "a new helper: \(found), and should: \(expected.recovery)") }
    try close(source, destination, byWord: found == .takesBackByWord)
  }

  /// How a side is, by all that tells of it: the VMM, debugfs and the referee, which have to agree.
  private func place(_ side: Side, shown: Bool = true) throws -> Place {
    let states = try pair(side).map { try $0.state?.name ?? "unknown" }
    let referees = try pair(side).map { try $0.referee }
    let isOpen = referees.allSatisfy { $0["open"] == 1 }
    let hasGuest = referees.allSatisfy { $0.text("activity")?.isEmpty == false }
    let isEmpty = referees.allSatisfy { $0.text("activity") == "" }
    // One is from its making, one from being opened.
    let isUntouched = referees.allSatisfy { $0["resets"] == 2 }
    let wasReset = referees.allSatisfy { $0["resets"] > 2 }
    let seen = Set(states).count == 1 ? states[0] : states.joined(separator: "+")
    func show(_ words: String) { if shown { places[Self.index(side)] = seen + words } }

    if dead.contains(side) {
      show(", reset")
      expect(
        referees.allSatisfy { $0["open"] == 0 } && wasReset && isEmpty && seen == "running",
        "\(side) is not closed: \(seen)")
      return .closed
    }
    expect(isOpen, "the \(side.rawValue)'s devices are not open")
    guard
      let result = vmm(side).lines.last(where: { $0.contains("result: ") })?.components(separatedBy: "result: ").last
    else {
      faults.append("the \(side.rawValue) has said nothing")
      return .closed
    }
    switch (side, result) {
    case (.source, "back, guest here"), (.destination, "done, guest here"):
      show("")
      expect(seen == "running" && hasGuest && isUntouched, "the \(side.rawValue) says that it runs: \(seen)")
      return .runs
    case (.source, "done, guest there"):
      show("")
      expect(seen == "stop" && hasGuest && isUntouched, "the source says that it has let go: \(seen)")
      return .moved
    case (.source, "failed, guest stopped here, unless it runs there"):
      show("")
      expect(seen == "stop" && hasGuest && isUntouched, "the source says that it is in doubt: \(seen)")
      return .inDoubt
    case (.destination, "failed, guest there"):
      show(", empty")
      expect(seen == "running" && isEmpty, "the destination says that it is empty: \(seen)")
      return .empty
    default:
      show(", ?")
      faults.append("the \(side.rawValue) says: \(result)")
      return .closed
    }
  }

  private func checkReferee(destination: Place, neverRan: Bool) throws {
    // The VMM puts configuration space back in STOP, as it should. Devices of a VMM that dies are closed one after the other.
    let allowed: Set = ["bar_quiesced", "config_quiesced", "peer_arrived_closed"]
    for device in devices.joined() {
      let complaints = try device.referee.complaints(except: allowed)
      expect(complaints.isEmpty, "\(device.name): \(complaints.joined(separator: ", "))")
    }
    guard neverRan, destination != .runs else { return }
    for device in pair(.destination) {
      let referee = try device.referee
      expect(referee["dma_pages"] == 0 && referee["peer_sent"] == 0, "\(device.name) of the destination has run")
    }
  }

  /// What new helpers have done, as their VMMs tell.
  private func recoveryFound() -> CrashCase.Recovery {
    for side in [Side.source, .destination]
    where vmm(side).lines.contains(where: { $0.contains("another helper takes over") }) {
      recovery = "\(side.rawValue): \(words(side))"
      if side == .source { return .takesBack }
      return vmm(side).lines.contains { $0.contains("given up") } ? .empties : .resumes
    }
    return .none
  }

  /// What it found, and what it did.
  private func words(_ side: Side) -> String {
    let lines = vmm(side).lines
    let found = lines.filter { $0.contains(", and can:") }.suffix(2).compactMap {
      $0.components(separatedBy: " is in ").last?.components(separatedBy: ",").first
    }
    let states = Set(found).count == 1 ? found[0] : found.joined(separator: "+")
    let resets = lines.count { $0.contains("was reset: it is empty") }
    if resets > 0 { return "\(states), reset" }
    return lines.contains { $0.contains("given up") } ? "\(states), nothing to do" : "\(states), resumed"
  }

  /// The last line of a helper whose VMM has died: its phase and its states fit each other.
  /// - Returns: the phase; nil where there is no such line.
  private func recordedPhase(_ side: Side) -> String? {
    let words = "the VMM is gone in "
    guard let line = vmm(side).lines.last(where: { $0.contains(words) }) else { return nil }
    let parts = line.components(separatedBy: words).last?.components(separatedBy: ": ") ?? []
    guard let phase = parts.first, parts.count > 1 else {
      faults.append("a bad record: \(line)")
      return nil
    }
    for device in pair(side) {
      let entry = parts[1].split { $0 == "," || $0 == ";" }.first { $0.contains(device.node) }
      let state = entry?.split(separator: " ").last.map(String.init) ?? "nothing"
      expect(CrashCase.states[phase]?.contains(state) == true, "the record has \(device.name) in \(state): \(line)")
    }
    return phase
  }

  /// Ends what lives, and looks whether everything is free then.
  private func close(_ source: Place, _ destination: Place, byWord: Bool) throws {
    for (side, place) in [(Side.source, source), (.destination, destination)] where !dead.contains(side) {
      vmm(side).send(SIGTERM)
      let status = try vmm(side).end()
      let expected: Int32 =
        switch place {
        case .runs: side == .source ? 3 : 0
        case .moved: 0
        case .inDoubt: byWord ? 3 : 1
        case .empty, .closed: 1
        }
      expect(status == expected, "the \(side.rawValue) exits with \(status)")
    }
    for device in devices.joined() {
      expect(try device.referee["open"] == 0 && device.state == .running, "\(device.name) is not free")
    }
  }

  private func clean() {
    for vmm in vmms { vmm.send(SIGKILL) }
    for pair in devices {
      try? pair[0].set("peers", "")
      for device in pair { device.remove() }
    }
  }

  /// All that was printed, for a failure.
  var text: String { vmms.map(\.text).joined(separator: "\n--\n") }
}
