// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Simulation

/// What a campaign says at its end.
extension CampaignTally {
  /// For a person.
  var lines: [String] {
    var rows = [["SCENARIO", "RUNS", "MOVED", "WENT BACK", "STAND STILL", "LOST", "BROKE A RULE"]]
    for part in parts {
      rows.append(
        [part.name]
          + [
            part.runs, part.count(.moved), part.count(.wentBack), part.count(.stopped), part.count(.lost), part.broken,
          ].map { "\($0)" })
    }
    var lines = TextTable.lines(rows) + [""]
    for part in parts {
      for (kind, words) in [
        (SimulationEnding.Kind.wentBack, "went back"), (.stopped, "stand still"), (.lost, "lost"),
      ] {
        let reasons = part.reasons(kind).map { "\($0.words) (\($0.runs))" }
        if !reasons.isEmpty { lines.append("\(part.name), \(words): \(reasons.joined(separator: ", "))") }
      }
    }
    if lines.last?.isEmpty == false { lines.append("") }
    for run in broken {
      lines.append("BROKEN: \(parts[run.part].name), seed \(run.seed): \(run.violation ?? "")")
      lines.append("  again: \(command(run))")
    }
    if brokenCount > broken.count { lines.append("and \(brokenCount - broken.count) more") }
    let last = campaign.firstSeed + UInt64(campaign.count - 1)
    lines.append(
      "Seeds \(campaign.firstSeed) to \(last), with faults: "
        + (brokenCount == 0 ? "no rule was broken." : "\(brokenCount) of \(runs) runs broke a rule."))
    lines.append("Digest of all runs \(SimulationReport.digest(digest)), the same on every machine.")
    return lines
  }

  /// For scripts.
  var json: JSON {
    .object([
      "first_seed": .unsigned(campaign.firstSeed), "seeds": JSON(campaign.count), "broken_runs": JSON(brokenCount),
      "campaign_digest": .string(SimulationReport.digest(digest)), "scenarios": .array(parts.map(Self.json)),
      "broken": .array(
        broken.map { run in
          .object([
            "scenario": .string(parts[run.part].name), "seed": .unsigned(run.seed),
            "run_digest": .string(SimulationReport.digest(run.digest)), "violation": JSON(run.violation),
            "command": .string(command(run)),
          ])
        }),
    ])
  }

  private static func json(_ part: Part) -> JSON {
    let reasons = SimulationEnding.Kind.allCases.flatMap { kind in
      kind == .moved
        ? []
        : part.reasons(kind).map { reason in
          JSON.object([
            "ending": .string(kind.rawValue), "reason": .string(reason.words), "runs": JSON(reason.runs),
          ])
        }
    }
    return .object([
      "scenario": .string(part.name), "runs": JSON(part.runs), "moved": JSON(part.count(.moved)),
      "went_back": JSON(part.count(.wentBack)), "stopped": JSON(part.count(.stopped)), "lost": JSON(part.count(.lost)),
      "broken_runs": JSON(part.broken), "reasons": .array(reasons),
    ])
  }

  private func command(_ run: SimulationCampaign.Run) -> String {
    SimulateSubject.command(parts[run.part].name, seed: run.seed, campaign.changes, faults: true)
  }
}
