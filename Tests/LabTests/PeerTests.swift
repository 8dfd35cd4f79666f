// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Testing

extension LabTests {
  /// Devices that write to each other all the time, moved as a group: the referee sees nothing that must not be.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct PeerTests {
    private static let rounds = 50

    @Test(
      "a group that exchanges peer writes moves fifty times: no violation, no write lost, none doubled",
      arguments: [2, 3])
    func moves(count: Int) throws {
      // Arcs that take a while, so that there is a middle in which writes could arrive.
      let settings: KeyValuePairs = ["arc_time": "all 200", "state_rate": "1000"]
      let here = try PeerGroup("here", count: count, settings)
      defer { here.remove() }
      let there = try PeerGroup("there", count: count, settings)
      defer { there.remove() }
      try here.open(activity: "peers state")
      try there.open()
      try here.waitUntilReceived(100)
      // Counting begins anew wherever a sender is first heard of. From here on every link is known.
      try here.resetReferees()
      try there.resetReferees()
      var sides = (from: here, to: there)
      for round in 1...Self.rounds {
        try sides.from.move(to: sides.to)
        try sides.to.waitUntilReceived(100)
        for device in here.devices + there.devices {
          let referee = try device.referee
          try #require(referee.complaints == [], "round \(round), \(device.name)")
          try #require(referee["peer_new_links"] == 0, "round \(round), \(device.name)")
        }
        for device in sides.to.devices {
          #expect(try device.referee["loads_verified"] == (round + 1) / 2, "round \(round), \(device.name)")
        }
        sides = (sides.to, sides.from)
      }
    }

    @Test(
      "negative control: stopping one device wholly before the other is a violation, and the referee says so",
      arguments: [2, 3])
    func wrongOrder(count: Int) throws {
      let group = try PeerGroup("wrong", count: count)
      defer { group.remove() }
      try group.open(activity: "peers")
      var caught = 0
      var lost = 0
      for _ in 1...Self.rounds {
        try group.waitUntilReceived(10)
        try group.resetReferees()
        for index in 0..<count { #expect(try group.ask(index, "set stop") == "ok") }
        if try group.referees().reduce(0, { $0 + $1.violations }) > 0 { caught += 1 }
        for index in 0..<count { #expect(try group.ask(index, "set running") == "ok") }
        try group.waitUntilReceived(10)
        if try group.referees().reduce(0, { $0 + $1["peer_lost"] }) > 0 { lost += 1 }
      }
      #expect(caught >= 45, "\(caught) of \(Self.rounds) rounds")
      // What arrived in a stopped state is missing later.
      #expect(lost >= caught)
    }

    @Test(
      "negative control: starting one device wholly before the other can be reached is a violation, too")
    func wrongOrderBack() throws {
      let group = try PeerGroup("wrong", count: 2)
      defer { group.remove() }
      try group.open(activity: "peers")
      try group.waitUntilReceived(10)
      for state in ["running-p2p", "stop"] {
        for index in 0..<2 { #expect(try group.ask(index, "set \(state)") == "ok") }
      }
      #expect(try group.referees().allSatisfy { $0.complaints == [] })
      #expect(try group.ask(0, "set running") == "ok")
      try Lab.wait(until: "a write arrived at a stopped device") {
        try group.devices[1].referee["peer_arrived_stop"] > 0
      }
      #expect(try group.ask(1, "set running") == "ok")
      try group.waitUntilReceived(10)
    }

    @Test("the group's entry tells how far apart its devices entered each state")
    func skew() throws {
      let group = try PeerGroup("skewed", count: 2)
      defer { group.remove() }
      try group.open()
      let name = "skewed"
      try group.resetReferees()
      for index in 0..<2 { #expect(try group.ask(index, "set running-p2p") == "ok") }
      for index in 0..<2 { #expect(try group.ask(index, "set stop") == "ok") }
      let entry = try #require(try Referee.everything().groups[name] as? [String: Any])
      #expect(entry["devices"] as? Int == 2)
      for state in ["running-p2p", "stop"] {
        let figures = try #require(entry[state] as? [String: Any], "\(entry)")
        #expect(try #require(figures["entries"] as? Int) >= 1)
        // Two requests of another process lie between: that takes some time, and no more than this test.
        let last = try #require(figures["skew_us"] as? Int)
        let most = try #require(figures["max_skew_us"] as? Int)
        #expect(last > 0 && most >= last && most < 600_000_000)
      }
    }
  }
}
