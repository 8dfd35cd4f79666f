// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing
import VFIO

extension LabTests {
  /// Processes that die with a synthetic device in their hands, and what closing and opening one do.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct CrashTests {
    private func run(_ program: String, _ arguments: String...) throws -> Int32 {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: program)
      process.arguments = arguments
      try process.run()
      process.waitUntilExit()
      return process.terminationStatus
    }

    @Test(
      "after a process was killed in any state, the device is removed and the module unloads and loads again",
      arguments: MigrationState.allCases)
    func killed(state: MigrationState) throws {
      let module = try #require(Lab.syntheticModule)
      // Behind an IOMMU of its own there is more to give back.
      let devices = try Synthetic.IOMMU.allCases.map { iommu in
        try Synthetic(
          "killed",
          [
            "iommu": iommu.rawValue, "state_bytes": "64K", "state_rate": "1000", "after_reset": "state dma peers",
            "dma_ranges": "0x100000+64K", "dma_rate": "1000",
          ])
      }
      for device in devices {
        try bring(device, into: state)
        device.remove()
      }
      // Nobody may be asked to unload a module that is in use: this fails if anything was left behind.
      #expect(try run("/usr/sbin/rmmod", "vfio_synthetic") == 0)
      #expect(!Files.exists(Synthetic.configuration) && !Files.exists(Synthetic.debug))
      try #require(try run("/usr/sbin/insmod", module) == 0)
      let again = try Synthetic("again")
      #expect(try again.state == .running)
      again.remove()
    }

    /// Has a process take the device into a state, and kills it there.
    private func bring(_ device: Synthetic, into state: MigrationState) throws {
      let holder = try DeviceHolder(device.node)
      let graph = StateGraph(features: [.stopCopy, .p2p, .preCopy])
      if state == .error {
        try device.set("arc_fail", "running:running-p2p 1 5 error")
        #expect(holder.ask("set stop") == "errno EIO SET MIG_DEVICE_STATE")
      } else {
        for next in try #require(graph.path(from: .running, to: state)) { #expect(holder.ask("set \(next)") == "ok") }
      }
      // In the middle of its data, where it has any.
      if state.isSaving { #expect(holder.ask("read 1000").hasPrefix("1000 ")) }
      if state == .resuming { #expect(holder.ask("write 00112233") == "ok") }
      #expect(try device.state == state)
      let resets = try device.referee["resets"]
      holder.crash()
      #expect(try device.state == .running)
      #expect(try device.referee["resets"] == resets + 1)
      #expect(try device.referee["open"] == 0)
    }

    @Test("opening resets and closing resets, as with PCI functions", arguments: [false, true])
    func resets(group: Bool) throws {
      let device = try Synthetic("resets")
      defer { device.remove() }
      try device.resetReferee()
      let holder = try DeviceHolder(device.name, group: group)
      #expect(try device.referee["resets"] == 1)
      #expect(holder.ask("poke 0 0x10 0x12345678 4") == "ok")
      #expect(holder.ask("peek 0 0x10 4") == "0x12345678")
      #expect(holder.ask("set stop") == "ok")
      holder.quit()
      #expect(try device.referee["resets"] == 2)
      #expect(try device.state == .running)
      let next = try DeviceHolder(device.name, group: group)
      #expect(next.ask("peek 0 0x10 4") == "0x00")
      next.quit()
      #expect(try device.referee["resets"] == 4)
    }

    @Test("told so, a device keeps registers and state while nobody holds it, as mtty does")
    func keeps() throws {
      let device = try Synthetic("keeps", ["bind_resets": "0", "close_resets": "0"])
      defer { device.remove() }
      try device.resetReferee()
      let holder = try DeviceHolder(device.node)
      #expect(holder.ask("poke 0 0x18 0x1122334455667788 8") == "ok")
      #expect(holder.ask("set stop") == "ok")
      holder.quit()
      #expect(try device.state == .stop)
      let next = try DeviceHolder(device.node)
      #expect(next.ask("state").hasSuffix(" stop"))
      #expect(next.ask("set running") == "ok")
      #expect(next.ask("peek 0 0x18 8") == "0x1122334455667788")
      next.quit()
      #expect(try device.referee["resets"] == 0)
    }

    @Test("a guest that resets its device in pre-copy ends the data session, and the device runs")
    func guestResets() throws {
      let device = try Synthetic("resets", ["state_bytes": "64K"])
      defer { device.remove() }
      let holder = try DeviceHolder(device.node)
      defer { holder.quit() }
      #expect(holder.ask("poke 0 0x10 7 4") == "ok")
      #expect(holder.ask("set pre-copy") == "ok")
      #expect(holder.ask("read 1000").hasPrefix("1000 "))
      try device.set("reset", "1")
      #expect(holder.ask("state").hasSuffix(" running"))
      #expect(holder.ask("read 1000") == "errno ENODEV read")
      #expect(holder.ask("info").hasPrefix("errno "))
      #expect(holder.ask("peek 0 0x10 4") == "0x00")
      // And a new session is a good one.
      #expect(holder.ask("set pre-copy") == "ok")
      #expect(holder.ask("read 1000").hasPrefix("1000 "))
    }

    @Test("a data descriptor that outlives its state, its device or both answers ENODEV and keeps nothing from going")
    func dataOutlives() throws {
      let synthetic = try Synthetic("outlives", ["state_bytes": "64K"])
      let data = try { () throws -> any MigrationData in
        let device = try synthetic.open()
        _ = try device.setMigrationState(.stop)
        let data = try #require(try device.setMigrationState(.stopCopy))
        _ = try device.setMigrationState(.stop)
        #expect(throws: DeviceError(.readData, .errno(.noDevice))) { try StatePairs.drained(data) }
        return try #require(try device.setMigrationState(.resuming))
      }()
      #expect(throws: DeviceError(.writeData, .errno(.noDevice))) { try data.write([1, 2, 3].span) }
      synthetic.remove()
      #expect(throws: DeviceError(.writeData, .errno(.noDevice))) { try data.write([1, 2, 3].span) }
    }
  }
}
