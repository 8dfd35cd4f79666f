// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Testing
import Topology
import VFIO

@testable import vfio_ferry

/// All tests of the lab, one after the other: they share its devices.
@Suite(.serialized)
enum LabTests {}

/// The lab as tools/lab/run makes it: a real kernel with mtty devices.
enum Lab {
  static let environment = ProcessInfo.processInfo.environment
  static let isHere = environment["VFIO_FERRY_LAB"] == "1"
  static let mtty = (environment["VFIO_FERRY_LAB_MTTY"] ?? "").split(separator: " ").map(String.init)
  static let nvme = environment["VFIO_FERRY_LAB_NVME"]

  /// Where the programs under test were built: next to this test bundle.
  static let products = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()

  static func record(_ name: String) throws -> DeviceRecord {
    try Inventory().device(try #require(DeviceName(name)))
  }

  static func open(_ name: String) throws -> KernelDevice {
    let record = try record(name)
    return try IOMMUFD().openDevice(node: try #require(record.node), name: record.name)
  }

  /// The state as the kernel's debugfs reports it: the judge, which shares no code with what is judged.
  static func debugState(_ name: String) throws -> String {
    let path = "/sys/kernel/debug/vfio/\(name)/migration/state"
    return try String(contentsOfFile: path, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
  }
}

/// What a program printed, and how it ended.
struct Ended {
  let status: Int32
  let out: String
  let err: String
}

extension Lab {
  /// Runs `vfio-ferry` as a process of its own.
  static func ferry(_ arguments: [String], input: String? = nil) throws -> Ended {
    let process = Process()
    process.executableURL = products.appendingPathComponent("vfio-ferry")
    process.arguments = arguments
    let folder = try temporaryFolder()
    defer { try? FileManager.default.removeItem(at: folder) }
    let out = folder.appendingPathComponent("out")
    let err = folder.appendingPathComponent("err")
    for file in [out, err] { _ = FileManager.default.createFile(atPath: file.path, contents: nil) }
    process.standardInput = input.flatMap { FileHandle(forReadingAtPath: $0) } ?? FileHandle.nullDevice
    process.standardOutput = try FileHandle(forWritingTo: out)
    process.standardError = try FileHandle(forWritingTo: err)
    try process.run()
    process.waitUntilExit()
    return Ended(
      status: process.terminationStatus, out: try String(contentsOf: out, encoding: .utf8),
      err: try String(contentsOf: err, encoding: .utf8))
  }

  static func temporaryFolder() throws -> URL {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("lab-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    return folder
  }
}

/// A stand-in for a VMM: a program that is not vfio-ferry holds a device and obeys.
final class DeviceHolder {
  private let process = Process()
  private let input = Pipe()
  private let output = Pipe()
  private var pending: [UInt8] = []

  var pid: Int32 { process.processIdentifier }

  init(_ device: String, group: Bool = false) throws {
    process.executableURL = Lab.products.appendingPathComponent("device-holder")
    process.arguments = (group ? ["--group"] : []) + [device]
    process.standardInput = input
    process.standardOutput = output
    try process.run()
    let first = readLine()
    try #require(first == "ready", "device-holder said \(first)")
  }

  /// Sends a line and waits for the answer.
  func ask(_ line: String) -> String {
    input.fileHandleForWriting.write(Data((line + "\n").utf8))
    return readLine()
  }

  private func readLine() -> String {
    while true {
      if let end = pending.firstIndex(of: 10) {
        defer { pending.removeSubrange(...end) }
        return String(decoding: pending[..<end], as: UTF8.self)
      }
      let data = output.fileHandleForReading.availableData
      if data.isEmpty { return "(ended)" }
      pending += data
    }
  }

  func quit() {
    _ = ask("quit")
    process.waitUntilExit()
  }

  deinit { if process.isRunning { process.terminate() } }
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
