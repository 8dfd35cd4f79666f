// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Testing

@testable import vfio_ferry

@Suite("Commands in the documents")
struct DocumentTests {
  /// What stands in the documents for something that a reader has to put there.
  private static let examples = [
    "PID": "4711", "MS": "300", "SIZE": "64G", "N": "7", "RATE": "25G", "START+LENGTH": "0+3G", "FILE.toml": "f.toml",
  ]

  private static func text(_ document: String) throws -> String {
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../docs/\(document).md")
    return try String(contentsOf: file, encoding: .utf8)
  }

  /// The arguments of each command of this program in a line that a shell would be given.
  private static func commands(in line: String) -> [[String]] {
    var line = line
    if line.hasPrefix("# ") { line.removeFirst(2) }
    if let comment = line.range(of: " #") { line = String(line[..<comment.lowerBound]) }
    return line.components(separatedBy: "&&").compactMap { part in
      var words = part.split(separator: " ").map(String.init)
      guard words.first == "vfio-ferry", words.count > 1, !part.contains("["), !words[1].hasPrefix("-") else {
        return nil
      }
      words = words.dropFirst().prefix { $0 != "--" }.filter { $0 != "&" && $0 != "…" && !$0.hasPrefix(">") }
      return words.map { word in
        let plain = word.hasSuffix("…") ? String(word.dropLast()) : word
        return examples[plain] ?? plain
      }
    }
  }

  /// Lines that are indented, as a document shows what is typed.
  private static func typed(_ document: String) throws -> [[String]] {
    try text(document).components(separatedBy: "\n").filter { $0.hasPrefix("    ") }
      .flatMap { commands(in: $0.trimmingCharacters(in: .whitespaces)) }
  }

  @Test(
    "what a reader is to type is what the program takes",
    arguments: [
      ("operators", 11), ("prepare", 2), ("driver-engineers", 6), ("tags", 1), ("retry-budget", 1), ("quiescing", 1),
      ("udev", 1),
    ])
  func typed(document: String, atLeast: Int) throws {
    let commands = try Self.typed(document)
    #expect(commands.count >= atLeast, "\(commands)")
    for command in commands {
      #expect(throws: Never.self, "vfio-ferry \(command.joined(separator: " "))") {
        try VFIOFerry.parseAsRoot(command)
      }
    }
  }

  @Test("commands that an operator is told of in passing are what the program takes", arguments: ["operators", "udev"])
  func told(document: String) throws {
    // Spans between single backquotes are every second part.
    let spans = try Self.text(document).components(separatedBy: "`").enumerated().filter { $0.offset % 2 == 1 }
    let commands = spans.map(\.element).filter { !$0.contains("\n") }.flatMap { Self.commands(in: $0) }
    #expect(!commands.isEmpty)
    // Names and options alone are no command line.
    for command in commands where command.dropFirst().contains(where: { !$0.hasPrefix("-") }) {
      #expect(throws: Never.self, "vfio-ferry \(command.joined(separator: " "))") {
        do {
          _ = try VFIOFerry.parseAsRoot(command)
        } catch  where VFIOFerry.exitCode(for: error) == .success {}
      }
    }
  }
}
