// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxIO
internal import Migration
internal import Simulation
internal import Topology
internal import Transport

struct SimulateCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "simulate", abstract: "Move a simulated virtual machine with its devices. No hardware is needed.",
    discussion: """
      A machine with RDMA NICs and GPUs answers its peers over a network, and moves to another host meanwhile. The \
      sessions, the stream and its checksums are those that move real devices; everything else is simulated, in virtual \
      time. The same seed gives the same run, to the bit, on every machine.

      SCENARIO is a file, or one of these:
      \(BuiltInWorld.allCases.map { "  \($0.rawValue): \($0.summary)" }.joined(separator: "\n"))

      --seeds N plays N runs with faults, on all processors, and exits with 1 if one of them breaks a rule. \
      --judge-check does the same in worlds that are broken on purpose, and exits with 0 if each is found out.
      """)

  @OptionGroup var format: FormatOptions

  @Argument(help: ArgumentHelp("What to play.", valueName: "SCENARIO"))
  var scenario: String?

  @Option(help: ArgumentHelp("Decides everything that is left to chance (default: 1).", valueName: "N"))
  var seed: UInt64?

  @Flag(help: "Let the seed decide on faults too: links break, devices fail, processes are killed.")
  var faults = false

  @Option(
    help: ArgumentHelp(
      "Play so many seeds with faults: of SCENARIO, or of all built-in ones in turn.", valueName: "N"))
  var seeds: UInt64?

  @Option(help: ArgumentHelp("With --seeds: the first seed (default: 1).", valueName: "N"))
  var first: UInt64?

  @Flag(
    help: "NICs finish the messages that were begun before they stop, to compare with stopping between two packets.")
  var drain = false

  @Option(help: "How the time grows after which peers send again.")
  var timeouts: PeerTimeouts?

  @Option(
    help: ArgumentHelp("Draw who stopped when, and how long peers waited, into a file (SVG).", valueName: "FILE"))
  var svg: String?

  @Flag(help: "See whether worlds that are broken on purpose are found out.")
  var judgeCheck = false

  @Option(
    help: ArgumentHelp(
      "Hold draining against stopping between packets, and fixed against doubling time-outs, with 1 to 100,000 queue "
        + "pairs; write the table and its plots into a folder.", valueName: "DIR"))
  var compare: String?

  @Option(
    help: ArgumentHelp(
      "Move a guest of 100 GB whose NIC writes with 2 to 32 Gbit/s over a link of 16, with and without limits on what "
        + "comes in; write the table and its plots into a folder.", valueName: "DIR"))
  var throttle: String?

  @Flag(help: "Do not pace the display; show the end at once.")
  var fast = false

  /// More would not fit the tallies, and take weeks.
  private static let mostSeeds: UInt64 = 100_000_000

  private var changes: SimulateChanges { SimulateChanges(drains: drain, timeouts: timeouts) }

  func validate() throws {
    if judgeCheck {
      let plain = scenario == nil && seed == nil && seeds == nil && first == nil && svg == nil && !faults
      guard plain, changes.isEmpty else {
        throw ValidationError("--judge-check has scenarios and seeds of its own: it goes with --json alone")
      }
    }
    for (option, folder) in [("--compare", compare), ("--throttle", throttle)] {
      guard let folder else { continue }
      let plain = scenario == nil && seed == nil && seeds == nil && first == nil && svg == nil && !faults && !judgeCheck
      guard plain, changes.isEmpty, compare == nil || throttle == nil else {
        throw ValidationError("\(option) has scenarios and a seed of its own: it goes with --json alone")
      }
      if folder.isEmpty { throw ValidationError("\(option) takes a folder, and it is empty") }
    }
    if let seeds {
      guard (1...Self.mostSeeds).contains(seeds) else { throw ValidationError("--seeds takes 1 to \(Self.mostSeeds)") }
      if seed != nil {
        throw ValidationError("--seeds plays many seeds, --seed one: choose one (--first says where to begin)")
      }
      if svg != nil { throw ValidationError("--svg draws one run, and --seeds plays many") }
      if (first ?? 1).addingReportingOverflow(seeds - 1).overflow {
        throw ValidationError("there are no seeds after \(UInt64.max)")
      }
    }
    if first != nil, seeds == nil { throw ValidationError("--first goes with --seeds") }
    if svg == "-", format.wantsJSON { throw ValidationError("--json and --svg - would both write to standard output") }
    if svg?.isEmpty == true { throw ValidationError("--svg takes a file, and it is empty") }
    if scenario?.isEmpty == true { throw ValidationError("SCENARIO is empty") }
  }

  func execute(_ console: Console) throws {
    if let compare {
      try sweep(into: compare, console)
    } else if let throttle {
      try sweep(ThrottleSweep(), into: throttle, console)
    } else if judgeCheck {
      try checkJudge(console)
    } else if let seeds {
      try playMany(seeds, console)
    } else {
      try playOne(console)
    }
  }

  // MARK: One run

  private func playOne(_ console: Console) throws {
    let subject = try SimulateSubject(scenario ?? BuiltInWorld.nicGPU.rawValue)
    let move = subject.move(seed: seed ?? 1, changes: changes, drawsFaults: faults)
    let standardOutput = console
    // The picture has standard output for itself.
    let console =
      svg == "-" ? Console(out: console.err, err: console.err, showsProgress: console.showsProgress) : console
    var scenario = move.scenario
    scenario.keepsRoundTrips = svg != nil
    var world = try SimulatedWorld.ready(scenario)
    var recorder = SimulationRecorder()
    if format.wantsJSON {
      play(&world, &recorder)
    } else {
      show(&world, &recorder, subject, console)
    }
    var report = SimulationReport(
      world, scenario: subject.name, seed: seed ?? 1,
      command: SimulateSubject.command(subject.name, seed: seed ?? 1, changes, faults: faults), faults: move.faults,
      expectsSuccess: !faults && move.faults.isEmpty)
    report.comparison = try comparison(report, subject)
    if format.wantsJSON {
      console.json(report.json, format)
    } else {
      console.line()
      for line in report.table { console.line(line) }
    }
    if let svg {
      let document = SimulationSVG(recorder.picture(of: world, report)).document
      if svg == "-" { standardOutput.out(document) } else { try OutputFile.write(document, to: svg) }
    }
    if let problem = report.problem { throw CommandFailure.failed("\(problem): \(report.command)") }
    if !format.wantsJSON, svg != "-" { mentionRealDevices(console) }
  }

  /// The same seed without `--drain` and `--timeouts`.
  private func comparison(_ report: SimulationReport, _ subject: SimulateSubject) throws -> SimulationComparison? {
    if changes.applied(to: subject.world) == subject.world { return nil }
    let move = subject.move(seed: seed ?? 1, changes: SimulateChanges(), drawsFaults: faults)
    var world = try SimulatedWorld.ready(move.scenario)
    let summary = world.run()
    return SimulationComparison(
      options: changes.arguments, with: report.summary, without: summary, stoppedWith: report.stoppedMicroseconds,
      stoppedWithout: world.stoppedMicroseconds ?? summary.downtimeMicroseconds)
  }

  private func play(_ world: inout SimulatedWorld, _ recorder: inout SimulationRecorder) {
    if svg != nil {
      recorder.play(&world, from: world.now, to: MonotonicTime(microseconds: .max))
    } else {
      while world.advance() {}
    }
  }

  /// Plays it before a person's eyes.
  private func show(
    _ world: inout SimulatedWorld, _ recorder: inout SimulationRecorder, _ subject: SimulateSubject, _ console: Console
  ) {
    for line in subject.introduction(changes) { console.line(line) }
    console.line()
    let isLive = console.showsProgress && !fast
    var display = SimulationDisplay(
      console: console, isLive: isLive, names: world.devices(of: .source).map(\.configuration.name))
    if isLive {
      let pace = SimulationPace(world)
      // The world's own clock stands still where nothing happens; this one goes on.
      var clock = world.now
      while !world.isOver {
        display.show(world)
        let next = clock.adding(microseconds: pace.step(at: clock))
        recorder.play(&world, from: clock, to: next)
        clock = next
      }
    } else {
      play(&world, &recorder)
    }
    display.show(world)
    display.end()
  }

  /// A newcomer may have the real thing at hand.
  private func mentionRealDevices(_ console: Console) {
    guard let device = Inventory().devices().first(where: { $0.isMigratable == true }) else { return }
    console.line()
    console.line("This machine has migratable devices, \(device.name) among them. Next:")
    console.line("  vfio-ferry show \(device.name)                       what it can do; binds nothing")
    console.line("  vfio-ferry save \(device.name) --pid PID --force -o FILE   save it from the VMM that holds it")
  }

  // MARK: Many runs

  private func playMany(_ seeds: UInt64, _ console: Console) throws {
    let subjects = try scenario.map { [try SimulateSubject($0)] } ?? BuiltInWorld.allCases.map(SimulateSubject.builtIn)
    let campaign = SimulationCampaign(
      parts: subjects.map { SimulationCampaign.Part(name: $0.name, world: $0.world) }, firstSeed: first ?? 1,
      count: Int(seeds), changes: changes)
    let tally = try campaign.play(console)
    if format.wantsJSON {
      console.json(tally.json, format)
    } else {
      for line in tally.lines { console.line(line) }
    }
    if tally.brokenCount > 0 { throw CommandFailure.failed("\(tally.brokenCount) of \(tally.runs) runs broke a rule") }
  }

  private func checkJudge(_ console: Console) throws {
    let findings = try SimulationJudgeCheck.findings()
    if format.wantsJSON {
      console.json(SimulationJudgeCheck.json(findings), format)
    } else {
      for line in SimulationJudgeCheck.lines(findings) { console.line(line) }
    }
    if !findings.allSatisfy(\.isGood) {
      throw CommandFailure.failed("the judge does not see everything that it should, or too much")
    }
  }
}

