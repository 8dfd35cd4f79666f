// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@Suite("The plan of quiescing")
struct QuiescePlanTests {
  static let withP2P: MigrationFeatures = [.stopCopy, .p2p, .preCopy]
  static let without: MigrationFeatures = [.stopCopy, .preCopy]

  /// A plan for devices a, b, c… with the links of the list, "ab" being one from a to b.
  static func plan(_ features: [MigrationFeatures], _ links: [String]) throws(QuiesceRefusal) -> QuiescePlan {
    try QuiescePlan(devices: devices(features), reachability: reachability(features.count, links))
  }

  static func devices(_ features: [MigrationFeatures]) -> [QuiescePlan.Device] {
    features.indices.map { QuiescePlan.Device(name: name($0), features: features[$0]) }
  }

  static func reachability(_ count: Int, _ links: [String]) -> Reachability {
    Reachability(count: count) { from, to in
      let exists = links.contains(name(from) + name(to))
      return Reachability.Link(
        path: exists ? .direct(at: "0000:03:00.0") : .none, reason: exists ? "both are below it" : "ACS blocks it",
        origin: .observed)
    }
  }

  static func name(_ device: Int) -> String { ["a", "b", "c", "d", "e", "f"][device] }

  static func refusal(_ features: [MigrationFeatures], _ links: [String]) -> QuiesceRefusal? {
    do {
      _ = try plan(features, links)
      return nil
    } catch {
      return error
    }
  }

  // MARK: Domains and levels

  @Test("devices that are linked, directly or through others, are one domain")
  func domains() throws {
    let six = [MigrationFeatures](repeating: Self.withP2P, count: 6)
    #expect(try Self.plan([], []).domains == [])
    #expect(try Self.plan([Self.without], []).domains == [[0]])
    #expect(try Self.plan(six, []).domains == [[0], [1], [2], [3], [4], [5]])
    // One direction is enough, and a third device that both reach joins two that don't reach each other.
    #expect(try Self.plan(six, ["ad", "ed"]).domains == [[0, 3, 4], [1], [2], [5]])
    #expect(try Self.plan(six, ["fa", "db", "cd"]).domains == [[0, 5], [1, 2, 3], [4]])
  }

  @Test("domains are the same in whatever order the links are declared")
  func domainsDoNotDependOnOrder() throws {
    let links: [(Int, Int)] = [(5, 1), (1, 4), (0, 2)]
    let all = [links, links.reversed(), [links[1], links[0], links[2]]].map { links in
      var reachability = Self.reachability(6, [])
      for (from, to) in links { reachability.declare(from: from, to: to, exists: true, by: "the VMM") }
      return reachability
    }
    let devices = Self.devices([MigrationFeatures](repeating: Self.without, count: 6))
    for reachability in all {
      let plan = try QuiescePlan(devices: devices, reachability: reachability)
      #expect(plan.domains == [[0, 2], [1, 4, 5], [3]])
      #expect(plan.levels == [0, 1, 1, 0, 2, 0])
    }
  }

  @Test("a device without P2P states stops after all that start transfers to it")
  func levels() throws {
    let three = [MigrationFeatures](repeating: Self.without, count: 3)
    let four = [MigrationFeatures](repeating: Self.without, count: 4)
    #expect(try Self.plan(three, ["ab", "bc"]).levels == [0, 1, 2])
    #expect(try Self.plan(three, ["cb", "ba"]).levels == [2, 1, 0])
    // A diamond, and one with a short cut.
    #expect(try Self.plan(four, ["ab", "ac", "bd", "cd"]).levels == [0, 1, 1, 2])
    #expect(try Self.plan(four, ["ab", "bc", "cd", "ad", "ac"]).levels == [0, 1, 2, 3])
    #expect(try Self.plan(four, []).levels == [0, 0, 0, 0])
  }

  @Test("devices with P2P states have no level, and links with them make none")
  func noLevel() throws {
    let plan = try Self.plan([Self.without, Self.withP2P, Self.without], ["ab", "ba", "bc", "cb"])
    #expect(plan.levels == [0, nil, 0])
    #expect(plan.levelCount == 1)
    #expect(plan.domains == [[0, 1, 2]])
    #expect(try Self.plan([Self.withP2P, Self.withP2P], ["ab", "ba"]).levelCount == 0)
  }

  // MARK: Steps

  @Test("the steps to running are those to a stop in reverse, once the data sessions have ended")
  func mirrored() throws {
    let chain = ["ab", "bc", "cd"]
    for count in 0...4 {
      let plan = try Self.plan([MigrationFeatures](repeating: Self.without, count: count) + [Self.withP2P], chain)
      let mirrored = plan.startSteps.dropFirst().reversed().map { step -> QuiescePlan.StopStep? in
        switch step {
        case .leaveData: nil
        case .answerPeers: .stopAll
        case .startOthers(let level): .stopOthers(level: level)
        case .startAll: .endPeerTransfers
        }
      }
      #expect(plan.startSteps.first == .leaveData)
      #expect(mirrored == plan.stopSteps)
      #expect(plan.stopSteps.count == count + 2)
    }
  }

