// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing
import VFIO

extension LabTests {
  /// The ways in which drivers do pre-copy, which a synthetic device has as settings.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct PreCopyTests {
    private func withDevice(
      _ settings: KeyValuePairs<String, String>, _ body: (Synthetic, DeviceHolder) throws -> Void
    ) throws {
      let device = try Synthetic("precopy", settings)
      defer { device.remove() }
      let holder = try DeviceHolder(device.node)
      defer { holder.quit() }
      try body(device, holder)
    }

    /// Reads to the end of what there is.
    /// - Parameter file: what gets the bytes, at its end.
    /// - Returns: how many bytes, and how the end was said: "0" or an errno's name.
    private func drain(_ holder: DeviceHolder, into file: String = "/dev/null") -> (count: Int, end: String) {
      let words = holder.ask("drain \(file)").split(separator: " ")
      return (words.first.flatMap { Int($0) } ?? -1, String(words.last ?? ""))
    }

    private func info(_ holder: DeviceHolder) throws -> (initial: Int, dirty: Int) {
      let figures = holder.ask("info").split(separator: " ").compactMap { Int($0) }
      try #require(figures.count == 2)
      return (figures[0], figures[1])
    }

    /// Has the running device rewrite its state for a moment.
    private func rewrite(_ device: Synthetic) throws {
      let before = try device.referee["state_position"]
      try device.set("activity", "state")
      try Lab.wait(until: "pages were rewritten") { try device.referee["state_position"] > before + 5 }
      try device.set("activity", "")
    }

    @Test(
      "the temporary end is said as it was set, and the end of stop-copy is 0",
      arguments: [("enomsg", "ENOMSG"), ("zero", "0")])
    func ends(setting: String, said: String) throws {
      try withDevice(["pre_copy_end": setting, "state_bytes": "64K"]) { _, holder in
        #expect(holder.ask("set pre-copy") == "ok")
        #expect(drain(holder).end == said)
        #expect(drain(holder) == (0, said))
        #expect(holder.ask("set pre-copy-p2p") == "ok")
        #expect(drain(holder).end == said)
        #expect(holder.ask("set stop-copy") == "ok")
        #expect(drain(holder).end == "0")
        #expect(holder.ask("info") == "errno EINVAL GET_PRECOPY_INFO")
      }
    }

    @Test("initial bytes are as many as were set, rounded up to pages, and reading them leaves the dirty bytes")
    func initialBytes() throws {
      try withDevice(["initial_bytes": "100000", "state_bytes": "1M"]) { _, holder in
        #expect(holder.ask("set pre-copy") == "ok")
        let first = try info(holder)
        // 25 pages, and with them what the image has around its pages.
        #expect((25 * 4096..<26 * 4096).contains(first.initial), "\(first)")
        #expect((1 << 20..<(1 << 20) + (64 << 10)).contains(first.initial + first.dirty), "\(first)")
        #expect(holder.ask("read 4096").hasPrefix("4096 "))
        let second = try info(holder)
        #expect(second.initial == first.initial - 4096 && second.dirty == first.dirty, "\(first), then \(second)")
        #expect(drain(holder).count == first.initial + first.dirty - 4096)
        let third = try info(holder)
        #expect(third.initial == 0 && third.dirty == 0, "\(third)")
      }
    }

    @Test("all of the state is initial unless it was set otherwise")
    func allInitial() throws {
      try withDevice(["state_bytes": "128K"]) { _, holder in
        #expect(holder.ask("set pre-copy") == "ok")
        let first = try info(holder)
        #expect(first.initial >= 128 << 10 && first.dirty == 0, "\(first)")
      }
    }

    @Test("like mlx5, a device saves what became dirty when it is asked for the info, and not in PRE_COPY_P2P")
    func newByAsking() throws {
      try withDevice(["pre_copy_new": "asked", "state_bytes": "256K", "state_rate": "1000"]) { device, holder in
        #expect(holder.ask("set pre-copy") == "ok")
        _ = drain(holder)
        try rewrite(device)
        #expect(holder.ask("read 65536") == "errno ENOMSG read")
        let asked = try info(holder)
        #expect(asked.initial == 0 && asked.dirty >= 5 * 4096, "\(asked)")
        // The info is an estimate, as the uAPI says.
        #expect((asked.dirty..<asked.dirty + 4096).contains(drain(holder).count))
        #expect(holder.ask("set pre-copy-p2p") == "ok")
        try rewrite(device)
        let quiet = try info(holder)
        #expect(quiet.initial == 0 && quiet.dirty == 0, "\(quiet)")
        #expect(holder.ask("read 65536") == "errno ENOMSG read")
        // It is not lost: the rest is there once the device has stopped.
        #expect(holder.ask("set stop-copy") == "ok")
        #expect(drain(holder).count >= 5 * 4096)
      }
    }

