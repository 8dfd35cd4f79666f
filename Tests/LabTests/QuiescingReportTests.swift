// SPDX-License-Identifier: Apache-2.0
import Engine
import Migration
import Testing

extension LabTests {
  /// What a session tells of its steps, on a kernel that knows better; and that it begins none too early.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct QuiescingReportTests {
    private func checkTimes(_ reports: [StepReport]) {
      for report in reports {
        #expect(report.began <= report.ended, "\(report.step)")
        #expect(report.skew <= report.ended.microseconds(since: report.began), "\(report.step)")
        for arc in report.arcs {
          #expect(report.began <= arc.times.began && arc.times.began <= arc.times.ended, "\(report.step)")
          #expect(arc.times.ended <= report.ended, "\(report.step)")
        }
      }
      for (step, next) in zip(reports, reports.dropFirst()) { #expect(step.ended <= next.began, "\(next.step)") }
    }

    @Test("steps are reported in the plan's order, one after the other, with every arc inside its step's time")
    func steps() throws {
      let group = try HeldGroup("reports", .ring(2))
      defer { group.remove() }
      let session = try group.run(try group.saveSession(), try Stream()).session
      #expect(session.steps.map(\.step) == ExpectedWay.save(group.plan).steps.map(\.step))
      #expect(session.steps.allSatisfy { !$0.isWayBack })
      checkTimes(session.steps)
      let took = try #require(session.stopEnded).microseconds(since: try #require(session.stopBegan))
      #expect(session.steps.dropFirst().allSatisfy { $0.ended.microseconds(since: $0.began) <= took })
    }

    @Test("a device whose arcs take 150 ms arrives at least 20 ms after one whose arcs take no time")
    func skew() throws {
      let group = try HeldGroup("skewed", .ring(2), ["state_rate": "0"])
      defer { group.remove() }
      try group.peers.devices[0].set("arc_time", "all 150000")
      let session = try group.run(try group.saveSession(), try Stream()).session
      checkTimes(session.steps)
      for report in session.steps {
        #expect(report.skew >= 20_000, "\(report.step)")
        for arc in report.arcs where arc.device == 0 { #expect(arc.times.microseconds >= 30_000, "\(report.step)") }
      }
    }

    @Test(
      "an arc that fails is reported with its errno, in a step that was broken off; the way back says that it is one")
    func failure() throws {
      let group = try HeldGroup("reports", .ring(2))
      defer { group.remove() }
      try group.peers.devices[1].set("arc_fail", "pre-copy-p2p:stop-copy 1 16 here")
      let session = try group.run(try group.saveSession(), try Stream()).session
      checkTimes(session.steps)
      let failed = session.steps.flatMap { report in report.arcs.filter { $0.error != nil }.map { (report, $0) } }
      try #require(failed.count == 1)
      let (report, arc) = failed[0]
      #expect(report.step == .stop(.stopAll) && !report.isWayBack)
      #expect(arc.device == 1 && arc.from == .preCopyP2P && arc.to == .stopCopy)
      #expect(arc.error == DeviceError(.setState(.stopCopy), .errno(.busy)))
      let index = try #require(session.steps.firstIndex(of: report))
      #expect(session.steps[...index].allSatisfy { !$0.isWayBack })
      #expect(!session.steps[(index + 1)...].isEmpty && session.steps[(index + 1)...].allSatisfy(\.isWayBack))
    }

    // MARK: vCPUs

    @Test("no device goes to a P2P state before the vCPUs have stopped", arguments: GroupShape.PreCopy.allCases)
    func waitsForVCPUs(preCopy: GroupShape.PreCopy) throws {
      let group = try HeldGroup("waits", GroupShape.mixed(preCopy)[0])
      defer { group.remove() }
      let save = try group.saveSession { $0.quiescing.vcpusAreStopped = false }
      let session = try SessionUnderWay(save, group, try Stream())
      #expect(session.asksForVCPUs())
      session.settle()
      let expected: [MigrationState] = group.peers.shape.features.map { $0.contains(.preCopy) ? .preCopy : .running }
      #expect(try group.states() == expected)
      session.tellVCPUsStopped()
      let outcome = try #require(session.end()?.outcome)
      #expect(try outcome.fault == nil && group.isRunning)
      try group.check(outcome, "told that the vCPUs stopped")
      try group.checkWrites("told that the vCPUs stopped")
    }

    @Test("interrupted while it waits for the vCPUs, a save takes the group out of pre-copy")
    func interruptedMeanwhile() throws {
      let group = try HeldGroup("waits", GroupShape.mixed(.all)[0])
      defer { group.remove() }
      let save = try group.saveSession { $0.quiescing.vcpusAreStopped = false }
      let session = try SessionUnderWay(save, group, try Stream())
      #expect(session.asksForVCPUs())
      session.interrupt()
      let ended = try #require(session.end())
      let outcome = try #require(ended.outcome)
      #expect(try outcome.fault == .interrupted("the test") && group.isRunning)
      #expect(ended.steps.allSatisfy { if case .stop = $0.step { false } else { true } })
      try group.check(outcome, "interrupted")
      try group.checkWrites("interrupted")
    }

    @Test("a load waits for the vCPUs with its devices untouched")
    func loadWaits() throws {
      let group = try HeldGroup("waits", .ring(2))
      defer { group.remove() }
      let stream = try group.saved()
      try group.peers.resetReferees()
      let load = try group.loadSession { $0.quiescing.vcpusAreStopped = false }
      let session = try SessionUnderWay(load, group, stream)
      #expect(session.asksForVCPUs())
      session.settle()
      #expect(try group.isRunning)
      #expect(try group.peers.referees().allSatisfy { $0["arcs"] == 0 })
      session.tellVCPUsStopped()
      let outcome = try #require(session.end()?.outcome)
      #expect(try outcome.fault == nil && group.isRunning)
    }
  }
}
