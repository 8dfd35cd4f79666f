// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing

@testable import Topology

extension LabTests {
  /// The police filter on a link of the kernel's own, measured at its end.
  @Suite(.serialized, .enabled(if: Lab.isHere))
  struct PoliceTests {
    /// A link, a limiter for what is sent out of it, and what traffic control had there before.
    private func withPair(_ body: (TrafficPair, ThrottleFolder) throws -> Void) throws {
      let pair = try TrafficPair("rep0")
      let folder = ThrottleFolder(path: try Lab.temporaryFolder().path + "/throttles")
      try body(pair, folder)
      #expect(folder.folder.names.isEmpty)
      try pair.remove()
    }

    private func limiter(
      _ pair: TrafficPair, _ folder: ThrottleFolder, _ network: any NetworkControl = KernelNetwork()
    ) -> PoliceFilter {
      PoliceFilter(device: "0000:3b:00.1", places: [.representor(pair.interface)], folder: folder, network: network)
    }

    /// That what comes through never is over the rate, and reaches it: an emulated machine on a busy host may lose time, so
    /// the best of a few measurements counts.
    private func expect(_ sender: Puppet, _ receiver: Puppet, limitedTo rate: UInt64, _ what: String) throws {
      var best = 0.0
      for _ in 1...3 where best < 0.8 {
        let came = try Throughput.measure(from: sender, to: receiver)
        print("throttling: \(what), to \(rate / 125_000) Mbit/s: \(came)")
        #expect(came.bytesPerSecond < 1.15 * Double(rate))
        best = max(best, came.bytesPerSecond / Double(rate))
      }
      #expect(best > 0.5)
    }

    @Test("what comes through is what the limit says, again after a change, and all of it when the limit is gone")
    func rates() throws {
      try withPair { pair, folder in
        let before = try pair.trafficControl()
        let (receiver, sender) = (try pair.receiver(), try pair.sender())
        let free = try Throughput.measure(from: sender, to: receiver)
        let limiter = limiter(pair, folder)
        for megabits in [200, 50] {
          let rate = UInt64(megabits) * 125_000
          try limiter.limit(to: rate)
          try expect(sender, receiver, limitedTo: rate, "free \(free), limited")
          let report = try #require(try limiter.look().first)
          #expect(report.rate == rate && report.comesFirst && !report.isInHardware)
          #expect(report.drops > 0 && report.bytes > 0)
          #expect(try pair.trafficControl().contains("rate \(megabits)Mbit"))
        }
        try limiter.restore()
        #expect(try pair.trafficControl() == before)
        let freed = try Throughput.measure(from: sender, to: receiver)
        print("throttling: free again \(freed)")
        #expect(freed.bytesPerSecond > 1.5 * 6_250_000)
      }
    }

    @Test("packets that the host hands over before they are cut pass too, within the limit")
    func segments() throws {
      try withPair { pair, folder in
        let (receiver, sender) = (try pair.receiver(), try pair.sender(size: 56_000, segment: 1400))
        let limiter = limiter(pair, folder)
        try limiter.limit(to: 6_250_000)
        try expect(sender, receiver, limitedTo: 6_250_000, "in segments")
        try limiter.restore()
      }
    }

    @Test("rates that do not fit in 32 bits are set as they are")
    func fast() throws {
      try withPair { pair, folder in
        let limiter = limiter(pair, folder)
        try limiter.limit(to: 1)
        #expect(try limiter.look().first?.rate == 1)
        try limiter.limit(to: 12_500_000_000)
        #expect(try limiter.look().first?.rate == 12_500_000_000)
        #expect(try pair.trafficControl().contains("rate 100Gbit"))
        try limiter.restore()
      }
    }

    @Test("a qdisc and filters of others are used around, and left as they were")
    func foreign() throws {
      try withPair { pair, folder in
        _ = try run("tc", "qdisc", "add", "dev", "rep0", "clsact")
        for words in [
          "egress pref 1 protocol arp flower action drop",
          "egress pref 3 protocol ip flower dst_ip 10.1.1.1 action drop",
          "egress pref 2 chain 5 matchall action continue",
          "ingress pref 1 matchall action police rate 1gbit burst 1mb conform-exceed continue",
        ] { _ = try run(["tc", "filter", "add", "dev", "rep0"] + words.split(separator: " ").map(String.init)) }
        let before = try pair.trafficControl()
        let limiter = limiter(pair, folder)
        try limiter.limit(to: 1_250_000)
        let between = try pair.trafficControl()
        #expect(between.contains("rate 10Mbit") && between != before)
        let report = try #require(try limiter.look().first)
        #expect(!report.comesFirst)
        try limiter.limit(to: 2_500_000)
        try limiter.restore()
        #expect(try pair.trafficControl() == before)
      }
    }

    @Test("a qdisc that was made for the filter stays where somebody else has come to use it")
    func sharedQdisc() throws {
      try withPair { pair, folder in
        let limiter = limiter(pair, folder)
        try limiter.limit(to: 1_250_000)
        _ = try run("tc", "filter", "add", "dev", "rep0", "ingress", "pref", "7", "matchall", "action", "continue")
        try limiter.restore()
        let after = try pair.trafficControl()
        #expect(after.contains("qdisc clsact") && after.contains("pref 7") && !after.contains("police"))
        // Nothing is set, so there is nothing to put back.
        try limiter.restore()
        #expect(try pair.trafficControl() == after)
      }
    }