  static func stops(_ features: MigrationFeatures, from start: MigrationState, goal: MigrationState) throws
    -> [MigrationState?]
  {
    // With one of the other kind beside it, so that every kind of step exists.
    let plan = try plan([features, without], [])
    var state = start
    return plan.stopSteps.map { step in
      let target = plan.target(step, device: 0, from: state, goal: goal)
      state = target ?? state
      return target
    }
  }

  static func starts(_ features: MigrationFeatures, from start: MigrationState, goal: MigrationState) throws
    -> [MigrationState?]
  {
    let plan = try plan([features, without], [])
    var state = start
    return plan.startSteps.map { step in
      let target = plan.target(step, device: 0, from: state, goal: goal)
      state = target ?? state
      return target
    }
  }

  @Test("a device with P2P states enters one first and stops last")
  func stopWithP2P() throws {
    #expect(try Self.stops(Self.withP2P, from: .running, goal: .stopCopy) == [.runningP2P, nil, .stopCopy])
    #expect(try Self.stops(Self.withP2P, from: .preCopy, goal: .stopCopy) == [.preCopyP2P, nil, .stopCopy])
    #expect(try Self.stops(Self.withP2P, from: .runningP2P, goal: .resuming) == [nil, nil, .resuming])
    #expect(try Self.stops(Self.withP2P, from: .stop, goal: .stop) == [nil, nil, nil])
  }

  @Test("a device without P2P states stops in between, and keeps its data session where it has one")
  func stopWithout() throws {
    #expect(try Self.stops(Self.without, from: .running, goal: .stopCopy) == [nil, .stop, .stopCopy])
    #expect(try Self.stops(Self.without, from: .preCopy, goal: .stopCopy) == [nil, .stopCopy, nil])
    #expect(try Self.stops(Self.without, from: .preCopy, goal: .resuming) == [nil, .stop, .resuming])
    #expect(try Self.stops(Self.without, from: .stop, goal: .stopCopy) == [nil, nil, .stopCopy])
  }

  @Test("a device without P2P states moves in the round of its level only")
  func rounds() throws {
    let plan = try Self.plan([Self.without, Self.without], ["ba"])
    let stopping = plan.stopSteps.map { plan.target($0, device: 0, from: .running, goal: .stop) }
    #expect(plan.stopSteps == [.endPeerTransfers, .stopOthers(level: 0), .stopOthers(level: 1), .stopAll])
    #expect(stopping == [nil, nil, .stop, .stop])
    let starting = plan.startSteps.map { plan.target($0, device: 0, from: .stop, goal: .running) }
    #expect(starting == [nil, nil, .running, nil, .running])
  }

  @Test("starting runs in reverse")
  func start() throws {
    #expect(try Self.starts(Self.withP2P, from: .stopCopy, goal: .running) == [.stop, .runningP2P, nil, .running])
    #expect(try Self.starts(Self.withP2P, from: .preCopyP2P, goal: .running) == [nil, .runningP2P, nil, .running])
    #expect(try Self.starts(Self.withP2P, from: .stopCopy, goal: .runningP2P) == [.stop, .runningP2P, nil, nil])
    #expect(try Self.starts(Self.withP2P, from: .stopCopy, goal: .stop) == [.stop, nil, nil, nil])
    #expect(try Self.starts(Self.without, from: .resuming, goal: .running) == [.stop, nil, .running, nil])
    #expect(try Self.starts(Self.without, from: .preCopy, goal: .running) == [nil, nil, .running, nil])
  }

  @Test("every step can be walked in every graph, from wherever a device may be")
  func alwaysPossible() throws {
    for features in MigrationFeatures.definedCombinations {
      let graph = StateGraph(features: features)
      let plan = try Self.plan([features, Self.without], [])
      for state in graph.states where state != .error && state != .resuming {
        for goal in [MigrationState.stop, .stopCopy, .resuming] {
          for step in plan.stopSteps where goal != .stop || !state.isSaving {
            guard let target = plan.target(step, device: 0, from: state, goal: goal) else { continue }
            #expect(graph.allows(from: state, to: target), "\(state) to \(target)")
          }
        }
        for goal in [MigrationState.stop, .running, .runningP2P] where graph.contains(goal) {
          for step in plan.startSteps {
            guard let target = plan.target(step, device: 0, from: state, goal: goal) else { continue }
            #expect(graph.allows(from: state, to: target), "\(state) to \(target)")
          }
        }
      }
    }
  }
}
