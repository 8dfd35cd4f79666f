// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@Suite("Groups that no order stops")
struct QuiesceRefusalTests {
  typealias Plans = QuiescePlanTests

  static func accepts(_ features: [MigrationFeatures], _ reachability: Reachability) -> Bool {
    (try? QuiescePlan(devices: Plans.devices(features), reachability: reachability)) != nil
  }

  @Test("one device without P2P states is taken into any group, two that reach each other are refused")
  func refusals() {
    let (with, without) = (Plans.withP2P, Plans.without)
    #expect(Plans.refusal([without], []) == nil)
    #expect(Plans.refusal([without, with, with], ["ab", "ba", "ac", "ca", "bc", "cb"]) == nil)
    #expect(Plans.refusal([without, without], ["ab"]) == nil)
    #expect(Plans.refusal([without, without], ["ab", "ba"])?.cycle == [0, 1])
    // Through a device with P2P states there is no circle: it passes nothing on once it is in one.
    #expect(Plans.refusal([without, with, without], ["ab", "bc", "ca"]) == nil)
  }

  @Test("devices of which nothing is known are taken to reach each other")
  func assumed() {
    #expect(!Self.accepts([Plans.without, Plans.without], .assumed(count: 2)))
    #expect(Self.accepts([Plans.without, Plans.withP2P], .assumed(count: 2)))
  }

  @Test("the shortest circle is named, in its direction, with each link and its way")
  func shortest() throws {
    let six = [MigrationFeatures](repeating: Plans.without, count: 6)
    let refusal = try #require(Plans.refusal(six, ["ab", "bc", "cd", "da", "ef", "fe"]))
    #expect(refusal.cycle == [4, 5])
    #expect(refusal.links.map(\.from) == ["e", "f"])
    #expect(refusal.links.map(\.to) == ["f", "e"])
    let long = try #require(Plans.refusal(six, ["ab", "bd", "dc", "ca", "ef"]))
    #expect(long.cycle == [0, 1, 3, 2])
    #expect(long.links.map(\.link.reason) == [String](repeating: "both are below it", count: 4))
  }

  @Test("a refusal is one line that says who, by which way and what would help")
  func description() throws {
    let refusal = try #require(Plans.refusal([Plans.without, Plans.without], ["ab", "ba"]))
    let said = refusal.description
    #expect(said.hasPrefix("no order stops a and b consistently, because they have no P2P states: "))
    #expect(said.contains("a can start transfers to b (direct at 0000:03:00.0: both are below it); b can start"))
    #expect(said.contains("declared not to exist would allow it"))
    #expect(!said.contains("\n"))
  }

  @Test("a link that is declared not to exist allows a group, and one that is declared to exist can refuse it")
  func declared() throws {
    let two = [Plans.without, Plans.without]
    var reachability = Plans.reachability(2, ["ab", "ba"])
    #expect(!Self.accepts(two, reachability))
    reachability.declare(from: 1, to: 0, exists: false, by: "the operator")
    let plan = try QuiescePlan(devices: Plans.devices(two), reachability: reachability)
    #expect(plan.levels == [0, 1])
    reachability.declare(from: 1, to: 0, exists: true, by: "the VMM")
    #expect(!Self.accepts(two, reachability))
  }

  @Test("a declared link keeps the way that was observed, and says who declared it")
  func declaredPath() {
    var reachability = Plans.reachability(2, ["ab"])
    reachability.declare(from: 0, to: 1, exists: true, by: "the VMM")
    #expect(reachability[0, 1].path == .direct(at: "0000:03:00.0"))
    #expect(reachability[0, 1].origin == .declared(by: "the VMM"))
    #expect(reachability[0, 1].reason == "the VMM says that it does")
    // Where none was observed, nobody knows by which way.
    reachability.declare(from: 1, to: 0, exists: true, by: "the VMM")
    #expect(reachability[1, 0].path == .unknown)
    reachability.declare(from: 0, to: 1, exists: false, by: "the operator")
    #expect(!reachability.reaches(0, 1))
    #expect(reachability[0, 1].reason == "the operator says that it never does")
  }

  @Test("a device is no peer of itself, whatever is declared")
  func itself() {
    var reachability = Reachability.assumed(count: 2)
    reachability.declare(from: 1, to: 1, exists: true, by: "the VMM")
    #expect(!reachability.reaches(1, 1))
    #expect(reachability[1, 1].origin == .observed)
  }
}
