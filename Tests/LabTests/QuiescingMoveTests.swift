// SPDX-License-Identifier: Apache-2.0
import Engine
import Migration
import Synchronization
import Testing

extension LabTests {
  /// Groups of every kind that a plan allows, talking all the while: the referee sees nothing that must not be.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct QuiescingMoveTests {
    private static let rounds = 10

    @Test(
      "a group is saved and loaded into another again and again: no violation, no write lost, none doubled",
      arguments: GroupShape.kinds)
    func moves(shape: GroupShape) throws {
      let here = try HeldGroup("here", shape)
      defer { here.remove() }
      let there = try HeldGroup("there", shape, isActive: false)
      defer { there.remove() }
      var sides = (from: here, to: there)
      for round in 1...Self.rounds {
        let stream = try sides.from.saved()
        let loaded = try sides.to.run(try sides.to.loadSession(), stream).outcome
        try #require(loaded.fault == nil, "round \(round): \(loaded)")
        try #require(try here.isRunning && there.isRunning, "round \(round)")
        try sides.from.checkWrites("round \(round), saved from")
        try sides.to.checkWrites("round \(round), loaded into")
        for device in sides.to.peers.devices {
          let referee = try device.referee
          #expect(referee["loads_verified"] == (round + 1) / 2 && referee["peer_new_links"] == 0, "round \(round)")
        }
        sides = (sides.to, sides.from)
      }
    }

    @Test("each device makes the arcs of its plan and no others", arguments: GroupShape.kinds)
    func arcs(shape: GroupShape) throws {
      let group = try HeldGroup("arcs", shape)
      defer { group.remove() }
      let stream = try Stream()
      let saved = try group.run(try group.saveSession(), stream).session
      try check(saved.steps, .save(group.plan), group)
      try group.peers.resetReferees()
      let loaded = try group.run(try group.loadSession(), stream).session
      try check(loaded.steps, .load(group.plan), group)
    }

    private func check(_ reports: [StepReport], _ way: ExpectedWay, _ group: HeldGroup) throws {
      #expect(reports.map(\.step) == way.steps.map(\.step))
      for (report, step) in zip(reports, way.steps) {
        let arcs = report.arcs.map { ExpectedWay.Arc(device: $0.device, from: $0.from ?? .error, to: $0.to) }
        #expect(Set(arcs) == Set(step.arcs) && arcs.count == step.arcs.count, "\(report.step)")
      }
      for (index, device) in group.peers.devices.enumerated() {
        let expected = way.arcs.filter { $0.arc.device == index }.count
        #expect(try device.referee["arcs"] == expected, "device \(index)")
      }
    }

    @Test(
      "a save that is interrupted after any of its steps takes the group back in order", arguments: GroupShape.kinds)
    func goesBack(shape: GroupShape) throws {
      let group = try HeldGroup("back", shape)
      defer { group.remove() }
      for (number, step) in ExpectedWay.save(group.plan).steps.enumerated() {
        let ended = Mutex(0)
        let outcome = try group.run(try group.saveSession(), try Stream()) { runner, note in
          guard case .stepEnded = note else { return }
          let before = ended.withLock { ended in
            defer { ended += 1 }
            return ended
          }
          if before == number { runner.interrupt(reason: "the test") }
        }.outcome
        // On the way to running there is nothing to take back.
        if case .start = step.step {
          #expect(outcome.fault == nil, "\(step.step)")
        } else {
          #expect(outcome.fault == .interrupted("the test"), "\(step.step)")
        }
        #expect(try group.isRunning && outcome.cleanupFaults.isEmpty, "\(step.step)")
        try group.check(outcome, "after \(step.step)")
        try group.checkWrites("after \(step.step)")
      }
    }

    @Test("the commands move such groups too, told which links do not exist", arguments: [1, 3])
    func commands(kind: Int) throws {
      let shape = GroupShape.mixed(.all)[kind]
      let here = try PeerGroup("here", shape, ["arc_time": "all 200", "state_rate": "500"])
      defer { here.remove() }
      let there = try PeerGroup("there", shape, ["arc_time": "all 200", "state_rate": "500"])
      defer { there.remove() }
      try here.open(activity: "peers state")
      try there.open()
      try here.getAcquainted()
      try there.resetReferees()
      var sides = (from: here, to: there)
      for round in 1...2 {
        try sides.from.move(to: sides.to)
        try sides.to.waitUntilReceived(10)
        for device in here.devices + there.devices {
          let referee = try device.referee
          #expect(referee.complaints == [] && referee["peer_new_links"] == 0, "round \(round), \(device.name)")
        }
        sides = (sides.to, sides.from)
      }
    }
  }
}
