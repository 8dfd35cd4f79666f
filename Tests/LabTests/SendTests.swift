// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing

extension LabTests {
  /// `send` and `receive`, each a process, the destination in a network namespace of its own.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct SendTests {
    @Test("two mtty devices move over TCP with what is in their registers, and a command has them in the end")
    func mtty() throws {
      let hosts = try MoveHosts()
      let devices = Lab.mtty
      try #require(devices.count >= 4)
      try DeviceHolder.mark(devices[0], [0x51, 0x52])
      try DeviceHolder.mark(devices[1], [0x61, 0x62])
      let program = "echo handed over $VFIO_FERRY_DEVICES, iommufd $VFIO_FERRY_IOMMUFD"
      let receive = try FerryProcess(
        ["receive", devices[2], devices[3], "--listen", "tcp:\(MoveHosts.address):0", "--", "sh", "-c", program],
        namespace: MoveHosts.namespace)
      let address = try receive.says("listening on ")
      let sent = try Lab.ferry(["send", "-j", devices[0], devices[1], "--to", address])
      let received = receive.wait()
      #expect(sent.status == 0, "\(sent.err)")
      #expect(received.status == 0, "\(received.err)")
      #expect(try sent.object["commitment"] as? String == "complete" && sent.states == ["stop", "stop"])
      #expect(try sent.object["downtime_us"] as? Int ?? 0 > 0)
      for device in devices[2...3] {
        #expect(received.out.contains("\(device): 96 bytes loaded; running\n"))
        #expect(received.out.contains("\(device)="))
      }
      #expect(received.out.contains("iommufd ") && received.err.contains("connected: 10.98.1.1:"))
      #expect(try DeviceHolder.marks(devices[2]) == [0x51, 0x52])
      #expect(try DeviceHolder.marks(devices[3]) == [0x61, 0x62])
      // mtty keeps its state when it is closed; the next test wants it running.
      for device in devices[0...1] {
        let resumed = try Lab.ferry(["state", device, "--through", "running"])
        #expect(resumed.status == 0, "\(resumed.err)")
        #expect(try MigrationState(name: Lab.debugState(device)) == .running)
      }
      try hosts.remove()
    }

