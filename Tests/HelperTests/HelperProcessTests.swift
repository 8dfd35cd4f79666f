// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import Testing

@testable import Helper
@testable import LinuxIO

@Suite("The helper as a program", .serialized)
struct HelperProcessTests {
  private static let products = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    .deletingLastPathComponent()

  /// A helper that has answered a hello, and its VMM's end of the connection.
  private func serving(
    _ options: [String], environment: [String: String] = [:], errors: Pipe? = nil
  ) throws -> (Process, PacketSocket) {
    let (mine, theirs) = try PacketSocket.pair()
    let process = Process()
    let program = Self.products.appendingPathComponent("vfio-ferry").path
    // By a shell, because a umask is a whole process's.
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", #"umask 077; exec "$0" "$@""#, program, "helper", "--fd", "0"] + options
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.standardInput = FileHandle(fileDescriptor: theirs.descriptor.rawValue)
    if let errors { process.standardError = errors } else { process.standardError = FileHandle.nullDevice }
    // Tests that a shell has put in the background ignore these, and so would what they start.
    for ignored in [SIGINT, SIGHUP] { _ = Glibc.signal(ignored, SIG_DFL) }
    try process.run()
    withExtendedLifetime(theirs) {}
    let hello = HelperRequest.hello(major: 1, minor: 0, features: [], version: "test")
    try mine.send(hello.packet(number: 1).span)
    var buffer = [UInt8](repeating: 0, count: HelperPacket.maximumSize)
    var span = buffer.mutableSpan
    guard case .packet = try mine.receive(into: &span) else {
      throw SystemError("greeting", "a helper", errno: EPIPE)
    }
    return (process, mine)
  }

  @Test(
    "a signal ends it as hanging up does: with a farewell where nothing is under way",
    arguments: [SIGTERM, SIGINT, SIGHUP], [[], ["--unconfined"]])
  func signal(signal: Int32, options: [String]) throws {
    let errors = Pipe()
    let (process, vmm) = try serving(options, errors: errors)
    #expect(kill(process.processIdentifier, signal) == 0)
    process.waitUntilExit()
    #expect(process.terminationReason == .exit && process.terminationStatus == 0)
    // Its confinement has refused it nothing.
    let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    #expect(text.isEmpty != options.contains("--unconfined"), "\(text)")
    withExtendedLifetime(vmm) {}
  }

  /// The signals that a process was sent and has not taken, as a set of bits; nil once it has ended.
  private func pending(_ process: Process) -> UInt64? {
    let lines = Files.text("/proc/\(process.processIdentifier)/status")?.split(separator: "\n") ?? []
    func value(_ name: String) -> Substring? {
      lines.first { $0.hasPrefix(name + ":") }?.dropFirst(name.count + 1).drop { $0 == "\t" }
    }
    if value("State")?.hasPrefix("Z") != false { return nil }
    return value("ShdPnd").flatMap { UInt64($0, radix: 16) }
  }

  /// Sends a signal, and waits until the process's thread for signals has taken it: what it was sent before is dealt with then.
  private func tell(_ process: Process, _ signal: Int32) throws {
    #expect(kill(process.processIdentifier, signal) == 0)
    while try #require(pending(process), "it has ended") & 1 << UInt64(signal - 1) != 0 { Pause.milliseconds(1) }
  }

  /// Writes to a pipe until that has no more room.
  private func fill(_ pipe: Pipe) throws {
    // Opened anew, so that who has the other descriptor goes on waiting for room.
    let path = "/proc/self/fd/\(pipe.fileHandleForReading.fileDescriptor)"
    let end = try Descriptor.open(path, O_WRONLY | O_NONBLOCK)
    for size in [4096, 1] {
      let bytes = [UInt8](repeating: UInt8(ascii: "."), count: size)
      do {
        while true { _ = try end.write(bytes.span) }
      } catch {
        try #require(error.errno == EAGAIN)
      }
    }
  }

  @Test(
    "a second signal ends it at once, though its last line waits for a log that nobody reads",
    arguments: [(SIGTERM, SIGTERM), (SIGINT, SIGINT), (SIGTERM, SIGINT), (SIGHUP, SIGTERM)])
  func secondSignal(first: Int32, second: Int32) throws {
    let (errors, ended) = (Pipe(), BlockingQueue<Void>())
    let (process, vmm) = try serving([], errors: errors)
    process.terminationHandler = { _ in ended.put(()) }
    defer { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }
    try fill(errors)
    // It ends by itself for this, with a line on why: so it can't.
    try vmm.send([1, 2, 3].span)
    var buffer = [UInt8](repeating: 0, count: HelperPacket.maximumSize)
    var span = buffer.mutableSpan
    guard case .packet = try vmm.receive(into: &span) else {
      Issue.record("it does not say what is wrong with the packet")
      return
    }
    try tell(process, first)
    // Only who has taken the first takes this one, which says nothing to a helper: so the first has not ended it.
    try tell(process, SIGUSR1)
    #expect(kill(process.processIdentifier, second) == 0)
    try #require(ended.take(until: monotonicMicroseconds() + 20_000_000) != nil, "it goes on")
    #expect(process.terminationReason == .exit && process.terminationStatus == 1)
    // Its line has not come behind what was there.
    let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    #expect(text.hasSuffix("."), "\(text.filter { $0 != "." })")
  }

