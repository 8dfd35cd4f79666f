// SPDX-License-Identifier: Apache-2.0
import Engine
import Migration
import Testing

extension LabTests {
  /// Each arc of each device hangs once. Until it answers, or is declared dead, nobody starts transfers to it.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct QuiescingHangTests {
    /// What becomes of the device that hangs.
    enum End: CaseIterable, CustomTestStringConvertible {
      case answers, isDeclaredDead

      var testDescription: String { self == .answers ? "it answers" : "it is declared dead" }
    }

    /// Waits until the others are where the step ends for them, and the device is reported.
    private func waitUntilHung<Machine>(
      _ arc: ExpectedWay.Arc, in step: ExpectedWay.Step, _ session: SessionUnderWay<Machine>, _ group: HeldGroup
    ) throws {
      let request = ControlRequest.setState(arc.to)
      let note = session.note { note in
        if case .hung(arc.device, request, _) = note { return true }
        return false
      }
      guard case .hung(_, _, let microseconds) = note else {
        Issue.record("device \(arc.device) was not reported")
        return
      }
      #expect(microseconds > 0)
      // Another device may be slow, on a machine that has other things to do.
      try Lab.wait(until: "the others ended the step") { try othersAre(in: step, but: arc.device, group) }
    }

    private func othersAre(in step: ExpectedWay.Step, but hung: Int, _ group: HeldGroup) throws -> Bool {
      try group.peers.devices.indices.allSatisfy { index in
        try index == hung || group.peers.devices[index].state == step.states[index]
      }
    }

    private func sweep<Machine: SessionMachine>(
      _ way: ExpectedWay, _ group: HeldGroup, _ stream: Stream, _ end: End, _ session: () throws -> Machine
    ) throws {
      for (step, arc) in way.arcs {
        let place: Comment = "device \(arc.device), \(arc.from) to \(arc.to) in \(step.step)"
        let synthetic = group.peers.devices[arc.device]
        try group.peers.resetReferees()
        try synthetic.set("arc_hang", "\(arc.from):\(arc.to) 1")
        let session = try SessionUnderWay(try session(), group, stream)
        defer { try? synthetic.set("release", "1") }
        try waitUntilHung(arc, in: step, session, group)
        let isOnItsWayBack = if case .start = step.step { true } else { false }
        switch end {
        case .answers:
          // Somebody loses patience, once: the session waits all the same.
          session.interrupt()
          session.settle()
          #expect(try othersAre(in: step, but: arc.device, group), place)
          try synthetic.set("release", "1")
          let outcome = try #require(session.end()?.outcome)
          #expect(try group.isRunning && outcome.cleanupFaults.isEmpty, place)
          try group.check(outcome, place)
          if !isOnItsWayBack { #expect(outcome.fault == .interrupted("the test"), place) }
          for (index, device) in outcome.devices.enumerated() {
            #expect(!device.isHung, place)
            if device.wasReset { try group.start(index) }
          }
          try group.checkWrites(place)
        case .isDeclaredDead:
          session.declareDead(arc.device)
          let outcome = try #require(session.end()?.outcome)
          #expect(outcome.fault == .declaredDead(arc.device), place)
          for (index, device) in outcome.devices.enumerated() {
            #expect(device.isHung == (index == arc.device), place)
            if index == arc.device { continue }
            #expect(try group.peers.devices[index].state == .running, "device \(index), \(place)")
          }
          // What arrives at a device that was given up is nobody's fault any more.
          try group.check(outcome, place)
          try synthetic.set("release", "1")
          // Answered once the arc has ended.
          _ = try synthetic.state
          for (index, device) in outcome.devices.enumerated() {
            if device.isHung { try group.restart(index) } else if device.wasReset { try group.start(index) }
          }
          try group.peers.waitUntilReceived(5)
        }
      }
    }

    /// One of three has no P2P states.
    private func withGroup(_ body: (HeldGroup) throws -> Void) throws {
      let group = try HeldGroup("hangs", GroupShape.mixed(.all)[0], ["state_rate": "500"])
      defer { group.remove() }
      try body(group)
    }

    @Test("any arc of a save hangs: it is reported, and nobody goes on to run until", arguments: End.allCases)
    func save(end: End) throws {
      try withGroup { group in
        let stream = try Stream()
        try sweep(.save(group.plan), group, stream, end) {
          try group.saveSession { $0.quiescing.stepLimit = 50_000 }
        }
      }
    }

    @Test("any arc of a load hangs: it is reported, and nobody goes on to run until", arguments: End.allCases)
    func load(end: End) throws {
      try withGroup { group in
        let stream = try group.saved()
        try sweep(.load(group.plan), group, stream, end) {
          try group.loadSession { $0.quiescing.stepLimit = 50_000 }
        }
      }
    }
  }
}