    @Test("devices of a VMM that write to each other move there by TCP and back by a Unix socket: nothing is lost")
    func peers() throws {
      let hosts = try MoveHosts()
      let here = try PeerGroup("here", count: 2, ["arc_time": "all 200", "state_rate": "500"])
      defer { here.remove() }
      let there = try PeerGroup("there", count: 2, ["arc_time": "all 200", "state_rate": "500"])
      defer { there.remove() }
      try here.open(activity: "peers state")
      try there.open()
      try here.getAcquainted()
      try there.resetReferees()
      var sides = (from: here, to: there)
      for address in ["tcp:\(MoveHosts.address):0", "unix:/run/ferry-move"] {
        let receive = try FerryProcess(
          ["receive", "--listen", address, "--pid", "\(try #require(sides.to.holder).pid)", "--force"] + sides.to.nodes,
          namespace: address.hasPrefix("tcp") ? MoveHosts.namespace : nil)
        let target = try receive.says("listening on ")
        let sent = try Lab.ferry(
          ["send", "--to", target, "--pid", "\(try #require(sides.from.holder).pid)", "--force"] + sides.from.nodes)
        let received = receive.wait()
        try #require(sent.status == 0 && received.status == 0, "\(sent.err)\(received.err)")
        #expect(sent.out.contains("moved: no device ran for "))
        try sides.to.waitUntilReceived(10)
        for device in sides.from.devices { #expect(try device.state == .stop) }
        for device in sides.to.devices {
          #expect(try device.state == .running && device.referee["loads_verified"] == 1)
        }
        for device in here.devices + there.devices {
          let referee = try device.referee
          #expect(referee.complaints == [] && referee["peer_new_links"] == 0, "\(address), \(device.name)")
        }
        sides = (sides.to, sides.from)
      }
      #expect(!Files.exists("/run/ferry-move"))
      try hosts.remove()
    }

    @Test("where devices do not fit nothing is opened there, and the source hears why and goes on")
    func mismatch() throws {
      let (source, target) = (try Synthetic("source"), try Synthetic("target"))
      defer {
        source.remove()
        target.remove()
      }
      let holder = try DeviceHolder(source.node)
      defer { holder.quit() }
      try target.resetReferee()
      let receive = try FerryProcess(["receive", target.node, Lab.mtty[5], "--listen", "unix:/run/ferry-unfit"])
      let sent = try Lab.ferry(
        ["send", source.node, "--pid", "\(holder.pid)", "--force", "--to", try receive.says("listening on ")])
      let received = receive.wait()
      let reason = "the stream holds 1 devices"
      #expect(received.status == 3 && received.err.contains(reason), "\(received.err)")
      #expect(sent.status == 1 && sent.err.contains("the destination gave up: \(reason)"), "\(sent.err)")
      #expect(try source.state == .running && target.referee["resets"] == 0)
    }

    @Test("a source that was not answered holds its devices stopped, and they run on a person's word only")
    func holds() throws {
      let (source, target) = (try Synthetic("source"), try Synthetic("target"))
      defer {
        source.remove()
        target.remove()
      }
      let move = try StalledMove(source, target, at: .commit, "unix:/run/ferry-holds", holdsSource: false)
      move.receive.signal(SIGKILL)
      try target.set("release", "1")
      _ = move.receive.wait()
      _ = try move.send.says("holding 1 stopped")
      #expect(try source.state == .stop)
      move.send.signal(SIGUSR1)
      let sent = move.send.wait()
      #expect(
        sent.status == 1 && sent.err.contains("THEY MAY RUN") && sent.err.contains("run here again"), "\(sent.err)")
      #expect(try source.referee["arcs_refused"] == 0)
      move.quit()
    }

    @Test(
      "either side killed, or the link cut, at every part of a move: the kernel's states are those that are told, and never two run",
      arguments: Cut.allCases)
    func cuts(cut: Cut) throws {
      let hosts = cut == .link ? try MoveHosts() : nil
      var moves: [(Stall, StalledMove)] = []
      defer {
        for (_, move) in moves {
          move.quit()
          move.source.remove()
          move.target.remove()
        }
      }
      for stall in Stall.allCases {
        let address = cut == .link ? "tcp:\(MoveHosts.address):0" : "unix:/run/ferry-\(cut)-\(stall)"
        let (source, target) = (try Synthetic("source"), try Synthetic("target"))
        moves.append((stall, try StalledMove(source, target, at: stall, address)))
      }
      try hosts?.cut()
      print("states of the source and the destination as debugfs has them, \(cut):")
      for (stall, move) in moves {
        switch cut {
        case .killSource: move.send.signal(SIGKILL)
        case .killDestination: move.receive.signal(SIGKILL)
        case .link: break
        }
        // A source that is alive finds out although the destination still hangs.
        let sent = cut == .link ? move.send.wait() : nil
        try move.release(stall)
        let received = move.receive.wait()
        try check(stall, cut, move, sent: sent ?? move.send.wait(), received: received)
      }
      try hosts?.remove()
    }

