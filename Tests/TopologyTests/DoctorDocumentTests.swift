// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import Topology

@Suite("docs/doctor.md")
struct DoctorDocumentTests {
  /// The rows of its table of conditions, each with what is in its cells.
  private func rows() throws -> [[String]] {
    let file = URL(filePath: #filePath).resolvingSymlinksInPath().deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent().appending(path: "docs/doctor.md")
    return try String(contentsOf: file, encoding: .utf8).split(separator: "\n").filter { $0.hasPrefix("| `") }.map {
      line in
      line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
    }
  }

  @Test(
    "its table has every condition in the order in which they are judged, with why, and what each rests on and needs")
  func conditions() throws {
    let wanted = Condition.all.map { condition in
      [
        "`\(condition.key)`", condition.scope.rawValue, condition.why,
        condition.restsOn.map { "`\($0)`" }.joined(separator: ", "),
        condition.needs.map(\.option).joined(separator: ", "),
      ]
    }
    // An empty cell is only spaces.
    #expect(try rows().map { $0 + [String](repeating: "", count: max(0, 5 - $0.count)) } == wanted)
  }
}

extension Condition.Need {
  /// As the table has it.
  fileprivate var option: String {
    switch self {
    case .guestMemory: "`--guest-memory`"
    case .downtime: "`--downtime`"
    case .devices: "`DEV…`"
    case .connectX: "a ConnectX"
    }
  }
}
