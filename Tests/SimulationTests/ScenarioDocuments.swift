// SPDX-License-Identifier: Apache-2.0
import Foundation

/// Files of `docs`, as tests read them.
enum ScenarioDocuments {
  private static let folder = URL(filePath: #filePath).resolvingSymlinksInPath()
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().appending(path: "docs")

  static func format() throws -> String {
    try String(contentsOf: folder.appending(path: "scenario-files.md"), encoding: .utf8)
  }

  /// Name and text of each example file, in the order of their names.
  static func examples() throws -> [(name: String, text: String)] {
    let examples = folder.appending(path: "scenarios")
    return try FileManager.default.contentsOfDirectory(atPath: examples.path).sorted().map {
      ($0, try String(contentsOf: examples.appending(path: $0), encoding: .utf8))
    }
  }

  /// What is in the blocks of code of a document, in their order.
  static func blocks(_ document: String) -> [String] {
    document.components(separatedBy: "```").enumerated().filter { $0.offset % 2 == 1 }.map { block in
      // The first line is the block's language.
      block.element.components(separatedBy: "\n").dropFirst().joined(separator: "\n")
    }
  }
}
