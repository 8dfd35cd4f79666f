// SPDX-License-Identifier: Apache-2.0
import Engine
import Migration
import Testing

extension LabTests {
  /// Each arc of each device of a group fails once, and leaves the device where it likes: whatever the report then says
  /// is so, and nothing was written to a device that was stopped.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct QuiescingFailureTests {
    typealias Leaves = FailureTests.Leaves

    /// One arc that is to fail.
    private struct Case {
      let arc: ExpectedWay.Arc
      let leaves: Leaves
      let resetAllowed: Bool

      var place: Comment {
        "device \(arc.device), \(arc.from) to \(arc.to), left \(leaves)\(resetAllowed ? ", may be reset" : "")"
      }
    }

    private static func cases(_ way: ExpectedWay, devices: Int) -> [Case] {
      way.arcs.enumerated().flatMap { index, element in
        // Of a request that is one arc, the start is here.
        let cases = [
          Case(arc: element.arc, leaves: .here, resetAllowed: false),
          Case(arc: element.arc, leaves: .there, resetAllowed: false),
          Case(arc: element.arc, leaves: .error, resetAllowed: false),
          Case(arc: element.arc, leaves: .error, resetAllowed: true),
        ]
        // The devices of a large group are all alike, so they share the cases.
        return devices > 4 ? [cases[(index + index / devices) % cases.count]] : cases
      }
    }

    private func script(_ failing: Case, _ group: HeldGroup) throws {
      try group.peers.resetReferees()
      let arc = failing.arc
      try group.peers.devices[arc.device].set("arc_fail", "\(arc.from):\(arc.to) 1 5 \(failing.leaves)")
    }

    /// What holds after every failure.
    private func check(_ outcome: SessionOutcome, _ failing: Case, _ group: HeldGroup) throws {
      let place = failing.place
      let error = DeviceError(.setState(failing.arc.to), .errno(.inputOutput))
      #expect(outcome.fault == .device(failing.arc.device, error), place)
      try group.check(outcome, place)
      for (index, device) in outcome.devices.enumerated() {
        let mayBeLost = failing.leaves == .error && index == failing.arc.device && !failing.resetAllowed
        #expect(device.state == .running || mayBeLost && device.state == .error, "device \(index), \(place)")
        #expect(!device.isHung, place)
      }
    }

    /// Every device runs and talks again; what was lost on the way shows now.
    private func mend(_ outcome: SessionOutcome, _ failing: Case, _ group: HeldGroup) throws {
      for (index, device) in outcome.devices.enumerated() {
        if device.state == .error { try group.restart(index) }
        if device.wasReset { try group.start(index) }
      }
      // What is written to a device in ERROR is dropped.
      try group.checkWrites(except: ["arcs_failed", "peer_arrived_error"], failing.place)
    }

    @Test("any arc of a save fails", arguments: GroupShape.kinds)
    func save(shape: GroupShape) throws {
      let group = try HeldGroup("fails", shape)
      defer { group.remove() }
      let stream = try Stream()
      for failing in Self.cases(.save(group.plan), devices: shape.count) {
        try script(failing, group)
        let outcome = try group.run(
          try group.saveSession { $0.resetAllowed = failing.resetAllowed }, stream
        ).outcome
        try check(outcome, failing, group)
        for (index, device) in outcome.devices.enumerated() {
          // Nobody is reset but who needs it and may be.
          let isDue = failing.leaves == .error && failing.resetAllowed && index == failing.arc.device
          #expect(device.wasReset == isDue, failing.place)
        }
        try mend(outcome, failing, group)
      }
    }

    @Test(
      "any arc of a load fails", arguments: GroupShape.kinds.filter { $0.features.allSatisfy { $0.contains(.preCopy) } }
    )
    func load(shape: GroupShape) throws {
      let group = try HeldGroup("fails", shape)
      defer { group.remove() }
      // An image of all devices at one moment: into the same devices it goes as well as into others.
      let stream = try group.saved()
      let way = ExpectedWay.load(group.plan)
      for failing in Self.cases(way, devices: shape.count) {
        try script(failing, group)
        let ended = try group.run(try group.loadSession { $0.resetAllowed = failing.resetAllowed }, stream)
        try check(ended.outcome, failing, group)
        // Who had half a state in it is empty, and who had not is as it was.
        let forward = ended.session.steps.filter { !$0.isWayBack }.flatMap(\.arcs)
        let isWhole = forward.contains {
          $0.to == .runningP2P && $0.from == .stop || $0.to == .running && $0.from == .stop
        }
        for (index, device) in ended.outcome.devices.enumerated() {
          let isLost = failing.leaves == .error && index == failing.arc.device && failing.resetAllowed
          let hadHalf = !isWhole && forward.contains { $0.device == index && $0.to == .resuming && $0.error == nil }
          let askedAndMoved =
            !isWhole && failing.arc == .init(device: index, from: .stop, to: .resuming)
            && (failing.leaves == .there || failing.leaves == .error)
          #expect(device.wasReset == (isLost || hadHalf || askedAndMoved), "device \(index), \(failing.place)")
        }
        try mend(ended.outcome, failing, group)
      }
    }

    @Test("the command says where every device is, and the kernel agrees", arguments: [Leaves.there, .error])
    func command(leaves: Leaves) throws {
      let shape = GroupShape.mixed(.all)[0]
      let group = try PeerGroup("fails", shape, ["arc_time": "all 200"])
      defer { group.remove() }
      try group.open(activity: "peers")
      try group.waitUntilReceived(10)
      let pid = try #require(group.holder).pid
      for (device, arc) in [(0, "pre-copy-p2p:stop-copy"), (1, "pre-copy:stop-copy"), (2, "stop:running-p2p")] {
        for isAllowed in leaves == .error ? [false, true] : [false] {
          try group.resetReferees()
          try group.devices[device].set("arc_fail", "\(arc) 1 5 \(leaves)")
          let ended = try Lab.ferry(
            ["save"] + group.nodes + ["--pid", "\(pid)", "--force", "-j", "-o", "/dev/null"]
              + (isAllowed ? ["--reset-on-error"] : []))
          #expect(ended.status == 1, "\(ended.err)")
          let report = try FailureReport(ended.out)
          #expect(report.error.contains("EIO"), "\(ended.out)")
          for (index, entry) in report.devices.enumerated() {
            let synthetic = group.devices[index]
            #expect(entry.name == synthetic.node && entry.hung == false)
            #expect(
              entry.state
                == (try Lab.debugState(synthetic.name).lowercased().split(separator: "_").joined(separator: "-")))
            #expect(entry.reset == (try synthetic.referee["resets"] > 0))
            let isLost = leaves == .error && index == device
            #expect(entry.state == (isLost && !isAllowed ? "error" : "running"), "\(ended.out)")
            #expect(entry.reset == (isLost && isAllowed), "\(ended.out)")
            #expect(try synthetic.referee.violations == 0)
          }
          if leaves == .error {
            #expect(try group.ask(device, "reset") == "ok")
            try group.devices[device].set("activity", "peers")
          }
          try group.waitUntilReceived(10)
        }
      }
    }
  }
}
