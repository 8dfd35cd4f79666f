// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing

extension LabTests {
  /// Groups that no order can stop: they are refused while they are what they were.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct QuiescingRefusalTests {
    /// Devices without P2P states, each of which writes to the next one round; other pairs are declared not to be linked.
    private static func circle(_ count: Int) -> GroupShape {
      let ring = GroupShape.ring(count)
      return GroupShape("circle of \(count)", count: count, without: Array(0..<count), links: ring.links)
    }

    @Test(
      "a circle of devices without P2P states is refused before anything is touched, and the message names it",
      arguments: [2, 3])
    func circle(count: Int) throws {
      let group = try PeerGroup("circle", Self.circle(count))
      defer { group.remove() }
      try group.open(activity: "peers")
      try group.waitUntilReceived(10)
      try group.resetReferees()
      let holder = try #require(group.holder)
      let options = ["--pid", "\(holder.pid)", "--force"] + group.linkOptions
      let folder = try Lab.temporaryFolder()
      defer { try? FileManager.default.removeItem(at: folder) }
      let file = folder.appendingPathComponent("stream").path
      let ended = try Lab.ferry(["save"] + group.nodes + options + ["-o", file])
      #expect(ended.status == 3 && Files.text(file) == nil, "\(ended.err)")
      for index in group.nodes.indices {
        let (from, to) = (group.nodes[index], group.nodes[(index + 1) % count])
        #expect(ended.err.contains("\(from) can start transfers to \(to)"), "\(ended.err)")
        #expect(ended.err.contains("--no-link \(from),\(to)"), "\(ended.err)")
      }
      for referee in try group.referees() {
        #expect(referee["arcs"] == 0 && referee["arcs_refused"] == 0 && referee["resets"] == 0)
        #expect(referee.complaints == [])
      }
      #expect(try group.devices.allSatisfy { try $0.state == .running })
      try group.waitUntilReceived(10)
    }

    @Test("what nobody has declared counts as a link; with the option that the message names, the group is saved")
    func remedy() throws {
      // Only the first writes to the second, which nobody knows.
      let shape = GroupShape("one way", count: 2, without: [0, 1], links: [.init(0, 1)])
      let group = try PeerGroup("remedy", shape)
      defer { group.remove() }
      try group.open(activity: "peers")
      try group.waitUntilReceived(10)
      try group.resetReferees()
      let holder = try #require(group.holder)
      let save = ["save"] + group.nodes + ["--pid", "\(holder.pid)", "--force", "-o", "/dev/null"]
      let refused = try Lab.ferry(save)
      let option = ["--no-link", "\(group.nodes[1]),\(group.nodes[0])"]
      #expect(refused.status == 3 && refused.err.contains(option.joined(separator: " ")), "\(refused.err)")
      #expect(try group.referees().allSatisfy { $0["arcs"] == 0 })
      let saved = try Lab.ferry(save + option)
      #expect(saved.status == 0, "\(saved.err)")
      try group.waitUntilReceived(10)
      #expect(try group.referees().allSatisfy { $0["arcs"] > 0 && $0.complaints == [] })
    }

    @Test("a load into a circle is refused, too")
    func load() throws {
      // The same devices, of which it is known that only the first writes to the second.
      let group = try PeerGroup("group", GroupShape("one way", count: 2, without: [0, 1], links: [.init(0, 1)]))
      defer { group.remove() }
      try group.open()
      let holder = ["--pid", "\(try #require(group.holder).pid)", "--force"]
      let folder = try Lab.temporaryFolder()
      defer { try? FileManager.default.removeItem(at: folder) }
      let file = folder.appendingPathComponent("stream").path
      let saved = try Lab.ferry(["save"] + group.nodes + holder + group.linkOptions + ["-o", file])
      try #require(saved.status == 0, "\(saved.err)")
      try group.resetReferees()
      let ended = try Lab.ferry(["load", file] + group.nodes + holder)
      #expect(ended.status == 3 && ended.err.contains("can start transfers to"), "\(ended.err)")
      #expect(try group.referees().allSatisfy { $0["arcs"] == 0 && $0["resets"] == 0 })
    }
  }
}
