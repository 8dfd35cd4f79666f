// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Simulation
internal import Synchronization

/// Whether the judge sees what it is there to see: worlds that are broken on purpose, each played until it is found out,
/// beside the same worlds unbroken.
enum SimulationJudgeCheck {
  /// A sabotage is to be found by this seed.
  static let lastSeed: UInt64 = 100

  /// What came of one sabotage.
  struct Finding: Sendable {
    let sabotage: Sabotage
    /// The world that was broken.
    let world: String
    /// The seed that showed it, and what the judge said; nil where none did.
    var found: (seed: UInt64, words: String)?
    /// A seed at which the judge had something to say against the world as it should be.
    var falseAlarm: (seed: UInt64, words: String)?

    /// Found, and with no false alarm.
    var isGood: Bool { found != nil && falseAlarm == nil }
  }

  /// Plays all of them, on all processors.
  static func findings() throws(CommandFailure) -> [Finding] {
    let desk = Desk()
    let sabotages = Sabotage.allCases
    try ParallelRuns.each(below: sabotages.count, name: "judge") { number in
      let finding = finding(sabotages[number])
      desk.findings.withLock { $0[number] = finding }
    }
    return desk.findings.withLock { findings in sabotages.indices.compactMap { findings[$0] } }
  }

  private final class Desk: Sendable {
    let findings = Mutex<[Int: Finding]>([:])
  }

  /// Where a sabotage can show.
  private static func world(_ sabotage: Sabotage) -> BuiltInWorld {
    switch sabotage {
    case .oneByOne, .withoutOrder, .renumberedQueuePair: .nicGPU
    // What the guest works on is in its memory there.
    case .earlyReading, .droppedPage, .commitAsAbort, .untoldReset: .nic
    }
  }

  private static func finding(_ sabotage: Sabotage) -> Finding {
    let world = world(sabotage)
    let judge = Judge()
    var finding = Finding(sabotage: sabotage, world: world.rawValue)
    for seed in 1...lastSeed {
      var sabotaged = world.description
      sabotaged.sabotage = sabotage
      let broken = Scenario(world: sabotaged, seed: seed)
      var intact = Scenario(world: world.description, seed: seed)
      // What the guest does is no part of what is broken.
      intact.guestResets = broken.guestResets
      if let words = firstViolation(intact, judge) {
        finding.falseAlarm = (seed, words)
        return finding
      }
      if let words = firstViolation(broken, judge) {
        finding.found = (seed, words)
        return finding
      }
    }
    return finding
  }

  private static func firstViolation(_ scenario: Scenario, _ judge: Judge) -> String? {
    do throws(CommandFailure) {
      var world = try SimulatedWorld.ready(scenario)
      while world.advance() {}
      return world.summary(judge).violations.first
    } catch {
      return "it can't be played: \(error.message)"
    }
  }

  /// For a person.
  static func lines(_ findings: [Finding]) -> [String] {
    var rows = [["BROKEN ON PURPOSE", "IN", "FOUND AT", "AS"]]
    for finding in findings {
      rows.append([
        finding.sabotage.explanation, finding.world,
        finding.found.map { "seed \($0.seed)" } ?? (finding.falseAlarm == nil ? "NOT FOUND" : "-"),
        finding.found?.words ?? "-",
      ])
    }
    let alarms = findings.compactMap { finding in
      finding.falseAlarm.map { "FALSE ALARM at seed \($0.seed) of \(finding.world), with nothing broken: \($0.words)" }
    }
    let found = findings.count { $0.found != nil }
    return TextTable.lines(rows) + [""] + alarms + [
      "\(found) of \(findings.count) were found within \(lastSeed) seeds"
        + (alarms.isEmpty ? "; the same seeds with nothing broken gave no finding." : ".")
    ]
  }

  /// For scripts.
  static func json(_ findings: [Finding]) -> JSON {
    .object([
      "all_found": .bool(findings.allSatisfy(\.isGood)), "most_seeds": .unsigned(lastSeed),
      "sabotages": .array(
        findings.map { finding in
          .object([
            "sabotage": .string(finding.sabotage.rawValue), "meaning": .string(finding.sabotage.explanation),
            "scenario": .string(finding.world), "found_at_seed": JSON(finding.found?.seed),
            "finding": JSON(finding.found?.words), "false_alarm_at_seed": JSON(finding.falseAlarm?.seed),
            "false_alarm": JSON(finding.falseAlarm?.words),
          ])
        }),
    ])
  }
}