  @Test("once it is ready it has no way to systemd any more")
  func notifier() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("notified-\(UUID().uuidString)").path
    let listener = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
    let descriptor = Descriptor(owning: listener, subject: path)
    let bound = unsafe try UnixAddress(path).with { unsafe Int(bind(listener, $0, $1)) }
    try #require(bound == 0)
    defer { try? FileManager.default.removeItem(atPath: path) }
    /// Sockets of a helper that serves; of a confined one only root may see them.
    func sockets(_ environment: [String: String]) throws -> Int {
      let (process, vmm) = try serving(["--unconfined"], environment: environment)
      defer {
        vmm.hangUp()
        process.waitUntilExit()
      }
      let folder = "/proc/\(process.processIdentifier)/fd"
      return Files.names(in: folder).count { Files.link("\(folder)/\($0)")?.hasPrefix("socket:") == true }
    }
    let without = try sockets([:])
    #expect(try sockets(["NOTIFY_SOCKET": path]) == without)
    var message = [UInt8](repeating: 0, count: 100)
    var span = message.mutableSpan
    let size = try descriptor.read(into: &span)
    #expect(String(decoding: message.prefix(size), as: UTF8.self) == "READY=1")
  }

  @Test(
    "metrics are the file of the user that it becomes, readable by all whatever the umask, also in a folder where only a file's owner may replace it",
    .enabled(if: getuid() == 0))
  func metricsOfUser() throws {
    // Where that user can get to.
    let folder = "/tmp/ferry-metrics-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let open = unsafe chmod(folder, 0o1777)
    try #require(open == 0)
    let file = "\(folder)/x.prom"
    let options = ["--user", "4711:4712", "--metrics", file]
    let errors = Pipe()
    let (process, vmm) = try serving(options, errors: errors)
    // It is there before the first answer; with a page of its own soon after.
    #expect(Files.ownership(file) == Files.Ownership(owner: 4711, group: 4712, mode: 0o644))
    let limit = monotonicMicroseconds() + 60_000_000
    while Files.text(file)?.isEmpty != false, monotonicMicroseconds() < limit { Pause.milliseconds(1) }
    #expect(Files.text(file)?.contains("vfio_ferry_helper_info") == true)
    vmm.hangUp()
    process.waitUntilExit()
    let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    #expect(process.terminationStatus == 0 && text.isEmpty, "\(text)")
    #expect(Files.names(in: folder).isEmpty)
  }

  @Test("while it waits for its VMM nobody can ask for its metrics in vain, and where they can't be it says at once")
  func metricsWhileWaiting() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("waiting-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
    let number = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
    let notified = Descriptor(owning: number, subject: path("notified"))
    let bound = unsafe try UnixAddress(path("notified")).with { unsafe Int(bind(number, $0, $1)) }
    try #require(bound == 0)
    func waiting(_ file: String) throws -> (Process, Pipe) {
      let process = Process()
      let errors = Pipe()
      process.executableURL = Self.products.appendingPathComponent("vfio-ferry")
      process.arguments = ["helper", "--listen", path("vmm"), "--metrics", file, "--metrics-socket", path("socket")]
      process.environment = ProcessInfo.processInfo.environment.merging(["NOTIFY_SOCKET": path("notified")]) { $1 }
      process.standardInput = FileHandle.nullDevice
      process.standardError = errors
      try process.run()
      return (process, errors)
    }
    let (process, errors) = try waiting(path("x.prom"))
    // It says so when it listens.
    var message = [UInt8](repeating: 0, count: 100)
    var messageSpan = message.mutableSpan
    _ = try notified.read(into: &messageSpan)
    #expect(Files.names(in: folder.path) == ["notified", "vmm"])
    let client = Descriptor(owning: socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0), subject: "the VMM")
    let own = client.rawValue
    let connected = unsafe try UnixAddress(path("vmm")).with { unsafe Int(connect(own, $0, $1)) }
    try #require(connected == 0)
    let vmm = try PacketSocket(adopting: client)
    try vmm.send(HelperRequest.hello(major: 1, minor: 0, features: [], version: "test").packet(number: 1).span)
    var buffer = [UInt8](repeating: 0, count: HelperPacket.maximumSize)
    var span = buffer.mutableSpan
    _ = try vmm.receive(into: &span)
    #expect(Set(Files.names(in: folder.path)).isSuperset(of: ["socket", "x.prom"]))
    vmm.hangUp()
    process.waitUntilExit()
    let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    #expect(process.terminationStatus == 0 && text.isEmpty, "\(text)")
    #expect(Files.names(in: folder.path) == ["notified"])
    for file in [path("none/x.prom"), folder.path] {
      let (process, errors) = try waiting(file)
      process.waitUntilExit()
      let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      #expect(process.terminationStatus == 1 && text.contains("metrics: "), "\(text)")
      #expect(Files.names(in: folder.path) == ["notified"])
    }
  }
}
