// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing

extension LabTests {
  /// The way back on a real kernel: a group that talks all the while is saved, and something fails. No device stops or
  /// starts too soon then, either.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct RecoveryTests {
    private func withPair(_ body: (PeerGroup) throws -> Void) throws {
      let pair = try PeerGroup("pair", count: 2, ["arc_time": "all 200", "state_rate": "500"])
      defer { pair.remove() }
      try pair.open(activity: "peers state")
      try pair.waitUntilReceived(10)
      try body(pair)
    }

    private func save(_ pair: PeerGroup, _ options: String..., to file: String = "/dev/null") throws -> Ended {
      let holder = try #require(pair.holder)
      return try Lab.ferry(["save"] + pair.nodes + ["--pid", "\(holder.pid)", "--force", "-o", file] + options)
    }

    @Test(
      "a save in which an arc fails puts every device back, in an order in which none is reached in a stopped state",
      arguments: ["here", "there", "error"])
    func arcs(leaves: String) throws {
      try withPair { pair in
        for arc in [
          "running:pre-copy", "pre-copy:pre-copy-p2p", "pre-copy-p2p:stop-copy", "stop-copy:stop", "stop:running-p2p",
          "running-p2p:running",
        ] {
          try pair.resetReferees()
          try pair.devices[0].set("arc_fail", "\(arc) 1 5 \(leaves)")
          let ended = try save(pair)
          #expect(ended.status == 1 && ended.err.contains("EIO"), "\(arc): \(ended.err)")
          #expect(try pair.devices[1].state == .running, "\(arc)")
          let isLost = leaves == "error"
          #expect(try pair.devices[0].state == (isLost ? .error : .running), "\(arc): \(ended.err)")
          if isLost {
            #expect(ended.err.contains("\(pair.nodes[0]) is in error"), "\(arc): \(ended.err)")
          } else {
            try pair.waitUntilReceived(10)
          }
          for referee in try pair.referees() {
            #expect(referee.violations == 0, "\(arc)")
            if !isLost { #expect(referee["peer_lost"] == 0 && referee["peer_doubled"] == 0, "\(arc)") }
          }
          if isLost {
            #expect(try pair.ask(0, "reset") == "ok")
            try pair.devices[0].set("activity", "peers state")
            try pair.waitUntilReceived(10)
          }
        }
      }
    }

    @Test("with leave to reset, a device in ERROR is brought back empty, which is said")
    func resets() throws {
      try withPair { pair in
        try pair.resetReferees()
        try pair.devices[0].set("arc_fail", "pre-copy-p2p:stop-copy 1 5 error")
        let ended = try save(pair, "--reset-on-error")
        #expect(ended.status == 1 && ended.err.contains("\(pair.nodes[0]) was reset"), "\(ended.err)")
        #expect(try pair.devices.allSatisfy { try $0.state == .running })
        #expect(try pair.referees().allSatisfy { $0.violations == 0 })
        #expect(try pair.devices[0].referee["resets"] == 1 && pair.devices[1].referee["resets"] == 0)
      }
    }

    @Test("a save whose data descriptor fails puts every device back")
    func dataFails() throws {
      try withPair { pair in
        try pair.resetReferees()
        try pair.devices[1].set("data_fail", "read 70000 5")
        let ended = try save(pair)
        #expect(ended.status == 1 && ended.err.contains("reading device state failed with EIO"), "\(ended.err)")
        #expect(try pair.devices.allSatisfy { try $0.state == .running })
        try pair.waitUntilReceived(10)
        #expect(try pair.referees().allSatisfy { $0.complaints == [] })
      }
    }

    @Test("a load that a device does not take leaves all of them reset and empty, and says so")
    func loadFails() throws {
      try withPair { source in
        let folder = try Lab.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appendingPathComponent("stream").path
        #expect(try save(source, to: file).status == 0)
        // The same identities, but the second device was set up as a newer version.
        let target = try PeerGroup("target", count: 2)
        defer { target.remove() }
        try target.devices[1].set("version", "2")
        try target.open()
        try target.resetReferees()
        let holder = try #require(target.holder)
        let ended = try Lab.ferry(["load", file] + target.nodes + ["--pid", "\(holder.pid)", "--force"])
        #expect(ended.status == 1 && ended.err.contains("EINVAL"), "\(ended.err)")
        #expect(try target.devices[1].referee.text("refused_because") == "version")
        for device in target.devices {
          #expect(try device.state == .running, "\(ended.err)")
          #expect(try device.referee["resets"] == 1, "\(ended.err)")
          #expect(try device.referee.violations == 0)
        }
      }
    }

    @Test("a device that hangs on the way to its stop keeps the other from running until it answers")
    func hangs() throws {
      try withPair { pair in
        try pair.resetReferees()
        for device in pair.devices { try device.set("arc_time", "") }
        try pair.devices[0].set("arc_hang", "pre-copy-p2p:stop-copy 1")
        defer { try? pair.devices[0].set("release", "1") }
        let said = Pipe()
        let process = Process()
        process.executableURL = Lab.ferryProgram
        process.arguments =
          ["save"] + pair.nodes + ["--pid", "\(try #require(pair.holder).pid)", "--force", "-o", "/dev/null"]
        process.standardError = said
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        try Lab.waitUntilHung(pid: process.processIdentifier)
        kill(process.processIdentifier, SIGINT)
        var text = ""
        while !text.contains("has not answered") {
          let data = said.fileHandleForReading.availableData
          if data.isEmpty { break }
          text += String(decoding: data, as: UTF8.self)
        }
        #expect(text.contains("\(pair.nodes[0]) has not answered"), "\(text)")
        #expect(try pair.devices[1].state?.mayStartPeerTransfers == false)
        try pair.devices[0].set("release", "1")
        process.waitUntilExit()
        #expect(process.terminationStatus == 1)
        #expect(try pair.devices.allSatisfy { try $0.state == .running })
        try pair.waitUntilReceived(10)
        #expect(try pair.referees().allSatisfy { $0.complaints == [] })
      }
    }
  }
}
