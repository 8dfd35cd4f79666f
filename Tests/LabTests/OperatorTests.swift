// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

extension LabTests {
  /// What operators do to a command: odd redirections, signals, mistyped words.
  @Suite(.serialized, .enabled(if: Lab.isHere))
  struct OperatorTests {
    /// Runs a shell script with `$ferry`, `$holder`, `$a` and `$b` (two devices), in a folder of its own.
    private func shell(_ script: String) throws -> Ended {
      let folder = try Lab.temporaryFolder()
      defer { try? FileManager.default.removeItem(at: folder) }
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/bin/bash")
      process.arguments = ["-c", script]
      process.currentDirectoryURL = folder
      process.environment = Lab.environment.merging([
        "ferry": Lab.ferryProgram.path,
        "holder": Lab.program("device-holder").path, "a": Lab.mtty[0], "b": Lab.mtty[1],
      ]) { $1 }
      let output = Pipe()
      process.standardOutput = output
      process.standardError = output
      process.standardInput = FileHandle.nullDevice
      try process.run()
      let out = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      process.waitUntilExit()
      return Ended(status: process.terminationStatus, out: out, err: "")
    }

    @Test("standard output by any name gets the stream and nothing else, and /dev/stdout stays what it is")
    func standardOutput() throws {
      let ended = try shell(
        """
        set -e
        "$ferry" save $a -o /dev/stdout 2>/dev/null >stream; "$ferry" inspect stream
        "$ferry" save $a -o /dev/stdout 2>/dev/null | "$ferry" inspect -
        test -L /dev/stdout
        """)
      #expect(ended.status == 0, "\(ended.out)")
    }

    @Test("what a link leads to is replaced, and the link stays")
    func link() throws {
      let ended = try shell(
        """
        set -e
        echo old >target; ln -s target link; "$ferry" save $a -o link
        test -L link; "$ferry" inspect target; test "$(ls | sort | tr '\\n' ' ')" = "link target "
        """)
      #expect(ended.status == 0, "\(ended.out)")
    }

    @Test("without standard descriptors the stream is what it should be")
    func closedDescriptors() throws {
      let ended = try shell("\"$ferry\" save -v $a -o stream <&- >&- 2>&- && \"$ferry\" inspect stream")
      #expect(ended.status == 0, "\(ended.out)")
    }

    @Test("an output that can't be written is found before the device is opened; one that is full is a failure")
    func badOutput() throws {
      let missing = try shell("\"$ferry\" save $a -o no/such/folder/f")
      #expect(missing.status == 1 && missing.out.contains("No such file or directory"), "\(missing.out)")
      #expect(try shell("\"$ferry\" list >/dev/full").status == 1)
      let full = try shell("\"$ferry\" save $a -o /dev/full")
      #expect(full.status == 1 && full.out.contains("ENOSPC"), "\(full.out)")
      #expect(full.out.contains("is in running"), "\(full.out)")
    }

    @Test("a mistyped command is found before anything is loaded")
    func noCommand() throws {
      let ended = try shell("\"$ferry\" save $a -o s && \"$ferry\" load s $b -- no-such-command")
      #expect(ended.status == 4 && ended.out.contains("no-such-command"), "\(ended.out)")
      #expect(!ended.out.contains("loaded"), "\(ended.out)")
    }

    @Test("load holds what it opened until SIGTERM; SIGHUP under nohup and SIGUSR1 do not end that")
    func hold() throws {
      let ended = try shell(
        """
        set -e
        "$ferry" save $a -o s >/dev/null
        mkfifo said; nohup "$ferry" load s $b >out 2>said & pid=$!
        grep -m 1 holding <said >/dev/null
        kill -HUP $pid; kill -USR1 $pid
        "$ferry" save $b -o t 2>&1 | grep -q 'another process holds it'
        kill -TERM $pid; wait $pid
        "$ferry" save $b -o t >/dev/null
        """)
      #expect(ended.status == 0, "\(ended.out)")
    }

    @Test("load --pid returns once the state is in: the holder holds")
    func loadHeld() throws {
      let holder = try DeviceHolder(Lab.mtty[1])
      let ended = try shell(
        "\"$ferry\" save $a -o s && timeout 60 \"$ferry\" load s $b --pid \(holder.pid) --force")
      #expect(ended.status == 0, "\(ended.out)")
      holder.quit()
    }

    @Test("a file is loaded from where standard input stands in it")
    func offset() throws {
      let ended = try shell(
        """
        set -e
        "$ferry" save $a -o s >/dev/null; { printf 'a line before it\\n'; cat s; } >both
        { read -r line; "$ferry" inspect -; } <both
        { read -r line; "$ferry" load - $b -- true; } <both
        """)
      #expect(ended.status == 0, "\(ended.out)")
    }

    @Test("a device that was left in resuming is not asked for anything but a reset")
    func leftInResuming() throws {
      let ended = try shell(
        """
        "$ferry" state $a --through stop,resuming; echo "first $?"
        "$ferry" state $a --through stop; echo "second $?"
        "$ferry" state $a --through stop,running --reset-on-error; echo "third $?"
        """)
      #expect(ended.out.contains("first 0") && ended.out.contains("only a reset brings it back"), "\(ended.out)")
      #expect(ended.out.contains("second 3") && ended.out.contains("third 0"), "\(ended.out)")
      #expect(try Lab.debugState(Lab.mtty[0]) == "RUNNING")
    }

    @Test("on a device that a process holds, --force is no leave to send what the graph refuses")
    func forceHasOneMeaning() throws {
      let holder = try DeviceHolder(Lab.mtty[0])
      let refused = try shell("\"$ferry\" state $a --pid \(holder.pid) --force --through stop-copy,pre-copy")
      #expect(refused.status == 3, "\(refused.out)")
      #expect(holder.ask("state").hasSuffix("running"))
      holder.quit()
    }
  }
}
