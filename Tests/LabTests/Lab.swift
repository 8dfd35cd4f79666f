// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
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
  /// The module of the synthetic devices, which is loaded when the lab has it.
  static let syntheticModule = environment["VFIO_FERRY_LAB_SYNTHETIC"]
  static let synthetic = syntheticModule != nil

  /// Where the programs under test were built: next to this test bundle.
  static let products = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()

  /// A program under test: as tools/lab/link-programs linked it, which starts sooner, unless that is older than what was built.
  static func program(_ name: String) -> URL {
    func changed(_ file: URL) -> Date? {
      (try? FileManager.default.attributesOfItem(atPath: file.path))?[.modificationDate] as? Date
    }
    let built = products.appendingPathComponent(name)
    let linked = products.appendingPathComponent("for-lab").appendingPathComponent(name)
    guard let when = changed(linked), let whenBuilt = changed(built), when >= whenBuilt else { return built }
    return linked
  }

  /// `vfio-ferry` itself.
  static let ferryProgram = program("vfio-ferry")

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

extension Lab {
  /// How much memory this process has locked.
  static func lockedKilobytes() throws -> Int {
    let line = try Files.readText("/proc/self/status").split(separator: "\n").first { $0.hasPrefix("VmLck:") }
    return try #require(line.flatMap { Int($0.filter(\.isNumber)) })
  }

  /// Something that was to become so did not, in a time in which it is sure to.
  struct Overdue: Error, CustomStringConvertible {
    let description: String
  }

  /// Waits for what the kernel tells in a file and nowhere else: there is no event, so it looks again and again.
  static func wait(until what: String, _ holds: () throws -> Bool) throws {
    let limit = ContinuousClock.now + .seconds(60)
    while try !holds() {
      guard ContinuousClock.now < limit else { throw Overdue(description: "a minute passed before \(what)") }
      usleep(1000)
    }
  }

  /// Waits until a thread of a process sleeps inside an ioctl and takes no signal: that is what a hung arc looks like.
  /// - Parameter thread: the thread's name; any thread will do without one.
  static func waitUntilHung(pid: Int32, thread: String? = nil) throws {
    // An arc that only takes its time, or waits for a lock, looks the same for a moment.
    var looks = 0
    try wait(until: "process \(pid) hung in an ioctl") {
      let isAsleep = Files.names(in: "/proc/\(pid)/task").contains { task in
        let folder = "/proc/\(pid)/task/\(task)"
        guard thread == nil || Files.text("\(folder)/comm") == thread,
          let state = Files.text("\(folder)/stat")?.split(separator: ")").last?.first(where: { $0 != " " }),
          let call = Files.text("\(folder)/syscall")?.split(separator: " ").first
        else { return false }
        // D, or I where the sleep does not count as load; 16 is ioctl(2).
        return "DI".contains(state) && call == "16"
      }
      looks = isAsleep ? looks + 1 : 0
      return looks == 20
    }
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
    try run(ferryProgram, arguments, input: input)
  }

  /// Runs a program to its end.
  static func run(_ program: URL, _ arguments: [String], input: String? = nil) throws -> Ended {
    let process = Process()
    process.executableURL = program
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
