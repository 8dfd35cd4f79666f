// SPDX-License-Identifier: Apache-2.0
internal import Topology

/// What `doctor` says.
struct DoctorReport {
  private let diagnosis: Diagnosis

  init(_ diagnosis: Diagnosis) { self.diagnosis = diagnosis }

  /// How the command ends; nil where all is well.
  var status: CommandFailure.Status? {
    switch diagnosis.worst {
    case .ok: nil
    case .unknown: .unclear
    case .warning: .warned
    case .missing: .refused
    }
  }

  /// How many conditions are in which state, worst first: "1 missing, 14 ok".
  var summary: String {
    Condition.State.allCases.reversed().compactMap { state in
      let count = diagnosis.findings.count { $0.state == state }
      return count == 0 ? nil : "\(count) \(state.rawValue)"
    }.joined(separator: ", ")
  }

  // MARK: For a person

  /// The host first, then the devices as they were given; the worst first in each.
  var lines: [String] {
    var rows: [[String]] = []
    for subject in subjects {
      rows.append([subject ?? "HOST"])
      let own = diagnosis.findings.filter { $0.device == subject }
      for state in Condition.State.allCases.reversed() {
        for finding in own where finding.state == state { rows += Self.rows(finding) }
      }
    }
    var lines = TextTable.lines(rows.map { $0.count == 1 ? [] : $0 })
    for (index, row) in rows.enumerated() where row.count == 1 { lines[index] = row[0] }
    for (need, conditions) in unasked {
      lines.append("not judged: \(conditions.joined(separator: ", ")); give \(need)")
    }
    if status == nil { lines.append(summary) }
    return lines
  }

  private static func rows(_ finding: Diagnosis.Finding) -> [[String]] {
    var rows = [["  \(finding.state.rawValue)", finding.condition, finding.evidence]]
    guard finding.state != .ok else { return rows }
    rows.append(["", "", "why: \(finding.why)"])
    if let remedy = finding.remedy { rows.append(["", "", "do:  \(remedy)"]) }
    return rows
  }

  private var subjects: [String?] {
    var subjects: [String?] = []
    for finding in diagnosis.findings where finding.device != nil && !subjects.contains(finding.device) {
      subjects.append(finding.device)
    }
    return [nil] + subjects
  }

  /// What was not judged, by what has to be given for it.
  private var unasked: [(need: String, conditions: [String])] {
    var listed: [(need: String, conditions: [String])] = []
    for unasked in diagnosis.unasked {
      let need = unasked.need.rawValue
      if let place = listed.firstIndex(where: { $0.need == need }) {
        listed[place].conditions.append(unasked.condition)
      } else {
        listed.append((need, [unasked.condition]))
      }
    }
    return listed
  }

  // MARK: For scripts

  var json: JSON {
    .object([
      "worst": .string(diagnosis.worst.rawValue),
      "findings": .array(
        diagnosis.findings.map { finding in
          .object([
            "condition": .string(finding.condition), "device": JSON(finding.device),
            "state": .string(finding.state.rawValue), "evidence": .string(finding.evidence),
            "why": .string(finding.why), "remedy": JSON(finding.remedy),
          ])
        }),
      "not_judged": .array(
        diagnosis.unasked.map { unasked in
          .object(["condition": .string(unasked.condition), "needs": .string(unasked.need.rawValue)])
        }),
    ])
  }
}
