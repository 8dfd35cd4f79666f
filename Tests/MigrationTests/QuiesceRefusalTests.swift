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

  // A search from every device to its end takes many minutes.
  @Test("the circle of hundreds of devices is found among many links that lead nowhere", .timeLimit(.minutes(1)))
  func many() throws {
    let (count, circle) = (600, [590, 595, 599])
    func isLink(_ from: Int, _ to: Int) -> Bool {
      if let place = circle.firstIndex(of: from), circle.contains(to) { return circle[(place + 1) % 3] == to }
      // From the circle to all others, and among those to every later one.
      return circle.contains(from) || (!circle.contains(to) && from < to)
    }
    let there = Reachability.Link(path: .unknown, reason: "", origin: .assumed)
    let none = Reachability.Link(path: .none, reason: "", origin: .assumed)
    let forwards = Reachability(count: count) { isLink($0, $1) ? there : none }
    let devices = (0..<count).map { QuiescePlan.Device(name: "\($0)", features: Plans.without) }
    let refusal = #expect(throws: QuiesceRefusal.self) { try QuiescePlan(devices: devices, reachability: forwards) }
    #expect(refusal?.cycle == circle)
  }

  @Test("the circle is the shortest there is, in any relation, and starts at the first device that is on one so short")
  func shortestOfAny() {
    var seed: UInt64 = 1
    func drawn(_ bound: UInt64) -> UInt64 {
      seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return seed >> 33 % bound
    }
    let count = 7
    for _ in 0..<300 {
      let (density, bits) = (2 + drawn(4), (0..<count * count).map { _ in drawn(10) })
      let there = Reachability.Link(path: .unknown, reason: "", origin: .assumed)
      let none = Reachability.Link(path: .none, reason: "", origin: .assumed)
      let relation = Reachability(count: count) { bits[$0 * count + $1] < density ? there : none }
      // The lengths of the ways from each device, by trying ever longer ones.
      var (length, ends) = (0, (0..<count).map { Set([$0]) })
      var first: Int?
      while first == nil, length < count {
        length += 1
        ends = ends.map { from in Set((0..<count).filter { to in from.contains { relation.reaches($0, to) } }) }
        first = ends.indices.first { ends[$0].contains($0) }
      }
      let devices = (0..<count).map { QuiescePlan.Device(name: "\($0)", features: Plans.without) }
      do throws(QuiesceRefusal) {
        _ = try QuiescePlan(devices: devices, reachability: relation)
        #expect(first == nil)
      } catch {
        #expect(error.cycle.count == length && error.cycle.first == first)
        #expect(error.cycle.indices.allSatisfy { relation.reaches(error.cycle[$0], error.cycle[($0 + 1) % length]) })
      }
    }
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
