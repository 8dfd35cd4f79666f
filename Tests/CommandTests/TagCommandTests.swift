// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Migration
import Testing
import Topology
import TopologyFixtures

@testable import vfio_ferry

struct TagCommandTests {
  private let host: FixtureHost
  private let files: URL

  init() throws {
    host = try TopologyBench.small().host
    files = host.folder.appendingPathComponent("tags")
    try host.make("tags")
  }

  /// Writes a tag into a file of that name.
  private func file(_ name: String, _ lines: String...) throws -> String {
    let path = files.appendingPathComponent(name).path
    try Data((["vfio-ferry-tag 1"] + lines).map { $0 + "\n" }.joined().utf8).write(to: URL(fileURLWithPath: path))
    return path
  }

  private func run(_ arguments: [String]) throws -> (out: String, failure: CommandFailure?) {
    let collector = Collector()
    do {
      try TagCommand.parse(arguments).execute(
        collector.console, access: DeviceAccess(inventory: Inventory(root: host.root)),
        scanner: TagScanner(root: host.root))
    } catch let failure as CommandFailure {
      return (collector.out, failure)
    }
    return (collector.out, nil)
  }

  @Test("a device's tag is printed as a file of it is, and compares equal to that file")
  func device() throws {
    let printed = try run(["04:00.1"])
    #expect(printed.failure == nil)
    #expect(printed.out.hasPrefix("vfio-ferry-tag 1\nbars 0:2097152p\n"), "\(printed.out)")
    let path = files.appendingPathComponent("kept").path
    try Data(printed.out.utf8).write(to: URL(fileURLWithPath: path))
    for policy in ["strict", "loose"] {
      let compared = try run(["--compare", "--policy", policy, path, "04:00.1"])
      #expect(compared.failure == nil && compared.out.hasSuffix("match (\(policy) policy)\n"), "\(compared)")
    }
  }

  @Test("a difference is shown with who refuses it, and refuses with the reason and exit status 3")
  func difference() throws {
    let a = try file("a", "driver d", "firmware 2.0", "kernel 6.1")
    let b = try file("b", "driver d", "firmware 1.9", "kernel 6.2")
    let loose = try run(["--compare", a, b])
    #expect(
      loose.out == """
        FIELD     DESTINATION  REFUSED BY     SOURCE HAS  DESTINATION HAS
        driver    equal        -              d           the same
        kernel    newer        strict         6.1         6.2
        firmware  older        strict, loose  2.0         1.9

        """)
    #expect(
      loose.failure
        == .refused("no match (loose policy): firmware is older: 2.0 on the source, 1.9 on the destination"))
    let strict = try run(["--compare", "--policy", "strict", b, a])
    #expect(strict.failure?.status == .refused && strict.failure?.message.contains("kernel is older") == true)
    #expect(try run(["--compare", b, a]).failure == nil)
    #expect(try run(["--compare", "--policy", "none", a, b]).failure == nil)
  }

  @Test("other rules of the switch are warned of and match, and refuse under the strict policy")
  func rules() throws {
    let a = try file("a", "driver d", "eswitch_rules 3 (7f3a91c2d0e4b6aa)")
    let b = try file("b", "driver d", "eswitch_rules 2 (0123456789abcdef)")
    let words =
      "eswitch_rules is different: 3 (7f3a91c2d0e4b6aa) on the source, 2 (0123456789abcdef) on the destination"
    let collector = Collector()
    try TagCommand.parse(["--compare", a, b]).execute(
      collector.console, access: DeviceAccess(inventory: Inventory(root: host.root)),
      scanner: TagScanner(root: host.root))
    #expect(collector.err == "warning: \(words)\n" && collector.out.hasSuffix("match (loose policy)\n"))
    let strict = try run(["--compare", "--policy", "strict", a, b])
    #expect(strict.failure == .refused("no match (strict policy): \(words)"))
  }

  @Test("as JSON a comparison has the verdicts of both policies, and a tag its fields")
  func json() throws {
    let a = try file("a", "firmware 2.0")
    let b = try file("b", "firmware 1.9")
    let compared = try run(["--compare", "-j", a, b])
    #expect(
      compared.out == #"{"policy":"loose","match":false,"fields":[{"field":"firmware","relation":"older","#
        + #""refuses_strict":true,"refuses_loose":true,"warns":false,"source":"2.0","destination":"1.9"}]}"# + "\n")
    #expect(compared.failure?.status == .refused)
    let tag = try run(["-j", "03:00.0"])
    #expect(tag.out.hasPrefix(#"{"name":"03:00.0","tag_version":1,"fields":{"bars":"0:16777216p","#), "\(tag.out)")
  }

  @Test("a file that is no tag fails with the reason; one that is not there, and no such device, are exit status 4")
  func failures() throws {
    let good = try file("good")
    let bad = try file("bad", "Driver d")
    let newer = files.appendingPathComponent("newer").path
    try Data("vfio-ferry-tag 2\n".utf8).write(to: URL(fileURLWithPath: newer))
    let large = files.appendingPathComponent("large").path
    try Data(repeating: 10, count: 1 << 20).write(to: URL(fileURLWithPath: large))
    for (path, words) in [(bad, "line 2"), (newer, "version 2"), (large, "larger"), (files.path, "regular file")] {
      let failure = try run(["--compare", good, path]).failure
      #expect(failure?.status == .failed && failure?.message.contains(words) == true, "\(path): \(failure as Any)")
    }
    #expect(try run(["--compare", good, "\(good)-not"]).failure?.status == .nothing)
    #expect(try run(["0000:ff:1f.7"]).failure?.status == .nothing)
    #expect(try run([good]).failure?.status == .misuse)
  }

  @Test(
    "what makes no sense is misuse",
    arguments: [
      [], ["a", "b"], ["--compare", "a"], ["--policy", "loose", "a"], ["--compare", "--policy", "lax", "a", "b"],
    ])
  func misuse(arguments: [String]) {
    #expect(throws: (any Error).self) { try TagCommand.parse(arguments) }
  }
}