    @Test("told so, a device gives what became dirty to whoever reads")
    func newByReading() throws {
      try withDevice(["pre_copy_new": "read", "state_bytes": "256K", "state_rate": "1000"]) { device, holder in
        #expect(holder.ask("set pre-copy") == "ok")
        _ = drain(holder)
        #expect(holder.ask("read 65536") == "errno ENOMSG read")
        try rewrite(device)
        let (count, end) = drain(holder)
        #expect(count >= 5 * 4096 && end == "ENOMSG")
      }
    }

    @Test("poll says what was set: always ready, or readable once there is data that was asked for")
    func poll() throws {
      let readable = 0x41  // POLLIN and POLLRDNORM
      for (setting, isReadyAtEnd) in [("none", true), ("asked", false)] {
        let settings: KeyValuePairs = ["poll": setting, "state_bytes": "256K", "state_rate": "1000"]
        try withDevice(settings) { device, holder in
          func isReady() -> Bool { Int(holder.ask("poll").dropFirst(2), radix: 16).map { $0 & readable != 0 } ?? false }
          #expect(holder.ask("set pre-copy") == "ok")
          _ = drain(holder)
          #expect(isReady() == isReadyAtEnd, "\(setting)")
          #expect(try info(holder).dirty == 0)
          #expect(isReady() == isReadyAtEnd, "\(setting), asked with nothing there")
          try rewrite(device)
          #expect(isReady() == isReadyAtEnd, "\(setting)")
          #expect(try info(holder).dirty > 0)
          #expect(isReady(), "\(setting)")
          _ = drain(holder)
          #expect(isReady() == isReadyAtEnd, "\(setting)")
          // The end of stop-copy has to be found by reading: it is something to read.
          #expect(holder.ask("set stop-copy") == "ok")
          #expect(isReady(), "\(setting)")
        }
      }
    }

    @Test("an image that was read in pieces, with rewriting in between, is the device's last state")
    func wholeImage() throws {
      for way in ["asked", "read"] {
        let settings: KeyValuePairs = [
          "pre_copy_new": way, "state_bytes": "256K", "state_rate": "1000", "initial_bytes": "32K",
        ]
        try withDevice(settings) { device, holder in
          #expect(holder.ask("set pre-copy") == "ok")
          let image = "/tmp/\(device.name)"
          defer { try? FileManager.default.removeItem(atPath: image) }
          for _ in 1...3 {
            _ = drain(holder, into: image)
            try rewrite(device)
            _ = try info(holder)
          }
          #expect(holder.ask("set pre-copy-p2p") == "ok")
          #expect(holder.ask("set stop-copy") == "ok")
          #expect(drain(holder, into: image).end == "0")
          let digest = try device.digest
          try withDevice(["state_bytes": "256K"]) { target, other in
            for state in ["stop", "resuming"] { #expect(other.ask("set \(state)") == "ok") }
            #expect(other.ask("fill \(image)") == "ok")
            #expect(other.ask("set stop") == "ok")
            let arrived = try target.digest
            #expect(arrived == digest)
          }
        }
      }
    }

    @Test("initial data that is declared anew is reported where the kernel has a flag for it, and is never lost")
    func reinit() throws {
      let device = try Synthetic("precopy", ["state_bytes": "64K"])
      defer { device.remove() }
      var pairs = try StatePairs(device)
      try pairs.go(to: .preCopy)
      let data = try #require(pairs.data)
      var image = try StatePairs.drained(data)
      #expect(try data.preCopyInfo().restartedInitial == false)
      try device.set("reinit", "1")
      // Kernels before 7.1 have no such flag, and the program then reads none.
      _ = try data.preCopyInfo()
      image += try StatePairs.drained(data)
      for state in [MigrationState.preCopyP2P, .stopCopy] { _ = try pairs.device.setMigrationState(state) }
      image += try StatePairs.drained(data)
      try pairs.reset()
      try pairs.go(to: .resuming)
      try #require(pairs.data).write(image.span)
      #expect(try pairs.device.setMigrationState(.stop) == nil)
    }
  }
}