    private func check(_ stall: Stall, _ cut: Cut, _ move: StalledMove, sent: Ended, received: Ended) throws {
      let (here, there) = (try #require(try move.source.state), try #require(try move.target.state))
      print("  \(stall): \(here), \(there)")
      if cut != .killSource {
        #expect(sent.status == 1, "\(stall): \(sent.err)")
        #expect(here == (stall == .commit ? .stop : .running), "\(stall)")
        #expect(try sent.states == [here.name], "\(stall)")
        #expect(try sent.object["commitment"] as? String == (stall == .commit ? "unanswered" : "none"))
        #expect(sent.err.contains("THEY MAY RUN") == (stall == .commit), "\(stall): \(sent.err)")
      }
      if cut != .killDestination {
        // Without the commit it has given up, and what runs is empty.
        #expect(received.status == (stall == .commit ? 0 : 1), "\(stall): \(received.err)")
        #expect(there == .running, "\(stall)")
        #expect(try received.states == [there.name], "\(stall)")
        let committed = try received.object["commitment"] as? String == "complete"
        #expect(committed == (stall == .commit), "\(stall)")
        if stall == .commit {
          #expect(try move.target.referee["loads_verified"] == 1)
        } else {
          // Before the stop it depends on which comes first, the end of the stream or the arc to RESUMING; later it does not.
          let steps = try #require(try received.object["steps"] as? [[String: Any]])
          let wasResuming = steps.contains { step in
            (step["arcs"] as? [[String: Any]] ?? []).contains { $0["to"] as? String == "resuming" }
          }
          let devices = try received.object["devices"] as? [[String: Any]]
          #expect(devices?.first?["reset"] as? Bool == wasResuming, "\(stall): \(received.out)")
          #expect(wasResuming || stall == .preCopy, "\(stall): \(received.out)")
        }
      }
      // At the destination only what has the commit runs with what it was given.
      #expect(!(here == .running && there == .running && stall == .commit), "\(stall)")
    }
  }
}

/// What ends a move before its time.
enum Cut: CaseIterable, CustomStringConvertible {
  case killSource, killDestination, link

  var description: String {
    switch self {
    case .killSource: "source-killed"
    case .killDestination: "destination-killed"
    case .link: "link-cut"
    }
  }
}

/// Where a move stands still.
enum Stall: CaseIterable, CustomStringConvertible {
  /// In pre-copy, because the destination stands still and answers nothing.
  case preCopy
  /// All devices of the source have stopped, and the destination's hang on their way out of resuming.
  case stop
  /// The source has let go, and the destination's devices hang on their way to running.
  case commit

  var description: String {
    switch self {
    case .preCopy: "pre-copy"
    case .stop: "stopped"
    case .commit: "committed"
    }
  }
}

/// A move of one device that stands still, and does not go on until it is told to.
final class StalledMove {
  let source: Synthetic
  let target: Synthetic
  let send: FerryProcess
  let receive: FerryProcess
  private let holders: [DeviceHolder]

  /// - Parameter holdsSource: whether a process holds the source's device, as a VMM does.
  init(_ source: Synthetic, _ target: Synthetic, at stall: Stall, _ address: String, holdsSource: Bool = true) throws {
    self.source = source
    self.target = target
    switch stall {
    case .preCopy: break
    case .stop: try target.set("arc_hang", "resuming:stop 1")
    case .commit: try target.set("arc_hang", "stop:running-p2p 1")
    }
    let there = try DeviceHolder(target.node)
    let here = holdsSource ? try DeviceHolder(source.node) : nil
    holders = [there] + (here.map { [$0] } ?? [])
    receive = try FerryProcess(
      ["receive", "-j", target.node, "--pid", "\(there.pid)", "--force", "--listen", address, "--dead-after", "1"],
      namespace: address.hasPrefix("tcp") ? MoveHosts.namespace : nil)
    let name = try receive.says("listening on ")
    // The kernel takes the connection for it.
    if stall == .preCopy { try receive.freeze() }
    send = try FerryProcess(
      ["send", "-j", source.node, "--to", name, "--dead-after", "1"]
        + (here.map { ["--pid", "\($0.pid)", "--force"] } ?? []))
    if stall == .preCopy {
      try Lab.wait(until: "the source was in pre-copy") { try source.state == .preCopy }
    } else {
      try Lab.waitUntilHung(pid: receive.pid)
    }
  }

  func release(_ stall: Stall) throws {
    if stall == .preCopy { receive.signal(SIGCONT) } else { try target.set("release", "1") }
  }

  /// Ends what is still there, so that nothing holds the devices any more.
  func quit() {
    for process in [send, receive] { process.signal(SIGKILL) }
    try? target.set("release", "1")
    for process in [send, receive] { _ = process.wait() }
    for holder in holders { holder.quit() }
  }
}
