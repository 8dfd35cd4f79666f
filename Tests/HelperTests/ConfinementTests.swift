// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Testing

@testable import Helper

/// A process that confines itself as a helper does, and tries things: Tests/confined-attempts.
@Suite("What a helper can't do any more", .serialized)
struct ConfinementTests {
  private static let products = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    .deletingLastPathComponent()

  private struct Ended {
    let status: Int32
    let out: [Substring]
    let err: [Substring]
  }

  private static func run(
    _ program: String, _ arguments: [String] = [], environment: [String: String] = [:],
    input: FileHandle = .nullDevice
  ) throws -> Ended {
    let process = Process()
    process.executableURL = products.appendingPathComponent(program)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.standardInput = input
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("confined-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    var texts: [[Substring]] = []
    let files = ["out", "err"].map { folder.appendingPathComponent($0) }
    for file in files { _ = FileManager.default.createFile(atPath: file.path, contents: nil) }
    process.standardOutput = try FileHandle(forWritingTo: files[0])
    process.standardError = try FileHandle(forWritingTo: files[1])
    try process.run()
    process.waitUntilExit()
    for file in files { texts.append(try String(contentsOf: file, encoding: .utf8).split(separator: "\n")) }
    return Ended(status: process.terminationStatus, out: texts[0], err: texts[1])
  }

  /// What becomes of each attempt, with what is said of it on standard error, where something is.
  private static let policy: [(attempt: String, outcome: String, told: String?)] = [
    ("a thread", "allowed", nil), ("memory", "allowed", nil), ("locked memory", "allowed", nil),
    ("a sealed file in memory", "allowed", nil), ("a bell", "allowed", nil), ("reading sysfs", "allowed", nil),
    ("listing sysfs", "allowed", nil), ("an ioctl of VFIO's", "ENOTTY", nil),
    ("a descriptor that was left open", "EBADF", nil),
    ("a network socket", "EPERM", "socket (number "), ("a Unix socket", "EPERM", "socket (number "),
    ("a netlink socket", "EPERM", "socket (number "), ("a pair of sockets", "EPERM", "socketpair (number "),
    ("connecting", "EPERM", "connect (number "), ("sending to an address", "EPERM", "sendto (number "),
    ("removing a file", "EPERM", "unlinkat (number "), ("changing a mode", "EPERM", "fchmod (number "),
    ("making a folder", "EPERM", "mkdirat (number "),
    ("opening past the handler", "EPERM", "openat2 (number "), ("running a program", "EPERM", "execve (number "),
    ("a new process", "EPERM", "clone (number "), ("clone3", "ENOSYS", nil),
    ("tracing a process", "EPERM", "ptrace (number "), ("signalling a process", "EPERM", "kill (number "),
    ("reading a process's memory", "EPERM", "process_vm_readv (number "),
    ("taking hold of a process", "EPERM", "pidfd_open (number "), ("mounting", "EPERM", "mount (number "),
    ("a namespace", "EPERM", "unshare (number "), ("a BPF program", "EPERM", "bpf (number "),
    ("io_uring", "EPERM", "io_uring_setup (number "), ("raising a limit", "EPERM", "prlimit64 (number "),
    ("being dumpable", "EPERM", "prctl (number "), ("being root", "EPERM", "setresuid (number "),
    ("taking SIGSYS", "EPERM", "rt_sigaction (number "), ("another ioctl", "EPERM", "ioctl (number "),
    ("memory to run", "EPERM", "mmap (number "), ("making memory a program", "EPERM", "mprotect (number "),
  ]

  /// The same for files, which Landlock keeps from it.
  private static let files: [(attempt: String, outcome: String, told: String?)] = [
    ("reading a file", "EACCES", "opening /etc/passwd (EACCES)"),
    ("writing to sysfs", "EACCES", "opening /sys/bus/pci/rescan (EACCES)"),
    ("reading procfs", "EACCES", "opening /proc/self/maps (EACCES)"),
    ("opening a device", "EACCES", "opening /dev/zero (EACCES)"),
    ("listing the root folder", "EACCES", "opening / (EACCES)"),
    ("making a file", "EACCES", "opening /tmp/vfio-ferry-attempt (EACCES)"),
    ("a temporary file", "EACCES", "opening /tmp (EACCES)"),
  ]

  private static func check(_ ended: Ended, _ policy: [(attempt: String, outcome: String, told: String?)]) {
    var told = ended.err[...]
    for (attempt, outcome, words) in policy {
      #expect(ended.out.contains("\(attempt): \(outcome)"), "\(attempt): \(ended.out)")
      guard let words else { continue }
      let line = told.firstIndex { $0.hasPrefix("confined-attempts: refused: \(words)") }
      #expect(line != nil, "\(words) is not told of: \(ended.err)")
      if let line { told.remove(at: line) }
    }
  }

  @Test("system calls: those that it needs are allowed, all others fail and are told of")
  func calls() throws {
    let ended = try Self.run("confined-attempts")
    #expect(ended.status == 0, "\(ended.out) \(ended.err)")
    Self.check(ended, Self.policy)
  }

  @Test(
    "files: only sysfs can be read, and who tries another is told of with its path", .enabled(if: FileRules.version > 0)
  )
  func rules() throws { Self.check(try Self.run("confined-attempts"), Self.files) }

  @Test(
    "metrics' file lets it make and remove files in one folder, their socket remove some, and neither lets it do more",
    .enabled(if: FileRules.version > 0))
  func metricsFolders() throws {
    defer { try? FileManager.default.removeItem(atPath: "/tmp/vfio-ferry-attempt") }
    // ENOENT: it might, and there is nothing.
    for (folders, made) in [(["", "/tmp"], "EACCES"), (["/tmp"], "allowed")] {
      let ended = try Self.run("confined-attempts", [""] + folders)
      for line in ["making a file: \(made)", "removing a file: ENOENT", "changing a mode: EPERM"] {
        #expect(ended.out.contains(line[...]), "\(line): \(ended.out)")
      }
      let folder = Self.files.filter { !["making a file", "a temporary file"].contains($0.attempt) }
      Self.check(ended, Self.policy.filter { $0.attempt != "removing a file" } + folder)
    }
    // Nor in another folder.
    Self.check(try Self.run("confined-attempts", ["", "/var", "/var"]), Self.files)
  }

  @Test("where the kernel has no Landlock it says so, and goes on", .enabled(if: FileRules.version == 0))
  func noLandlock() throws {
    let ended = try Self.run("confined-attempts")
    #expect(ended.out.contains { $0.hasPrefix("weakness: this kernel has no Landlock") })
  }

  @Test("nothing else is refused, so no part of a helper's start runs into its confinement")
  func quiet() throws {
    let ended = try Self.run("confined-attempts")
    let told = (Self.policy + Self.files).compactMap(\.told)
    let rest = ended.err.filter { line in !told.contains { line.hasPrefix("confined-attempts: refused: \($0)") } }
    #expect(rest == [])
  }

  @Test("as another user it is that user in every way, and can do as much and as little", .enabled(if: getuid() == 0))
  func user() throws {
    let ended = try Self.run("confined-attempts", ["4711:4712"])
    #expect(ended.out.contains("user: 4711 4711 4712 4712"), "\(ended.out)")
    Self.check(ended, Self.policy)
  }

  @Test("without libseccomp a helper refuses to serve, in one line, and --unconfined serves")
  func noLibrary() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("no-seccomp-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    // An empty file is no library, and the loader looks no further.
    _ = FileManager.default.createFile(
      atPath: folder.appendingPathComponent("libseccomp.so.2").path, contents: Data())
    let (mine, theirs) = try PacketSocket.pair()
    let input = FileHandle(fileDescriptor: theirs.descriptor.rawValue)
    let environment = ["LD_LIBRARY_PATH": folder.path]
    let ended = try Self.run("vfio-ferry", ["helper", "--fd", "0"], environment: environment, input: input)
    #expect(ended.status == 3 && ended.err.count == 1, "\(ended.err)")
    #expect(ended.err.first?.contains("can't confine itself: libseccomp.so.2 can't be loaded") == true)
    mine.hangUp()
    let unconfined = try Self.run(
      "vfio-ferry", ["helper", "--fd", "0", "--unconfined"], environment: environment, input: input)
    #expect(unconfined.status == 0 && unconfined.err.first?.contains("UNCONFINED") == true, "\(unconfined.err)")
  }
}
