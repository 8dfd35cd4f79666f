// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing

extension LabTests {
  /// A counter that stays at zero shows nothing unless it can count. Each one is made to, here or where it is at home:
  /// `PeerTests`, `GuestMemoryTests`, `ImageTests`, `SyntheticStatePairTests`.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct RefereeTests {
    private func withPair(_ body: (PeerGroup) throws -> Void) throws {
      let pair = try PeerGroup("pair", count: 2)
      defer { pair.remove() }
      try pair.open(activity: "peers")
      try pair.waitUntilReceived(10)
      #expect(try pair.referees().allSatisfy { $0.complaints == [] })
      try pair.resetReferees()
      try body(pair)
    }

    private func waitUntilCounted(_ counter: String, _ device: Synthetic) throws {
      try Lab.wait(until: "\(counter) counted") { try device.referee[counter] > 0 }
    }

    @Test(
      "a write that arrives in a stopped state is counted by that state", arguments: ["stop", "stop-copy", "resuming"])
    func arrivals(state: String) throws {
      try withPair { pair in
        #expect(try pair.ask(1, "set \(state)") == "ok")
        let counter = "peer_arrived_\(state.replacingOccurrences(of: "-", with: "_"))"
        try waitUntilCounted(counter, pair.devices[1])
        #expect(try pair.devices[0].referee.violations == 0)
        guard state != "resuming" else { return }
        // It was dropped, so it is missing when the receiver hears the next one.
        #expect(try pair.devices[1].referee["peer_lost"] == 0)
        #expect(try pair.ask(1, "set running") == "ok")
        try waitUntilCounted("peer_lost", pair.devices[1])
      }
    }

    @Test("a write that arrives at a device in ERROR is dropped, which is no violation")
    func arrivalsInError() throws {
      try withPair { pair in
        try pair.devices[1].set("arc_fail", "running:running-p2p 1 5 error")
        #expect(try pair.ask(1, "set stop") == "errno EIO SET MIG_DEVICE_STATE")
        try waitUntilCounted("peer_arrived_error", pair.devices[1])
        #expect(try pair.referees().allSatisfy { $0.violations == 0 })
      }
    }

    @Test("a write that was on its way when its receiver was closed is dropped, which is no violation")
    func arrivalsClosed() throws {
      let pair = try PeerGroup("pair", count: 2, ["peer_latency": "200000"])
      defer { pair.remove() }
      let sender = try DeviceHolder(pair.nodes[0])
      defer { sender.quit() }
      let receiver = try DeviceHolder(pair.nodes[1])
      try pair.devices[0].set("activity", "peers")
      try waitUntilCounted("peer_sent", pair.devices[0])
      receiver.quit()
      try waitUntilCounted("peer_arrived_closed", pair.devices[1])
      #expect(try pair.referees().allSatisfy { $0.violations == 0 })
      // From now on it is not sent anything.
      var before = -1
      try Lab.wait(until: "the last write arrived") {
        let sent = try pair.devices[0].referee["peer_sent"]
        defer { before = sent }
        return sent == before
      }
    }

    @Test("a device that starts writes in a P2P state is caught")
    func startedQuiesced() throws {
      try withPair { pair in
        try pair.devices[0].set("misbehave", "peers-in-p2p")
        #expect(try pair.devices[0].referee["peer_started_quiesced"] == 0)
        #expect(try pair.ask(0, "set running-p2p") == "ok")
        try waitUntilCounted("peer_started_quiesced", pair.devices[0])
        // The receiver runs: nothing is wrong with what arrives there.
        #expect(try pair.devices[1].referee.violations == 0)
      }
    }

    @Test("lost and doubled writes are counted at their receiver", arguments: ["lose", "double"])
    func lostAndDoubled(how: String) throws {
      try withPair { pair in
        try pair.devices[0].set("misbehave", how)
        let (counts, stays) = how == "lose" ? ("peer_lost", "peer_doubled") : ("peer_doubled", "peer_lost")
        try waitUntilCounted(counts, pair.devices[1])
        #expect(try pair.devices[1].referee[stays] == 0)
        #expect(try pair.devices[0].referee[counts] == 0)
      }
    }

    @Test(
      "after a reset of the sender or of the receiver counting starts anew, and that is counted", arguments: [0, 1])
    func newLinks(which: Int) throws {
      try withPair { pair in
        #expect(try pair.devices[1].referee["peer_new_links"] == 0)
        #expect(try pair.ask(which, "reset") == "ok")
        try pair.devices[which].set("activity", "peers")
        try waitUntilCounted("peer_new_links", pair.devices[1])
        #expect(try pair.devices[1].referee["peer_lost"] == 0)
        #expect(try pair.devices[1].referee["peer_doubled"] == 0)
      }
    }

    @Test("a touch of a region in a P2P or stopped state is counted, and one of a running device is not")
    func touches() throws {
      try withPair { pair in
        let device = pair.devices[0]
        for (state, isQuiesced) in [("running", false), ("running-p2p", true), ("stop", true), ("running", false)] {
          #expect(try pair.ask(0, "set \(state)") == "ok")
          try device.resetReferee()
          #expect(try pair.ask(0, "peek 0 0 4") == "0x4e595356")
          // The configuration space's first two bytes: what `pci_id` says.
          #expect(try pair.ask(0, "peek 7 0") == "0x46")
          #expect(try device.referee["bar_quiesced"] == (isQuiesced ? 1 : 0), "\(state)")
          #expect(try device.referee["config_quiesced"] == (isQuiesced ? 1 : 0), "\(state)")
        }
      }
    }

    @Test("mailboxes tell of each link how many writes were sent and that all of them were received")
    func mailbox() throws {
      try withPair { (pair: PeerGroup) throws in
        for state in ["running-p2p", "stop", "running-p2p"] {
          for index in 0..<2 { #expect(try pair.ask(index, "set \(state)") == "ok") }
        }
        // In a P2P state nothing is sent, so the figures stand still.
        #expect(try pair.ask(0, "peek 0 \(0x1200 + 8 * 2) 8") == pair.ask(1, "peek 0 \(0x1000 + 8 * 1) 8"))
        #expect(try pair.ask(1, "peek 0 \(0x1200 + 8 * 1) 8") == pair.ask(0, "peek 0 \(0x1000 + 8 * 2) 8"))
        #expect(try pair.ask(0, "peek 0 \(0x1000 + 8 * 2) 8") != "0x00")
      }
    }

    @Test("writing to a referee's file sets its counters to zero, and the text says what the JSON says")
    func zero() throws {
      try withPair { pair in
        let device = pair.devices[0]
        for index in 0..<2 { #expect(try pair.ask(index, "set running-p2p") == "ok") }
        #expect(try device.referee["arcs"] == 1)
        let text = try Files.readText("\(Synthetic.debug)/\(device.name)/referee")
        for counter in ["arcs", "peer_sent", "peer_received", "resets", "dma_unreported"] {
          let line = text.split(separator: "\n").first { $0.split(separator: " ").first?.hasPrefix(counter) == true }
          #expect(line?.hasSuffix(" \(try device.referee[counter])") == true, "\(counter): \(line ?? "none")")
        }
        #expect(try Referee.everything().devices[device.name]?["arcs"] == 1)
        try device.resetReferee()
        #expect(try device.referee["arcs"] == 0)
        #expect(try pair.devices[1].referee["arcs"] == 1)
        let all = try Descriptor.open("\(Synthetic.debug)/referee", O_WRONLY)
        _ = try all.write([48, 10].span)
        #expect(try pair.devices[1].referee["arcs"] == 0)
      }
    }
  }
}
