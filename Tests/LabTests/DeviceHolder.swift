// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

/// A program that is not vfio-ferry and does what lines say, each with one line of answer: a stand-in for a VMM.
class Puppet {
  private let process = Process()
  private let input = Pipe()
  private let output = Pipe()
  private var pending = Data()

  var pid: Int32 { process.processIdentifier }

  /// - Parameter program: one that was built with the tests, or a path.
  init(_ program: String, _ arguments: [String]) throws {
    process.executableURL =
      program.hasPrefix("/") ? URL(fileURLWithPath: program) : Lab.program(program)
    process.arguments = arguments
    process.standardInput = input
    process.standardOutput = output
    try process.run()
    let first = readLine()
    try #require(first == "ready", "\(program) said \(first)")
  }

  /// Sends a line and waits for the answer.
  func ask(_ line: String) -> String {
    tell(line)
    return readLine()
  }

  /// Sends a line whose answer is a while in coming.
  func tell(_ line: String) { input.fileHandleForWriting.write(Data((line + "\n").utf8)) }

  /// The next answer, or "(ended)".
  func readLine() -> String {
    // One line at a time is asked for: what is there ends with the line or is its beginning.
    while pending.last != 10 {
      let data = output.fileHandleForReading.availableData
      if data.isEmpty { return "(ended)" }
      pending += data
    }
    defer { pending.removeAll() }
    return String(decoding: pending.dropLast(), as: UTF8.self)
  }

  func quit() {
    _ = ask("quit")
    process.waitUntilExit()
  }

  /// Ends it as a crash would.
  func crash() {
    kill(pid, SIGKILL)
    process.waitUntilExit()
  }

  deinit { if process.isRunning { process.terminate() } }
}

/// A program that holds devices.
final class DeviceHolder: Puppet {
  convenience init(_ device: String, group: Bool = false) throws { try self.init([device], group: group) }

  init(_ devices: [String], group: Bool = false) throws {
    try super.init("device-holder", (group ? ["--group"] : []) + devices)
  }
}

extension DeviceHolder {
  /// Leaves a mark in both ports of an mtty device: their scratch registers keep what is written.
  static func mark(_ device: String, _ ports: [UInt8], group: Bool = false) throws {
    let holder = try DeviceHolder(device, group: group)
    holder.mark(ports)
    holder.quit()
  }

  func mark(_ ports: [UInt8]) {
    for (port, value) in ports.enumerated() { #expect(ask("poke \(port) 7 \(value)") == "ok") }
  }

  func marks() -> [UInt8] {
    (0..<2).map { UInt8(ask("peek \($0) 7").dropFirst(2), radix: 16) ?? 0 }
  }

  /// The marks of a device that nobody holds.
  static func marks(_ device: String, group: Bool = false) throws -> [UInt8] {
    let holder = try DeviceHolder(device, group: group)
    defer { holder.quit() }
    return holder.marks()
  }
}