    @Test("a filter that somebody has removed is nothing to put back, and comes again with the next limit")
    func removed() throws {
      try withPair { pair, folder in
        let before = try pair.trafficControl()
        let limiter = limiter(pair, folder)
        try limiter.limit(to: 1_250_000)
        _ = try run("tc", "qdisc", "delete", "dev", "rep0", "clsact")
        #expect(try limiter.look().isEmpty)
        try limiter.limit(to: 2_500_000)
        #expect(try limiter.look().first?.rate == 2_500_000)
        _ = try run("tc", "filter", "delete", "dev", "rep0", "egress")
        try limiter.restore()
        #expect(try pair.trafficControl() == before)
      }
    }

    @Test("an ingress qdisc, whose hook is the other direction, is refused; the kernel would not have refused it")
    func ingressOnly() throws {
      try withPair { pair, folder in
        _ = try run("tc", "qdisc", "add", "dev", "rep0", "ingress")
        let before = try pair.trafficControl()
        #expect {
          try limiter(pair, folder).limit(to: 1_250_000)
        } throws: { error in
          "\(error)".contains("has no egress")
        }
        #expect(try pair.trafficControl() == before)
        // What the kernel makes of a filter for the egress of such a qdisc: one for the ingress.
        let rate = PoliceRate(bytesPerSecond: 1_250_000, cookie: .random())
        let rule = PoliceRule(match: .all, hardwareOnly: false, rate: rate)
        let (kernel, index) = (KernelNetwork(), pair.interface.index)
        try kernel.add(rule, at: .egress, of: index, preference: 1)
        #expect(try run("tc", "filter", "show", "dev", "rep0", "ingress").contains("police"))
        try kernel.remove(
          try #require(try kernel.survey(.ingress, of: index, for: rate.cookie).own), at: .ingress, of: index)
        #expect(try pair.trafficControl() == before)
      }
    }

    @Test(
      "what comes from the wire for one function is policed and taken to it, and nothing else is; hardware is not claimed"
    )
    func uplink() throws {
      try withPair { wire, folder in
        let guest = try TrafficPair("rep1", network: "10.97.2")
        let place = {
          PolicePlace.uplink(wire.interface, address: guest.address, representor: guest.interface, hardwareOnly: $0)
        }
        let limiter = PoliceFilter(device: "0000:3b:00.1", places: [place(false)], folder: folder)
        // From the wire's end to the function's address.
        let mac = guest.address.map { "0\(String($0, radix: 16))" }.joined(separator: ":")
        _ = try run("ip", "-n", wire.namespace, "route", "add", "10.97.2.0/24", "dev", "other")
        _ = try run("ip", "-n", wire.namespace, "neighbour", "add", guest.otherEnd, "lladdr", mac, "dev", "other")
        let (receiver, sender) = (try guest.receiver(), try wire.sender(to: guest.otherEnd, inside: true))
        let before = try wire.trafficControl()
        _ = sender.ask("run 100")
        #expect(receiver.ask("count") == "0 0")
        try limiter.limit(to: 6_250_000)
        try expect(sender, receiver, limitedTo: 6_250_000, "from the wire to one function")
        #expect(try limiter.look().first?.isInHardware == false)
        try limiter.restore()
        #expect(try wire.trafficControl() == before)
        // This NIC has no switch of its own.
        #expect {
          try PoliceFilter(device: "0000:3b:00.1", places: [place(true)], folder: folder).limit(to: 6_250_000)
        } throws: {
          "\($0)".contains("EOPNOTSUPP")
        }
        #expect(try wire.trafficControl() == before)
        // Together with a place that software polices it is left out, with the reason.
        let both = PoliceFilter(
          device: "0000:3b:00.1", places: [.representor(guest.interface), place(true)], folder: folder)
        for rate in [6_250_000, 1_250_000] as [UInt64] {
          try both.limit(to: rate)
          #expect(try both.look().map(\.rate) == [rate] && both.leftOut.count == 1)
          #expect(both.leftOut.first?.cause == .kernel(.notSupported, words: ""), "\(both.leftOut)")
          #expect(try wire.trafficControl().contains("clsact") == false)
        }
        try both.restore()
        #expect(both.leftOut.isEmpty)
        // Where others filter, it would go past them.
        _ = try run("tc", "qdisc", "add", "dev", "rep0", "ingress")
        _ = try run("tc", "filter", "add", "dev", "rep0", "ingress", "pref", "9", "matchall", "action", "drop")
        #expect {
          try limiter.limit(to: 6_250_000)
        } throws: {
          "\($0)".contains("filters of others")
        }
        try guest.remove()
      }
    }

    @Test("an interface that is gone leaves nothing to put back; one that never was is an error")
    func gone() throws {
      let folder = ThrottleFolder(path: try Lab.temporaryFolder().path + "/throttles")
      let pair = try TrafficPair("rep0")
      let limiter = limiter(pair, folder)
      try limiter.limit(to: 1_250_000)
      try pair.remove()
      #expect {
        try limiter.limit(to: 2_500_000)
      } throws: {
        "\($0)".contains("ENODEV")
      }
      try limiter.restore()
      #expect(folder.folder.names.isEmpty)
    }
  }
}
