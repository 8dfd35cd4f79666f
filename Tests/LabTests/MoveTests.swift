// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

extension LabTests {
  /// State that really moves: marks that another program left in one device are found in another.
  @Suite(.serialized, .enabled(if: Lab.isHere))
  struct MoveTests {
    private func inFolder(_ body: (String) throws -> Void) throws {
      let folder = try Lab.temporaryFolder()
      defer { try? FileManager.default.removeItem(at: folder) }
      try body(folder.path)
    }

    private func expectDone(_ ended: Ended) { #expect(ended.status == 0, "\(ended.err)") }

    @Test("registers of one device are read back from another after save and load")
    func one() throws {
      try inFolder { folder in
        try DeviceHolder.mark(Lab.mtty[0], [0x5a, 0xa5])
        try DeviceHolder.mark(Lab.mtty[1], [0, 0])
        expectDone(try Lab.ferry(["save", Lab.mtty[0], "-o", "\(folder)/s"]))
        expectDone(try Lab.ferry(["load", "\(folder)/s", Lab.mtty[1], "--", "true"]))
        #expect(try DeviceHolder.marks(Lab.mtty[1]) == [0x5a, 0xa5])
        // The source is as it was.
        #expect(try DeviceHolder.marks(Lab.mtty[0]) == [0x5a, 0xa5])
        #expect(try Lab.debugState(Lab.mtty[0]) == "RUNNING")
        #expect(try Lab.debugState(Lab.mtty[1]) == "RUNNING")
      }
    }

    @Test("two devices travel in one stream")
    func two() throws {
      try inFolder { folder in
        try DeviceHolder.mark(Lab.mtty[0], [0x11, 0x22])
        try DeviceHolder.mark(Lab.mtty[1], [0x33, 0x44])
        expectDone(try Lab.ferry(["save", Lab.mtty[0], Lab.mtty[1], "-o", "\(folder)/s"]))
        expectDone(try Lab.ferry(["load", "\(folder)/s", Lab.mtty[2], Lab.mtty[3], "--", "true"]))
        #expect(try DeviceHolder.marks(Lab.mtty[2]) == [0x11, 0x22])
        #expect(try DeviceHolder.marks(Lab.mtty[3]) == [0x33, 0x44])
      }
    }

    @Test("the same by group and container")
    func group() throws {
      try inFolder { folder in
        try DeviceHolder.mark(Lab.mtty[0], [0x61, 0x62], group: true)
        try DeviceHolder.mark(Lab.mtty[1], [0x63, 0x64], group: true)
        expectDone(try Lab.ferry(["save", "--group", Lab.mtty[0], Lab.mtty[1], "-o", "\(folder)/s"]))
        expectDone(try Lab.ferry(["load", "--group", "\(folder)/s", Lab.mtty[2], Lab.mtty[3], "--", "true"]))
        #expect(try DeviceHolder.marks(Lab.mtty[2], group: true) == [0x61, 0x62])
        #expect(try DeviceHolder.marks(Lab.mtty[3], group: true) == [0x63, 0x64])
      }
    }

    @Test(
      "a device that another process holds is saved and loaded, and that process notices nothing",
      arguments: [false, true])
    func held(group: Bool) throws {
      try inFolder { folder in
        let source = try DeviceHolder(Lab.mtty[0], group: group)
        source.mark([0x71, 0x72])
        let target = try DeviceHolder(Lab.mtty[4], group: group)
        target.mark([0, 0])
        let refused = try Lab.ferry(["save", Lab.mtty[0], "--pid", "\(source.pid)", "-o", "\(folder)/s"])
        #expect(refused.status == 3)
        #expect(refused.err.contains("--force"))
        expectDone(try Lab.ferry(["save", Lab.mtty[0], "--pid", "\(source.pid)", "--force", "-o", "\(folder)/s"]))
        #expect(source.marks() == [0x71, 0x72])
        #expect(source.ask("state").hasSuffix("running"))
        expectDone(
          try Lab.ferry(["load", "\(folder)/s", Lab.mtty[4], "--pid", "\(target.pid)", "--force", "--", "true"]))
        #expect(target.marks() == [0x71, 0x72])
        #expect(target.ask("state").hasSuffix("running"))
        source.quit()
        target.quit()
      }
    }

    @Test("a stream goes from one process to another through a pipe, and -- hands the device over")
    func pipe() throws {
      try inFolder { folder in
        try DeviceHolder.mark(Lab.mtty[0], [0x41, 0x42])
        let ferry = Lab.ferryProgram.path
        let script = """
          '\(ferry)' save \(Lab.mtty[0]) -o - | '\(ferry)' load - \(Lab.mtty[1]) -- \
          sh -c 'for d in $VFIO_FERRY_DEVICES; do readlink /proc/self/fd/${d#*=}; done; \
          readlink /proc/self/fd/$VFIO_FERRY_IOMMUFD' > \(folder)/out
          """
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", script]
        try process.run()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        let out = try String(contentsOfFile: "\(folder)/out", encoding: .utf8)
        #expect(out.contains("/dev/vfio/devices/vfio") && out.contains("/dev/iommu"), "\(out)")
        #expect(try DeviceHolder.marks(Lab.mtty[1]) == [0x41, 0x42])
      }
    }

    @Test("a descriptor that was inherited is adopted: the command that load becomes works on the device")
    func adopted() throws {
      try inFolder { folder in
        let ferry = Lab.ferryProgram.path
        expectDone(try Lab.ferry(["save", Lab.mtty[0], "-o", "\(folder)/s"]))
        let script = """
          n=${VFIO_FERRY_DEVICES#*=}; '\(ferry)' show \(Lab.mtty[1]) --fd $n && \
          '\(ferry)' state \(Lab.mtty[1]) --fd $n --through stop,running && '\(ferry)' state \(Lab.mtty[1]) --fd $n
          """
        let ended = try Lab.ferry(["load", "\(folder)/s", Lab.mtty[1], "--", "sh", "-c", script])
        expectDone(ended)
        #expect(ended.out.contains("stop-copy,p2p,pre-copy"), "\(ended.out)")
        #expect(ended.out.hasSuffix("running\n"), "\(ended.out)")
      }
    }

    @Test("a device that somebody else has bound is not opened, and the message says what to do")
    func busy() throws {
      let holder = try DeviceHolder(Lab.mtty[0])
      let ended = try Lab.ferry(["save", Lab.mtty[0], "-o", "/tmp/never"])
      #expect(ended.status == 1)
      #expect(ended.err.contains("EINVAL") && ended.err.contains("--pid"))
      #expect(!FileManager.default.fileExists(atPath: "/tmp/never"))
      holder.quit()
    }

    @Test("a save that keeps devices stopped holds them until SIGUSR1, and then they run")
    func keepStopped() throws {
      try inFolder { folder in
        let process = Process()
        process.executableURL = Lab.ferryProgram
        process.arguments = ["save", Lab.mtty[0], Lab.mtty[1], "--keep-stopped", "-o", "\(folder)/s"]
        let err = Pipe()
        process.standardError = err
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        var said = ""
        while !said.contains("holding") {
          let data = err.fileHandleForReading.availableData
          if data.isEmpty { break }
          said += String(decoding: data, as: UTF8.self)
        }
        #expect(try Lab.debugState(Lab.mtty[0]) == "STOP")
        #expect(try Lab.debugState(Lab.mtty[1]) == "STOP")
        kill(process.processIdentifier, SIGUSR1)
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        #expect(try Lab.debugState(Lab.mtty[0]) == "RUNNING")
        #expect(try Lab.debugState(Lab.mtty[1]) == "RUNNING")
      }
    }
  }
}
