// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

extension LabTests {
  /// Two VMMs that share no code with the helper, each written from the header and the document.
  @Suite(.serialized)
  struct HelperProgramTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    private static let helper = Lab.ferryProgram.path

    /// Starts a program whose output is kept.
    private func start(_ program: String, _ arguments: [String]) throws -> (Process, Pipe) {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: program)
      process.arguments = arguments
      process.currentDirectoryURL = Self.root
      let output = Pipe()
      process.standardOutput = output
      process.standardError = output
      try process.run()
      return (process, output)
    }

    private func end(_ running: (Process, Pipe)) -> (status: Int32, text: String) {
      let text = String(decoding: running.1.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      running.0.waitUntilExit()
      return (running.0.terminationStatus, text)
    }

    @Test(
      "a client in Python that knows the header and the document only moves devices and memory, and is told no untruth")
    func python() throws {
      let ended = try end(
        start("/usr/bin/python3", ["Tests/helper-client/client.py", "--helper", Self.helper]))
      let lines = ended.text.split(separator: "\n")
      #expect(ended.status == 0, "\(lines.filter { !$0.hasPrefix("ok ") }.joined(separator: "\n"))")
      #expect(lines.count { $0.hasPrefix("ok ") } > 100)
    }

    @Test("the example VMM in C moves two devices with what is in their registers, and their interrupts")
    func example() throws {
      let program = Self.root.appendingPathComponent(".build/vmm-example").path
      try #require(FileManager.default.fileExists(atPath: program), "tools/vmm-example/build makes it")
      let common = ["--peer", "/run/vmm-example-peer", "--helper", Self.helper, "--memory", "0"]
      let devices = Lab.mtty
      try #require(devices.count >= 4)
      let destination = try start(program, ["destination", devices[2], devices[3], "--expect-mark"] + common)
      let source = try end(start(program, ["source", devices[0], devices[1], "--mark"] + common))
      let arrived = end(destination)
      #expect(source.status == 0, "\(source.text)")
      #expect(arrived.status == 0, "\(arrived.text)")
    }

    @Test(
      "helpers that systemd starts from this project's units move devices, confined; another program in their place gets no file and no socket, and the journal has what it tried"
    )
    func systemd() throws {
      let ended = try end(
        start("Tests/helper-client/under-systemd", [Lab.ferryProgram.path, Lab.program("confined-attempts").path]))
      let lines = ended.text.split(separator: "\n")
      #expect(ended.status == 0, "\(ended.text)")
      #expect(lines.count { $0.hasPrefix("ok ") } > 30, "\(ended.text)")
    }

    @Test(
      "the example VMM moves devices under DMA and peer traffic with guest memory, and the referee has nothing to say",
      .enabled(if: Lab.synthetic), arguments: [[], ["--pages-by-vmm"]])
    func synthetic(options: [String]) throws {
      let ended = try end(
        start("/usr/bin/env", ["HELPER=\(Self.helper)", Self.root.path + "/tools/vmm-example/synthetic"] + options))
      #expect(ended.status == 0, "\(ended.text)")
      #expect(ended.text.contains("guest memory is what it was on the source"), "\(ended.text)")
      var counts: [String: Int] = [:]
      for line in ended.text.split(separator: "\n") {
        let words = line.split(separator: " ")
        if words.count == 2, let count = Int(words[1]) { counts[String(words[0]), default: 0] += count }
      }
      for name in ["dma_unreported", "dma_unmapped_unreported"] { #expect(counts[name] == 0, "\(name)") }
      // The VMM puts configuration space back in STOP, as it should, and the first device of the source is at work before the
      // second is open, which is nobody's fault here.
      let excused: Set = ["config_quiesced", "peer_arrived_closed"]
      #expect(Referee(counts).complaints(except: excused) == [])
      #expect(counts["dma_pages"] ?? 0 > 1000 && counts["peer_received"] ?? 0 > 100 && counts["loads_verified"] == 2)
    }

    /// Runs a helper, and says in a line of its own how much memory it had at most.
    private static let measured = """
      #!/usr/bin/python3
      import os, resource, subprocess, sys
      status = subprocess.run(["HELPER"] + sys.argv[1:], close_fds=False).returncode
      line = f"helper_peak_kib {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}\\n"
      os.write(2, line.encode()) # at one stroke: two of these end at the same moment
      sys.exit(status)

      """

    @Test("moving 1 GiB of state takes neither helper more than 64 MiB of memory", .enabled(if: Lab.synthetic))
    func memory() throws {
      let folder = try Lab.temporaryFolder()
      defer { try? FileManager.default.removeItem(at: folder) }
      let program = folder.appendingPathComponent("measured")
      try Self.measured.replacingOccurrences(of: "HELPER", with: Self.helper)
        .write(to: program, atomically: false, encoding: .utf8)
      try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program.path)
      let ended = try end(
        start(
          "/usr/bin/env",
          [
            "HELPER=\(program.path)", "STATE_BYTES=512M", Self.root.path + "/tools/vmm-example/synthetic",
            // However slow the machine: it is about memory.
            "--downtime", "600000",
          ]))
      #expect(ended.status == 0, "\(ended.text)")
      let peaks = ended.text.split(separator: "\n").filter { $0.hasPrefix("helper_peak_kib ") }
        .compactMap { Int($0.dropFirst(16)) }
      #expect(peaks.count == 2 && peaks.allSatisfy { $0 > 1024 && $0 < 64 << 10 }, "\(peaks) KiB: \(ended.text)")
    }
  }
}
