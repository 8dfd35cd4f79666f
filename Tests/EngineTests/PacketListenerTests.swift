// SPDX-License-Identifier: Apache-2.0
import Glibc
import Testing

@testable import LinuxIO

@Suite("Listening for packets", .serialized)
struct PacketListenerTests {
  /// Calls with a path in a folder of its own, which is removed.
  private func withPath(_ body: (String) throws -> Void) throws {
    var template = Array("/tmp/ferry-listener-XXXXXX".utf8CString)
    _ = unsafe mkdtemp(&template)
    let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer {
      for name in Files.names(in: folder) { Files.remove("\(folder)/\(name)") }
      unsafe _ = rmdir(folder)
    }
    try body("\(folder)/socket")
  }

  static func mode(_ path: String) -> UInt32? {
    var status = stat()
    return unsafe lstat(path, &status) == 0 ? status.st_mode & 0o7777 : nil
  }

  static func connected(to path: String) throws -> PacketSocket {
    let number = socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0)
    let descriptor = Descriptor(owning: number, subject: "the client")
    let result = unsafe try UnixAddress(path).with { unsafe Int(connect(number, $0, $1)) }
    let error = errno
    if result != 0 { throw SystemError("connecting to", path, errno: error) }
    return try PacketSocket(adopting: descriptor)
  }

  /// A socket whose file is there, and which nobody removes.
  private func bound(_ path: String, _ type: __socket_type = SOCK_SEQPACKET) throws -> Descriptor {
    let descriptor = Descriptor(owning: socket(AF_UNIX, Int32(type.rawValue), 0), subject: path)
    let number = descriptor.rawValue
    let address = try UnixAddress(path)
    let result = unsafe address.with { unsafe Int(bind(number, $0, $1)) }
    try #require(result == 0)
    return descriptor
  }

  private func refusal(_ path: String) -> Int32? {
    do {
      _ = try PacketListener(path: path)
      return nil
    } catch {
      return error.errno
    }
  }

  @Test("who connects can talk, and is known; the file is this user's alone, and goes with the listener")
  func connects() throws {
    try withPath { path in
      do {
        let listener = try PacketListener(path: path)
        #expect(Self.mode(path) == 0o600)
        #expect(fcntl(listener.descriptor.rawValue, F_GETFD) & FD_CLOEXEC != 0)
        let client = try Self.connected(to: path)
        let socket = try listener.accept()
        #expect(try socket.peerCredentials.pid == getpid())
        #expect(fcntl(socket.descriptor.rawValue, F_GETFD) & FD_CLOEXEC != 0)
        try client.send([7].span)
        var bytes: [UInt8] = [0]
        var span = bytes.mutableSpan
        guard case .packet(1, _) = try socket.receive(into: &span) else {
          Issue.record("no packet")
          return
        }
        #expect(bytes == [7])
      }
      #expect(Self.mode(path) == nil)
    }
  }

  @Test("the mode is as asked for, whatever the umask")
  func modes() async {
    await #expect(processExitsWith: .success) {
      for mask: mode_t in [0, 0o022, 0o777] {
        umask(mask)
        for mode: UInt32 in [0o600, 0o660, 0o666] {
          let path = "/tmp/ferry-mode-\(getpid())"
          let listener = try PacketListener(path: path, mode: mode)
          guard Self.mode(path) == mode else { exit(1) }
          withExtendedLifetime(listener) {}
        }
      }
    }
  }

  @Test("somebody whom the rule does not admit is refused by name, and the next is still let in")
  func rules() throws {
    try withPath { path in
      let listener = try PacketListener(path: path)
      let me = PeerCredentials(pid: getpid(), uid: geteuid(), gid: getegid())
      let (first, second) = (try Self.connected(to: path), try Self.connected(to: path))
      #expect(throws: ConnectionError.refused(me)) { _ = try listener.accept(PeerRule(users: [me.uid + 1])) }
      var bytes: [UInt8] = [0]
      var span = bytes.mutableSpan
      guard case .hungUp = try first.receive(into: &span) else {
        Issue.record("the first was not hung up on")
        return
      }
      _ = try listener.accept(PeerRule(users: [], groups: [me.gid]))
      withExtendedLifetime(second) {}
      #expect("\(ConnectionError.refused(me))".contains("user \(me.uid)"))
    }
    #expect(PeerRule.sameUser.admits(PeerCredentials(pid: 0, uid: geteuid(), gid: 1)))
    #expect(PeerRule.sameUser.admits(PeerCredentials(pid: 0, uid: 0, gid: 1)))
    #expect(!PeerRule.sameUser.admits(PeerCredentials(pid: 0, uid: geteuid() + 1, gid: 0)))
  }

  @Test("a path that somebody listens on is left to them, whatever their socket's type")
  func inUse() throws {
    try withPath { path in
      let listener = try PacketListener(path: path)
      #expect(refusal(path) == EADDRINUSE)
      #expect(Self.mode(path) == 0o600)
      withExtendedLifetime(listener) {}
    }
    try withPath { path in
      let stream = try bound(path, SOCK_STREAM)
      #expect(listen(stream.rawValue, 1) == 0)
      #expect(refusal(path) == EADDRINUSE)
    }
  }

  @Test("a socket whose process has died is replaced")
  func stale() throws {
    try withPath { path in
      _ = try bound(path)
      #expect(Self.mode(path) != nil)
      let listener = try PacketListener(path: path)
      let client = try Self.connected(to: path)
      _ = try listener.accept()
      withExtendedLifetime(client) {}
    }
  }

  @Test("what is no socket is left alone, and so are links and paths that can't be")
  func others() throws {
    try withPath { path in
      _ = try Descriptor.open(path, O_CREAT | O_WRONLY)
      #expect(refusal(path) == EEXIST)
      #expect(Files.exists(path))
      let link = path + ".link"
      #expect(unsafe symlink("nowhere", link) == 0)
      #expect(refusal(link) == EEXIST)
      #expect(Files.link(link) == "nowhere")
      #expect(refusal(path + "/below") == ENOTDIR)
      #expect(refusal(path + String(repeating: "x", count: 108 - path.utf8.count)) == ENAMETOOLONG)
      #expect(refusal(path + String(repeating: "x", count: 107 - path.utf8.count)) == nil)
      #expect(refusal("") == EINVAL && refusal(path + "\0") == EINVAL)
    }
  }

  @Test("a file that came in the place of its own is not removed with it")
  func replaced() throws {
    try withPath { path in
      do {
        let listener = try PacketListener(path: path)
        Files.remove(path)
        _ = try Descriptor.open(path, O_CREAT | O_WRONLY)
        withExtendedLifetime(listener) {}
      }
      #expect(Files.exists(path))
      Files.remove(path)
      let second: PacketListener
      do {
        let first = try PacketListener(path: path)
        Files.remove(path)
        second = try PacketListener(path: path)
        withExtendedLifetime(first) {}
      }
      #expect(Self.mode(path) == 0o600)
      withExtendedLifetime(second) {}
    }
  }

  @Test("a socket that listens already is taken, its file stays; one that is connected is not")
  func adopts() throws {
    try withPath { path in
      do {
        let socket = try bound(path)
        #expect(listen(socket.rawValue, 1) == 0)
        let listener = try PacketListener(adopting: socket)
        let client = try Self.connected(to: path)
        _ = try listener.accept()
        withExtendedLifetime(client) {}
      }
      #expect(Self.mode(path) != nil)
    }
    let (one, _) = try PacketSocket.pair()
    let thrown = #expect(throws: SystemError.self) { _ = try PacketListener(adopting: one.descriptor.duplicate()) }
    #expect(thrown?.errno == EINVAL)
  }
}
