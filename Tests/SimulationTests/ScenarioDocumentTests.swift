// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Simulation

@Suite("What docs/scenario-files.md says")
struct ScenarioDocumentTests {
  @Test("every example of the document is a scenario, and so is each of its lines behind a base")
  func examples() throws {
    let blocks = ScenarioDocuments.blocks(try ScenarioDocuments.format())
    #expect(blocks.count >= 5)
    for block in blocks {
      let file = try ScenarioFile.parse(block, name: "example")
      // What ends a device that hangs for ever has a line of its own.
      for line in block.split(separator: "\n") where !line.hasPrefix("base") && !line.hasSuffix(" hangs") {
        #expect(throws: Never.self, "\(line)") { try ScenarioFile.parse("base nic-gpu\n\(line)", name: "line") }
      }
      let again = "base nic-gpu\n" + file.faultDescriptions.joined(separator: "\n")
      #expect(try ScenarioFile.parse(again, name: "again").faults == file.faults)
    }
  }

  @Test("every key is in the document, with what it may be and its default")
  func keys() throws {
    let lines = try ScenarioDocuments.format().split(separator: "\n")
    let defaults = ScenarioFile(world: BuiltInWorld.nic.description)
    for key in ScenarioKey.all {
      let row = "| `\(key.name)` | \(key.expected) | \(key.text(key.read(defaults))) | "
      #expect(lines.count { $0.hasPrefix(row) } == 1, "\(row)")
    }
    let tables = lines.filter { $0.hasPrefix("| `") && $0.count { $0 == "|" } == 5 }
    #expect(tables.count == ScenarioKey.all.count)
  }

  @Test("every built-in world is in the document")
  func bases() throws {
    let document = try ScenarioDocuments.format()
    for base in BuiltInWorld.allCases {
      #expect(document.contains("| `\(base.rawValue)` | \(base.summary) |"))
    }
  }

  @Test("the examples in docs/scenarios are scenarios that end")
  func files() throws {
    let examples = try ScenarioDocuments.examples()
    #expect(!examples.isEmpty)
    for (name, text) in examples {
      let file = try ScenarioFile.parse(text, name: name)
      #expect(file.world.name != name)
      #expect(!file.faults.isEmpty)
      // The sessions alone, with devices that are nothing but devices.
      var scenario = file.scenario(seed: 1)
      scenario.world = nil
      let (world, summary) = run(scenario)
      #expect(summary.violations == [])
      for side in SimulatedSide.allCases { #expect(world.outcome(of: side) != nil, "\(name)") }
    }
  }

  @Test("files that were damaged by chance are scenarios still, or errors on one line with a number", arguments: 0..<10)
  func damaged(part: Int) throws {
    let good =
      try ScenarioDocuments.blocks(ScenarioDocuments.format()) + ScenarioDocuments.examples().map(\.text)
    var numbers = SeededGenerator(seed: UInt64(part))
    let pieces = good.flatMap { $0.split(whereSeparator: { $0 == " " || $0 == "\n" }) }.map { Array($0.utf8) }
    var taken = 0
    for _ in 0..<300 {
      var bytes = Array(good[numbers.next(below: good.count)].utf8)
      for _ in 0..<(1 + numbers.next(below: 4)) { Self.damage(&bytes, with: pieces, &numbers) }
      let text = String(decoding: bytes, as: UTF8.self)
      do throws(ScenarioFileError) {
        let file = try ScenarioFile.parse(text, name: "damaged")
        taken += 1
        #expect(file.world.problem == nil)
        _ = file.scenario(seed: 1)
      } catch {
        #expect(1...text.split(separator: "\n", omittingEmptySubsequences: false).count + 2 ~= error.line)
        #expect(error.description.hasPrefix("damaged:\(error.line): "))
        #expect(error.description.utf8.allSatisfy { 0x20...0x7e ~= $0 })
        #expect(error.description.utf8.count < 1000)
      }
    }
    // Some damage does not matter, most does.
    #expect(10...200 ~= taken)
  }

  private static func damage(_ bytes: inout [UInt8], with pieces: [[UInt8]], _ numbers: inout SeededGenerator) {
    let place = numbers.next(below: bytes.count + 1)
    switch numbers.next(below: 6) {
    case 0: bytes.insert(UInt8(truncatingIfNeeded: numbers.next()), at: place)
    case 1 where place < bytes.count: bytes[place] = UInt8(truncatingIfNeeded: numbers.next())
    case 2: bytes.removeSubrange(place..<min(bytes.count, place + numbers.next(below: 8)))
    case 3: bytes.insert(contentsOf: pieces[numbers.next(below: pieces.count)], at: place)
    case 4: bytes.insert(contentsOf: Array("99999999999999999999".utf8.prefix(numbers.next(below: 21))), at: place)
    default:
      // A word for another word.
      let end = bytes[place...].firstIndex { $0 == 32 || $0 == 10 } ?? bytes.count
      bytes.replaceSubrange(place..<end, with: pieces[numbers.next(below: pieces.count)])
    }
  }
}
