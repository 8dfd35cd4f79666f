// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import LinuxIO
import Synchronization
import Testing

@testable import Metrics

@Suite("Metrics on their way out", .serialized)
struct MetricsServiceTests {
  private let folder: URL

  init() throws {
    Signals.ignoreBrokenPipes()
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("metrics-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  }

  private func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

  /// What somebody gets who says this and then nothing more.
  private func asked(_ path: String, _ words: String) throws -> String {
    let cancellation = try Cancellation()
    let socket = try StreamSocket.connect(path: path, until: monotonicMicroseconds() + 60_000_000, cancellation)
    let bytes = Array(words.utf8)
    var sent = 0
    while sent < bytes.count { sent += try socket.write(bytes.span.extracting(sent..<bytes.count)) }
    socket.endSending()
    var answer: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      try cancellation.wait(for: .read, on: socket, until: monotonicMicroseconds() + 60_000_000)
      var span = buffer.mutableSpan
      let count = try socket.read(into: &span)
      if count == 0 { break }
      answer += buffer[..<count]
    }
    return String(decoding: answer, as: UTF8.self)
  }

  @Test(
    "a socket answers with the page as it is now, in HTTP or without, and whoever says too little or hangs up hinders nobody"
  )
  func socket() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let count = Mutex(0)
    do {
      let places = MetricsPlaces(file: nil, listener: try StreamListener(path: path("socket"), mode: 0o660))
      let attributes = try FileManager.default.attributesOfItem(atPath: path("socket"))
      #expect(attributes[.posixPermissions] as? Int == 0o660)
      let service = try MetricsService(places) {
        count.withLock { count in
          count += 1
          return "x \(count)\n"
        }
      } log: {
        Issue.record("\($0)")
      }
      defer { service.end() }
      #expect(try asked(path("socket"), "") == "x 1\n")
      #expect(try asked(path("socket"), "GET / HTTP/1.0\r\n\r\n").hasSuffix("\r\n\r\nx 2\n"))
      #expect(try asked(path("socket"), "GET / HT").hasPrefix("HTTP/1.0 400 "))
      // Somebody who says nothing and stays; the next has his answer all the same.
      let silent = try StreamSocket.connect(
        path: path("socket"), until: monotonicMicroseconds() + 60_000_000, Cancellation())
      #expect(try asked(path("socket"), "").hasPrefix("x "))
      _ = consume silent
    }
    #expect(Files.names(in: folder.path).isEmpty)
  }