/// How the time grows after which peers send again, as `--timeouts` spells it.
enum PeerTimeouts: String, CaseIterable, ExpressibleByArgument {
  case fixed
  case exponential
}

extension SimulateSubject {
  /// The command that plays a seed of a scenario again.
  static func command(_ name: String, seed: UInt64, _ changes: SimulateChanges, faults: Bool) -> String {
    let words =
      ["vfio-ferry", "simulate", name, "--seed", "\(seed)"] + (faults ? ["--faults"] : []) + changes.arguments
    return words.joined(separator: " ")
  }

  /// What a person is about to see.
  func introduction(_ changes: SimulateChanges) -> [String] {
    let world = changes.applied(to: self.world)
    let devices =
      world.gpus > 0
      ? "\(Self.count(world.nics, "NIC")) and \(Self.count(world.gpus, "GPU"))" : Self.count(world.nics, "NIC")
    var lines = [
      "A virtual machine with \(devices) answers \(Self.count(world.peers, "peer")) over "
        + "\(Self.count(world.connections * world.nics, "RDMA connection")), and moves to another host meanwhile.",
      "The peers are told nothing. Everything is simulated, and times are the simulation's own.",
    ]
    if world.quiescing == .drainingMessages {
      lines.append("NICs finish every message that was begun before they stop.")
    }
    if world.retransmission.kind == .fixed {
      lines.append("Peers wait equally long before each time that they send again.")
    }
    return lines
  }

  private static func count(_ number: Int, _ word: String) -> String { "\(number) \(word)\(number == 1 ? "" : "s")" }
}
