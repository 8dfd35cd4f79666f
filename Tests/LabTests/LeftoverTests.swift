// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing

@testable import Topology

extension LabTests {
  /// What a process leaves that is killed while it throttles, and who takes it away.
  @Suite(.serialized, .enabled(if: Lab.isHere))
  struct LeftoverTests {
    @Test("a filter whose process was killed is taken away by the next that looks, and nobody else's")
    func police() throws {
      let pair = try TrafficPair("rep0")
      let folder = ThrottleFolder(path: try Lab.temporaryFolder().path + "/throttles")
      let before = try pair.trafficControl()
      let killed = try Puppet("throttle-holder", [folder.path, "police", "rep0"])
      #expect(killed.ask("limit 1250000") == "ok")
      let alone = try pair.trafficControl()
      let alive = try Puppet("throttle-holder", [folder.path, "police", "rep0"])
      #expect(alive.ask("limit 2500000") == "ok")
      // While both live, nothing is taken away.
      #expect(folder.putBackLeftovers().isEmpty && folder.folder.names.count == 2)
      killed.crash()
      let lines = folder.putBackLeftovers()
      #expect(
        lines == [
          "holder was throttled (police) by process \(killed.pid), which is gone: the limit is taken away (egress of rep0)"
        ])
      let after = try pair.trafficControl()
      #expect(alone.contains("rate 10Mbit") && !after.contains("rate 10Mbit") && after.contains("rate 20Mbit"))
      #expect(folder.folder.names.count == 1)
      alive.crash()
      // The last to go takes the qdisc along that the first had made.
      #expect(folder.putBackLeftovers().count == 1)
      #expect(try after.contains("clsact") && pair.trafficControl() == before)
      #expect(folder.folder.names.isEmpty && folder.putBackLeftovers().isEmpty)
      try pair.remove()
    }

    @Test("vfio-ferry puts it back before it changes a device, says so, and only then; looking changes nothing")
    func command() throws {
      let pair = try TrafficPair("rep0")
      let before = try pair.trafficControl()
      let killed = try Puppet("throttle-holder", ["-", "police", "rep0"])
      #expect(killed.ask("limit 1250000") == "ok")
      let between = try pair.trafficControl()
      killed.crash()
      #expect(try Lab.ferry(["list"]).err.isEmpty)
      #expect(try Lab.ferry(["state", Lab.mtty[0]]).err.isEmpty)
      #expect(try pair.trafficControl() == between)
      let ended = try Lab.ferry(["state", Lab.mtty[0], "--through", "stop,running"])
      #expect(ended.status == 0)
      #expect(ended.err.contains("vfio-ferry: holder was throttled (police) by process \(killed.pid), which is gone"))
      #expect(try pair.trafficControl() == before)
      #expect(try Lab.ferry(["walk", Lab.mtty[0]]).err.isEmpty)
      try pair.remove()
    }

    @Test("a rate of devlink's whose process was killed is put back; a filter whose interface is gone needs nothing")
    func devlink() throws {
      let device = try SimulatedSwitch()
      let pair = try TrafficPair("rep0")
      let folder = ThrottleFolder(path: try Lab.temporaryFolder().path + "/throttles")
      let port = try device.port(1)
      let killed = [
        try Puppet("throttle-holder", [folder.path, "devlink-rate", port.bus, port.device, "\(port.number)"]),
        try Puppet("throttle-holder", [folder.path, "police", "rep0"]),
      ]
      for puppet in killed {
        #expect(puppet.ask("limit 1250000") == "ok")
        #expect(puppet.ask("limit 2500000") == "ok")
      }
      #expect(try device.rate(1) == 20)
      for puppet in killed { puppet.crash() }
      try pair.remove()
      let lines = folder.putBackLeftovers()
      #expect(lines.count == 2 && lines[0].hasSuffix("its rate is unlimited again"), "\(lines)")
      #expect(try device.rate(1) == 0)
      #expect(folder.folder.names.isEmpty)
      try device.remove()
    }

    @Test(
      "of two that clean up after a killed one at the same moment one puts back, and the limit that one sets then stays"
    )
    func twoCleaners() throws {
      let device = try SimulatedSwitch()
      let pair = try TrafficPair("rep0")
      let before = try pair.trafficControl()
      let folder = ThrottleFolder(path: try Lab.temporaryFolder().path + "/throttles")
      let port = try device.port(1)
      let rate = [folder.path, "devlink-rate", port.bus, port.device, "\(port.number)"]
      let police = [folder.path, "police", "rep0"]
      let kinds = try [(rate, 1), (police, 2)].map { arguments, answers in
        (arguments, answers, try (0..<2).map { _ in try Puppet("throttle-holder", arguments) })
      }
      for round in 0..<20 {
        for (arguments, answers, cleaners) in kinds {
          let killed = try Puppet("throttle-holder", arguments)
          #expect(killed.ask("limit 1250000") == "ok")
          killed.crash()
          for cleaner in cleaners { cleaner.tell("clean 2500000") }
          let said = cleaners.map { $0.readLine() }
          #expect(said.count { $0.contains("which is gone") } == 1, "round \(round): \(said)")
          // A port has one limit, of whoever came first; filters are each one's own.
          #expect(said.count { $0.hasSuffix("ok") } >= 1, "round \(round): \(said)")
          #expect((1...answers).contains(folder.folder.names.count), "round \(round): \(said)")
          if answers == 1 { #expect(try device.rate(1) == 20, "round \(round): \(said)") }
          for cleaner in cleaners { #expect(cleaner.ask("restore") == "ok") }
          #expect(folder.folder.names.isEmpty, "round \(round): \(said)")
        }
        #expect(try device.rate(1) == 0, "round \(round)")
        let after = try pair.trafficControl()
        #expect(after == before, "round \(round)")
        if after != before { break }
      }
      try pair.remove()
      try device.remove()
    }
  }
}