  @Test("a file has a whole page, and goes with the service")
  func file() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    do {
      let written = BlockingQueue<Void>()
      let service = try MetricsService(MetricsPlaces(file: MetricsFile(path: path("x.prom")))) {
        written.put(())
        return "x 1\n"
      } log: {
        Issue.record("\($0)")
      }
      defer { service.end() }
      _ = written.take()
      // The page was asked for; its file is there when it is written, or the service has ended.
      let limit = monotonicMicroseconds() + 60_000_000
      while Files.text(path("x.prom")) != "x 1", monotonicMicroseconds() < limit { sched_yield() }
      #expect(Files.names(in: folder.path) == ["x.prom"])
    }
    #expect(Files.names(in: folder.path).isEmpty)
  }

  @Test("a page takes the place of the one before, whoever reads that, and nothing of a failure is left")
  func replaced() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let file = MetricsFile(path: path("x.prom"))
    try file.write("one\n")
    let reader = try Descriptor.open(path("x.prom"), O_RDONLY)
    try file.write("two\n")
    var bytes = [UInt8](repeating: 0, count: 16)
    var span = bytes.mutableSpan
    let count = try reader.read(into: &span)
    #expect(String(decoding: bytes[..<count], as: UTF8.self) == "one\n" && Files.text(path("x.prom")) == "two")
    try FileManager.default.createDirectory(atPath: path("folder.prom/full"), withIntermediateDirectories: true)
    #expect(throws: SystemError.self) { try MetricsFile(path: path("folder.prom")).write("three\n") }
    #expect(Files.names(in: folder.path) == ["folder.prom", "x.prom"])
  }

  @Test("nothing but a regular file is written over, and nothing of it is left")
  func target() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    try FileManager.default.createSymbolicLink(atPath: path("link"), withDestinationPath: "elsewhere")
    let made = unsafe mkfifo(path("pipe"), 0o600)
    #expect(made == 0)
    for name in ["link", "pipe"] {
      let file = MetricsFile(path: path(name))
      #expect(throws: SystemError.self) { try file.check() }
      #expect(throws: SystemError.self) { try file.write("one\n") }
      file.remove()
    }
    #expect(Files.names(in: folder.path) == ["link", "pipe"])
    #expect(throws: SystemError.self) { try MetricsFile(path: path("none/x.prom")).check() }
    // What a process before this has left is.
    try Data("old".utf8).write(to: folder.appendingPathComponent("x.prom"))
    let file = MetricsFile(path: path("x.prom"))
    try file.check()
    file.remove()
    #expect(Files.text(path("x.prom")) == "old" && !file.isThere)
    try file.write("one\n")
    #expect(Files.text(path("x.prom")) == "one" && file.isThere)
  }

  @Test("a file that is another's by now is written anew, or left there")
  func another() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let (file, other) = (MetricsFile(path: path("x.prom")), MetricsFile(path: path("x.prom")))
    try file.write("one\n")
    try other.write("two\n")
    #expect(!file.isThere && other.isThere)
    file.remove()
    #expect(Files.text(path("x.prom")) == "two")
    other.remove()
    #expect(Files.names(in: folder.path).isEmpty && !other.isThere)
  }

  @Test("a file that somebody has removed is seen to be missing")
  func missing() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let file = MetricsFile(path: path("x.prom"))
    try file.write("x 1\n")
    Files.remove(path("x.prom"))
    #expect(!file.isThere)
  }

  @Test("a file that somebody has removed is written anew, though its page is the same")
  func anew() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let asked = BlockingQueue<Void>()
    let service = try MetricsService(
      MetricsPlaces(file: MetricsFile(path: path("x.prom"))), interval: 1000,
      page: {
        asked.put(())
        return "x 1\n"
      }, log: { Issue.record("\($0)") })
    defer { service.end() }
    /// Waits until a page that was asked for from now on has been written, where it is: the next has been asked for.
    func pages() {
      while asked.take(until: 0) != nil {}
      for _ in 0..<3 { _ = asked.take() }
    }
    pages()
    #expect(Files.text(path("x.prom")) == "x 1")
    Files.remove(path("x.prom"))
    pages()
    #expect(Files.text(path("x.prom")) == "x 1")
  }

  @Test("another file never has the inode of the one that was written, so it is not taken for that")
  func inode() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let (file, other) = (MetricsFile(path: path("x.prom")), MetricsFile(path: path("x.prom")))
    for _ in 0..<20 {
      try file.write("one\n")
      Files.remove(path("x.prom"))
      try other.write("two\n")
      #expect(!file.isThere && other.isThere)
    }
    file.remove()
    #expect(Files.text(path("x.prom")) == "two")
  }

  @Test(
    "whether another user could write it is found out as that user, and nothing of that stays",
    .enabled(if: getuid() == 0))
  func user() async {
    defer { try? FileManager.default.removeItem(at: folder) }
    // In a process with one thread that is not this one.
    await #expect(processExitsWith: .success) {
      let folder = "/tmp/ferry-user-\(getpid())"
      guard unsafe mkdir(folder, 0o700) == 0 else { exit(2) }
      defer { try? FileManager.default.removeItem(atPath: folder) }
      let user = ProcessUser(uid: 4711, gid: 4712)
      let file = MetricsFile(path: folder + "/x.prom")
      func can() -> Bool { (try? file.check(as: user)) != nil }
      func own(_ path: String, _ uid: uid_t, _ gid: gid_t, _ mode: mode_t) -> Bool {
        unsafe chown(path, uid, gid) == 0 && chmod(path, mode) == 0
      }
      for (uid, gid, mode, expected) in [
        (0, 0, 0o755, false), (0, 0, 0o775, false), (0, 4712, 0o770, true), (4711, 0, 0o700, true),
        (0, 0, 0o1777, true),
      ] as [(uid_t, gid_t, mode_t, Bool)] {
        guard own(folder, uid, gid, mode), can() == expected else { exit(3) }
      }
      // What root has left in a sticky folder can't be replaced; what the user has can.
      try file.write("one\n")
      guard !can(), own(file.path, 4711, 4712, 0o644), can() else { exit(4) }
      guard getuid() == 0, getgid() == 0, geteuid() == 0, getegid() == 0 else { exit(5) }
    }
  }

  @Test("everybody can read a file, whatever the umask was")
  func mode() async {
    defer { try? FileManager.default.removeItem(at: folder) }
    await #expect(processExitsWith: .success) {
      let file = MetricsFile(path: "/tmp/ferry-mode-\(getpid()).prom")
      for mask: mode_t in [0, 0o077, 0o777] {
        umask(mask)
        MetricsFile.letOthersRead()
        try file.write("one\n")
        guard Files.ownership(file.path)?.mode == 0o644 else { exit(1) }
      }
      file.remove()
    }
  }

  @Test("a file's folder is found", arguments: [("x", "."), ("/x", "/"), ("/a/b/x", "/a/b"), ("a/x", "a")])
  func folder(path: String, folder: String) {
    #expect(Files.folder(of: path) == folder)
  }
}
