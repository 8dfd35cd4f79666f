// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Migration
import Testing

@testable import Simulation
@testable import vfio_ferry

struct SimulateCommandTests {
  private func output(_ arguments: [String]) throws -> String {
    let collector = Collector()
    try SimulateCommand.parse(arguments).execute(collector.console)
    return collector.out
  }

  @Test(
    "options that contradict each other are misuse, in one clear line",
    arguments: [
      ["--seed", "3", "--seeds", "5"], ["--first", "2"], ["--seeds", "0"], ["--seeds", "2", "--svg", "x"],
      ["--judge-check", "nic"], ["--judge-check", "--seed", "1"], ["--judge-check", "--drain"],
      ["--svg", "-", "--json"], ["--svg", ""], [""], ["--timeouts", "never"],
      ["--seeds", "2", "--first", "18446744073709551615"], ["--nic", "64"],
    ])
  func misuse(arguments: [String]) {
    #expect(throws: (any Error).self) { try SimulateCommand.parse(arguments) }
  }

  @Test("a scenario that is neither built in nor a file is named, with those that are built in")
  func unknown() throws {
    #expect {
      try output(["no-such-thing"])
    } throws: { error in
      guard let failure = error as? CommandFailure else { return false }
      return failure.status == .nothing && failure.message.contains("no-such-thing")
        && failure.message.contains("nic-gpu")
    }
  }

  @Test("a file that is no scenario fails with its name and the line")
  func badFile() throws {
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("scenario-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: file) }
    try Data("nonsense\n".utf8).write(to: file)
    #expect {
      try output([file.path])
    } throws: { error in
      guard let failure = error as? CommandFailure else { return false }
      return failure.status == .failed && failure.message.contains("\(file.lastPathComponent):1")
    }
  }

  @Test("every built-in scenario moves, and the same seed prints the same", arguments: BuiltInWorld.allCases)
  func builtIn(world: BuiltInWorld) throws {
    let text = try output([world.rawValue, "--seed", "5"])
    #expect(text.contains("Moved: the machine runs on the destination."))
    #expect(text.contains("vfio-ferry simulate \(world.rawValue) --seed 5\n"))
    #expect(try output([world.rawValue, "--seed", "5"]) == text)
  }

  @Test("what a campaign says to play again is the run that it played")
  func replay() throws {
    let campaign = SimulationCampaign(
      parts: [SimulationCampaign.Part(name: "nic", world: BuiltInWorld.nic.description)], firstSeed: 1, count: 1,
      changes: SimulateChanges(drains: true))
    let run = campaign.play(seed: 11, Judge())
    let words = SimulateSubject.command("nic", seed: 11, campaign.changes, faults: true).split(separator: " ")
    #expect(words.prefix(2) == ["vfio-ferry", "simulate"])
    let json = try output(words.dropFirst(2).map(String.init) + ["--json"])
    #expect(json.contains("\"run_digest\":\"\(SimulationReport.digest(run.digest))\""))
  }

  @Test("--drain and --timeouts change the world, and nothing else")
  func changes() {
    let world = BuiltInWorld.nic.description
    #expect(SimulateChanges().applied(to: world) == world)
    var expected = world
    expected.quiescing = .drainingMessages
    expected.retransmission.kind = .fixed
    let changes = SimulateChanges(drains: true, timeouts: .fixed)
    #expect(changes.applied(to: world) == expected)
    #expect(changes.arguments == ["--drain", "--timeouts", "fixed"])
  }

  @Test("--svg writes a file that others may read, and the table to standard output; with - the picture alone is there")
  func svg() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("move-\(UUID().uuidString).svg").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    #expect(try output(["nic", "--svg", path]).contains("Digest"))
    #expect(try String(contentsOfFile: path, encoding: .utf8).hasSuffix("</svg>\n"))
    let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    #expect((mode ?? 0) & 0o044 != 0)
    let picture = try output(["nic", "--svg", "-"])
    #expect(picture.hasPrefix("<?xml") && picture.hasSuffix("</svg>\n"))
  }

  // MARK: Campaigns

  @Test("a campaign's tally and digest do not depend on which run ends first")
  func order() {
    let campaign = SimulationCampaign(
      parts: BuiltInWorld.allCases.map { SimulationCampaign.Part(name: $0.rawValue, world: $0.description) },
      firstSeed: 3, count: 4, changes: SimulateChanges())
    let judge = Judge()
    let runs = (0..<4).map { ($0, campaign.play(seed: 3 + UInt64($0), judge)) }
    var (one, other) = (CampaignTally(campaign), CampaignTally(campaign))
    for (number, run) in runs { one.add(run, number: number) }
    for (number, run) in runs.reversed() { other.add(run, number: number) }
    #expect(one.lines == other.lines && one.digest == other.digest)
    var changed = CampaignTally(campaign)
    for (number, run) in runs { changed.add(run, number: 3 - number) }
    #expect(changed.digest != one.digest)
  }

  @Test("a broken rule names scenario, seed and the command that plays it again; only the first ones are listed")
  func broken() {
    let campaign = SimulationCampaign(
      parts: BuiltInWorld.allCases.map { SimulationCampaign.Part(name: $0.rawValue, world: $0.description) },
      firstSeed: 1, count: 40, changes: SimulateChanges())
    var tally = CampaignTally(campaign)
    for number in (0..<40).reversed() {
      let seed = UInt64(number) + 1
      tally.add(
        SimulationCampaign.Run(
          seed: seed, part: campaign.part(of: seed), ending: nil, digest: seed, violation: "page \(seed) differs"),
        number: number)
    }
    #expect(tally.lines.contains("BROKEN: nic-gpu, seed 1: page 1 differs"))
    #expect(tally.lines.contains("  again: vfio-ferry simulate nic-gpu --seed 1 --faults"))
    #expect(tally.lines.contains("and 20 more"))
    #expect(tally.lines.contains { $0.hasSuffix("40 of 40 runs broke a rule.") })
    #expect(tally.json.text(pretty: false).contains(#""broken_runs":40"#))
  }

  @Test("--seeds without a scenario plays all of them in turn")
  func inTurn() throws {
    let text = try output(["--seeds", "4"])
    for world in BuiltInWorld.allCases {
      #expect(
        text.split(separator: "\n").contains { $0.split(separator: " ").prefix(2) == [Substring(world.rawValue), "1"] })
    }
    #expect(text.contains("Seeds 1 to 4, with faults: no rule was broken."))
  }

  @Test("a sabotage that is not found, or a false alarm, is said and is no success")
  func judge() {
    var finding = SimulationJudgeCheck.Finding(sabotage: .droppedPage, world: "nic")
    #expect(!finding.isGood)
    #expect(SimulationJudgeCheck.lines([finding]).contains { $0.contains("NOT FOUND") })
    finding.found = (4, "page 7 differs")
    #expect(finding.isGood)
    #expect(SimulationJudgeCheck.lines([finding]).contains { $0.contains("seed 4") && $0.hasSuffix("page 7 differs") })
    finding.falseAlarm = (2, "page 1 differs")
    #expect(!finding.isGood)
    #expect(SimulationJudgeCheck.lines([finding]).contains { $0.hasPrefix("FALSE ALARM at seed 2 of nic") })
  }
}
