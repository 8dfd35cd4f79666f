// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

extension LabTests {
  /// udev's rules and `monitor` with a real systemd and udevd. The scripts are in Tests/udev; the machine is the one with an nvme
  /// that can have virtual functions.
  @Suite(.serialized, .enabled(if: Lab.nvme != nil))
  struct UdevTests {
    /// Runs a script beside udevd.
    /// - Returns: its lines.
    private func run(_ script: String) throws -> [Substring] {
      let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
      let process = Process()
      process.executableURL = root.appendingPathComponent("Tests/udev/under-udevd")
      process.arguments = [Lab.ferryProgram.path, Lab.program("device-holder").path, script]
      process.currentDirectoryURL = root
      let output = Pipe()
      process.standardOutput = output
      process.standardError = output
      try process.run()
      let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      process.waitUntilExit()
      #expect(process.terminationStatus == 0, "\(text)")
      return text.split(separator: "\n")
    }

    @Test(
      "two hundred devices come and go: each has its properties, modes and link, leaves nothing, and is told of; whoever uses another is not disturbed"
    )
    func devices() throws {
      #expect(try run("devices.py").count { $0.hasPrefix("ok ") } > 50)
    }

    @Test("a physical function is prepared when it gets its driver, and nothing else is")
    func prepare() throws {
      #expect(try run("prepare.py").count { $0.hasPrefix("ok ") } >= 9)
    }

    @Test(
      "the unit that prepares may do what that takes, and sees who has a device; a driver that goes and comes back leaves no record"
    )
    func sandbox() throws {
      #expect(try run("sandbox.py").count { $0.hasPrefix("ok ") } == 32)
    }
  }
}
