// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

/// A `vfio-ferry` of a network namespace, or of this one, that a test watches while it works.
final class FerryProcess {
  private let process = Process()
  private let output = Pipe()
  private let errors = Pipe()
  private var said = Data()

  var pid: Int32 { process.processIdentifier }

  init(_ arguments: [String], namespace: String? = nil) throws {
    let program = Lab.ferryProgram
    if let namespace {
      // It becomes the program, so the process is the program's.
      process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      process.arguments = ["ip", "netns", "exec", namespace, program.path] + arguments
    } else {
      process.executableURL = program
      process.arguments = arguments
    }
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = output
    process.standardError = errors
    try process.run()
  }

  /// Waits for a line of standard error that begins so.
  /// - Returns: the rest of it.
  func says(_ beginning: String) throws -> String {
    while true {
      let lines = String(decoding: said, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
      // The last one may be on its way.
      if let line = lines.dropLast().first(where: { $0.hasPrefix(beginning) }) {
        return String(line.dropFirst(beginning.count))
      }
      let data = errors.fileHandleForReading.availableData
      if data.isEmpty { throw Lab.Overdue(description: "vfio-ferry ended: \(String(decoding: said, as: UTF8.self))") }
      said += data
    }
  }

  func signal(_ number: Int32) {
    // What was waited for has no number any more.
    if process.isRunning { kill(pid, number) }
  }

  /// Stops it in the middle of whatever it does, until `SIGCONT`.
  func freeze() throws {
    signal(SIGSTOP)
    try Lab.wait(until: "process \(pid) stood still") {
      let stat = try String(contentsOfFile: "/proc/\(self.pid)/stat", encoding: .utf8)
      return stat.split(separator: ")").last?.split(separator: " ").first == "T"
    }
  }

  /// Waits for its end. Said again, what was printed is empty.
  func wait() -> Ended {
    let rest = output.fileHandleForReading.readDataToEndOfFile()
    said += errors.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return Ended(
      status: process.terminationStatus, out: String(decoding: rest, as: UTF8.self),
      err: String(decoding: said, as: UTF8.self))
  }

  deinit {
    guard process.isRunning else { return }
    signal(SIGKILL)
  }
}

extension Ended {
  /// What it printed as JSON.
  var object: [String: Any] {
    get throws { try FerryLines.object(out) }
  }

  /// The states that it printed, in the order of its devices.
  var states: [String?] {
    get throws {
      let devices = try #require(object["devices"] as? [[String: Any]], "\(out)\(err)")
      return devices.map { $0["state"] as? String }
    }
  }
}

/// Two hosts for a move: this network namespace, and one of its own at the other end of a link.
final class MoveHosts {
  static let namespace = "ferry-there"
  static let address = "10.98.1.2"
  private static let interface = "ferry0"

  init() throws {
    let batch = FileManager.default.temporaryDirectory.appendingPathComponent("batch-\(Self.interface)")
    // In one go: each program that starts takes long here.
    try """
    netns add \(Self.namespace)
    link add \(Self.interface) type veth peer name other netns \(Self.namespace)
    address add 10.98.1.1/24 dev \(Self.interface)
    link set \(Self.interface) up
    """.write(to: batch, atomically: true, encoding: .utf8)
    _ = try run("ip", "-batch", batch.path)
    try "address add \(Self.address)/24 dev other\nlink set other up\n"
      .write(to: batch, atomically: true, encoding: .utf8)
    _ = try run("ip", "-n", Self.namespace, "-batch", batch.path)
  }

  func cut() throws { _ = try run("ip", "link", "set", Self.interface, "down") }

  func remove() throws { _ = try run("ip", "netns", "delete", Self.namespace) }
}
