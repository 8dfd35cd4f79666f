// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Testing

/// Texts that processes hold, with real ones: `throttle-holder`.
struct HeldTextTests {
  /// A process that holds a text.
  private final class Holder {
    private let process = Process()
    private let (input, output) = (Pipe(), Pipe())
    private var pending = Data()

    var pid: Int32 { process.processIdentifier }

    init(_ folder: PrivateFolder) throws {
      let own = try #require(Files.link("/proc/self/exe"))
      process.executableURL = URL(fileURLWithPath: own).deletingLastPathComponent()
        .appendingPathComponent("throttle-holder")
      process.arguments = [folder.path, "text", "record"]
      process.standardInput = input
      process.standardOutput = output
      try process.run()
      #expect(answer() == "ready")
    }

    func tell(_ line: String) { input.fileHandleForWriting.write(Data((line + "\n").utf8)) }

    func answer() -> String {
      while pending.last != 10 {
        let data = output.fileHandleForReading.availableData
        if data.isEmpty { return "(ended)" }
        pending += data
      }
      defer { pending.removeAll() }
      return String(decoding: pending.dropLast(), as: UTF8.self)
    }

    func ask(_ line: String) -> String {
      tell(line)
      return answer()
    }

    func crash() {
      kill(pid, SIGKILL)
      process.waitUntilExit()
    }

    deinit { if process.isRunning { process.terminate() } }
  }

  private func folder() throws -> PrivateFolder {
    let folder = PrivateFolder(
      path: FileManager.default.temporaryDirectory.appendingPathComponent("held-\(UUID().uuidString)").path)
    try folder.make()
    return folder
  }

  @Test("a text is held until its process lets it go or is killed, and by one process at a time")
  func oneAtATime() throws {
    let folder = try folder()
    let (one, other) = (try Holder(folder), try Holder(folder))
    #expect(one.ask("take") == "held" && other.ask("take") == "EEXIST" && folder.names == ["record"])
    #expect(one.ask("let go") == "ok" && folder.names.isEmpty)
    #expect(other.ask("take") == "held" && one.ask("take") == "EEXIST")
    other.crash()
    #expect(folder.names == ["record"])
    #expect(one.ask("take") == "cleaned \(other.pid), held")
  }

  @Test(
    "of processes that find what a killed one has left at the same moment one cleans up, and no new text is taken for the old"
  )
  func atTheSameMoment() throws {
    let folder = try folder()
    let holders = try (0..<4).map { _ in try Holder(folder) }
    for round in 0..<500 {
      // What one leaves that was killed. Written without a lock: a process that another test starts at this moment would have
      // that, too, until it has its program.
      try #require(
        FileManager.default.createFile(
          atPath: folder.path + "/record", contents: Data("old".utf8), attributes: [.posixPermissions: 0o600]))
      for holder in holders { holder.tell("take") }
      let answers = holders.map { $0.answer() }
      #expect(answers.count { $0.hasPrefix("cleaned old") } == 1, "round \(round): \(answers)")
      let held = holders.indices.filter { answers[$0].hasSuffix("held") }
      #expect(held.count == 1, "round \(round): \(answers)")
      #expect(
        !answers.contains { $0.hasPrefix("cleaned") && !$0.hasPrefix("cleaned old") }, "round \(round): \(answers)")
      #expect(
        try held.first.map {
          String(decoding: try folder.read("record", maximum: 100), as: UTF8.self) == "\(holders[$0].pid)"
        } == true)
      for holder in holders { #expect(holder.ask("let go") == "ok") }
      #expect(folder.names.isEmpty)
    }
  }
}
