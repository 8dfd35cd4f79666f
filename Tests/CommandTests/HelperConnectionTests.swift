// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Glibc
import Synchronization
import Testing

@testable import LinuxIO
@testable import vfio_ferry

@Suite("Whom a helper that listens lets in", .serialized)
struct HelperConnectionTests {
  /// Who connects: a user, and the group that its process has as its own.
  private struct Peer: Codable { var user: UInt32, group: UInt32 }

  /// A folder into which anybody can look.
  private static func folder() -> String {
    var template = Array("/tmp/ferry-connection-XXXXXX".utf8CString)
    _ = unsafe mkdtemp(&template)
    let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    _ = unsafe chmod(folder, 0o755)
    return folder
  }

  private static func connected(to path: String) throws -> PacketSocket {
    let number = socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0)
    let descriptor = Descriptor(owning: number, subject: "the client")
    let result = unsafe try UnixAddress(path).with { unsafe Int(connect(number, $0, $1)) }
    let error = errno
    if result != 0 { throw SystemError("connecting to", path, errno: error) }
    return try PacketSocket(adopting: descriptor)
  }

  /// What became of a helper that listened.
  private struct Outcome {
    var mode: UInt32?
    var peer: PeerCredentials?
    var refusals: [String]
  }

  /// Listens as those options say, and lets these connect, one after the other. To be called in a process of its own: it
  /// becomes each of them.
  private static func listen(_ options: [String], _ peers: [Peer]) throws -> Outcome {
    let folder = folder()
    let path = folder + "/socket"
    defer {
      // Where it could not be removed by whoever the process was at that moment.
      Files.remove(path)
      unsafe _ = rmdir(folder)
    }
    let connection = try HelperConnection.parse(["--listen", path] + options)
    let listening = BlockingQueue<Void>()
    let refusals = BlockingQueue<String>()
    let admitted = Mutex<PeerCredentials?>(nil)
    let server = try BlockingThread(name: "server") {
      let socket = try? connection.socket({ _, line in refusals.put(line) }, listening: { listening.put(()) })
      admitted.withLock { $0 = try? socket?.peerCredentials }
      listening.close()
    }
    guard listening.take() != nil else { throw SystemError("listening on", path, errno: EINVAL) }
    var status = stat()
    let mode = unsafe lstat(path, &status) == 0 ? status.st_mode & 0o7777 : nil
    var outcome = Outcome(mode: mode, refusals: [])
    for peer in peers {
      guard setegid(peer.group) == 0, seteuid(peer.user) == 0 else {
        throw SystemError("becoming", "a peer", errno: errno)
      }
      let socket = try connected(to: path)
      // Its end is what whoever is refused gets.
      var buffer: [UInt8] = [0]
      var span = buffer.mutableSpan
      let isLast = peer.user == peers.last?.user && peer.group == peers.last?.group
      if !isLast, case .hungUp = try socket.receive(into: &span) { outcome.refusals.append(refusals.take() ?? "") }
      guard seteuid(0) == 0, setegid(0) == 0 else { throw SystemError("becoming", "root again", errno: errno) }
    }
    server.join()
    outcome.peer = admitted.withLock { $0 }
    return outcome
  }

  @Test("the file of the socket has the mode that was asked for, or is its owner's only", .enabled(if: getuid() == 0))
  func mode() async { await #expect(processExitsWith: .success) { try Self.eachMode() } }

  private static func eachMode() throws {
    let root = Peer(user: 0, group: 0)
    let usual = try listen([], [root])
    #expect(usual.mode == 0o600)
    for mode in ["660", "0606", "777"] {
      let outcome = try listen(["--mode", mode], [root])
      #expect(outcome.mode == UInt32(mode, radix: 8))
    }
  }

  @Test(
    "root and who is named by user or by group is let in, everybody else hears nothing, and that is logged",
    .enabled(if: getuid() == 0))
  func rules() async { await #expect(processExitsWith: .success) { try Self.eachRule() } }

  private static func eachRule() throws {
    let stranger = Peer(user: 4713, group: 4713)
    let cases: [(options: [String], refused: [Peer], admitted: Peer)] = [
      ([], [stranger, Peer(user: 4711, group: 4712)], Peer(user: 0, group: 0)),
      (["--allow-user", "4711"], [stranger, Peer(user: 4713, group: 4711)], Peer(user: 4711, group: 4713)),
      (["--allow-group", "4712"], [stranger, Peer(user: 4712, group: 4713)], Peer(user: 4713, group: 4712)),
      (["--allow-user", "4711", "--allow-user", "4714"], [stranger], Peer(user: 4714, group: 4713)),
      (["--allow-user", "4711", "--allow-group", "4712"], [stranger], Peer(user: 0, group: 4713)),
    ]
    for (options, refused, admitted) in cases {
      let outcome = try listen(["--mode", "666"] + options, refused + [admitted])
      #expect(outcome.peer?.uid == admitted.user && outcome.peer?.gid == admitted.group, "\(options)")
      #expect(outcome.refusals.count == refused.count, "\(options): \(outcome.refusals)")
      #expect(outcome.refusals.allSatisfy { $0.contains("may not connect") }, "\(outcome.refusals)")
    }
  }

  @Test(
    "options that fit no connection are refused",
    arguments: [
      "--fd 3 --listen /x", "--fd 3 --mode 600", "--mode 600", "--listen /x --mode 999", "--fd 3 --allow-user 0",
    ])
  func misuse(line: String) {
    #expect(throws: (any Error).self) { try HelperConnection.parse(line.split(separator: " ").map(String.init)) }
  }

  @Test("a user or a group that there is not is refused before anybody can connect")
  func unknown() throws {
    for option in ["--allow-user", "--allow-group"] {
      let folder = Self.folder()
      defer { unsafe _ = rmdir(folder) }
      let connection = try HelperConnection.parse(["--listen", folder + "/socket", option, "nobody-of-that-name"])
      #expect(throws: CommandFailure.self) {
        _ = try connection.socket({ _, _ in }, listening: { Issue.record("it listens") })
      }
    }
  }
}
