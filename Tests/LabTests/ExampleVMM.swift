// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO

/// A running tools/vmm-example, and the helpers that it starts: what they print, line by line.
///
/// For one thread at a time.
final class ExampleVMM {
  static let program = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent(".build/vmm-example").path

  /// While one is started no other is: a child that got another's pipe would keep it from ending.
  private static let starting = NSLock()

  private let process = Process()
  private let output: FileHandle
  private var pending = Data()
  /// All that was printed so far.
  private(set) var lines: [String] = []

  init(_ arguments: [String]) throws {
    process.executableURL = URL(fileURLWithPath: Self.program)
    process.arguments = arguments
    output = try Self.starting.withLock { [process] in
      let pipe = Pipe()
      process.standardInput = FileHandle.nullDevice
      process.standardOutput = pipe
      process.standardError = pipe
      try process.run()
      return pipe.fileHandleForReading
    }
  }

  var text: String { lines.joined(separator: "\n") }

  /// The line that says this, the last of them where it was printed already; waits for it otherwise.
  @discardableResult
  func wait(for words: String) throws -> String {
    if let line = lines.last(where: { $0.contains(words) }) { return line }
    return try waitForNext(words)
  }

  /// The next line that says this.
  @discardableResult
  func waitForNext(_ words: String) throws -> String {
    while let line = try nextLine() {
      if line.contains(words) { return line }
    }
    throw Lab.Overdue(description: "it ended before it said \"\(words)\":\n\(text)")
  }

  /// Nil at the end, which is when the VMM and its helpers have ended.
  func nextLine() throws -> String? {
    while true {
      if let end = pending.firstIndex(of: 10) {
        lines.append(String(decoding: pending[pending.startIndex..<end], as: UTF8.self))
        pending = Data(pending[(end + 1)...])
        return lines.last
      }
      var poll = pollfd(fd: output.fileDescriptor, events: Int16(POLLIN), revents: 0)
      guard unsafe Glibc.poll(&poll, 1, 120_000) > 0 else {
        throw Lab.Overdue(description: "two minutes passed without a word:\n\(text)")
      }
      let data = output.availableData
      if data.isEmpty { return nil }
      pending += data
    }
  }

  /// Sends the VMM a signal, if it lives.
  func send(_ signal: Int32) { if process.isRunning { kill(process.processIdentifier, signal) } }

  /// Kills the helper that it has now, and waits until that is dead.
  func killHelper() throws {
    let words = "helper: process "
    let line = try wait(for: words)
    guard let number = line.components(separatedBy: words).last.flatMap({ Int32($0) }) else {
      throw Lab.Overdue(description: "no process: \(line)")
    }
    kill(number, SIGKILL)
    // Its parent may or may not have waited for it yet.
    try Lab.wait(until: "the helper was dead") {
      let state = Files.text("/proc/\(number)/stat")?.split(separator: ")").last?.first { $0 != " " }
      return state == nil || state == "Z"
    }
  }

  /// Waits until it and its helpers have ended.
  /// - Returns: its exit status; that of a process that a signal ended is negative.
  func end() throws -> Int32 {
    while try nextLine() != nil {}
    process.waitUntilExit()
    return process.terminationReason == .uncaughtSignal ? -process.terminationStatus : process.terminationStatus
  }

  deinit { send(SIGKILL) }
}
