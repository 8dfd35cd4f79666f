// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc

/// A Unix socket of whole packets (`SOCK_SEQPACKET`) that others connect to.
///
/// Any thread may use it. What it has put into the file system is removed with it, and nothing else.
public final class PacketListener: Sendable {
  // Before the socket, and so removed before it is closed: until then nothing else can have the same inode.
  private let file: BoundFile?
  /// The socket's own descriptor, to wait for somebody who connects.
  public let descriptor: Descriptor

  /// Listens on a path.
  ///
  /// A socket that is there and that nobody listens on (its process has died) is replaced. Two processes that begin at the
  /// same moment on the same path may both think so: then the later one has it.
  /// - Parameters:
  ///   - path: at most 107 bytes.
  ///   - mode: of the file, whatever the umask; to connect is to write to it. It is never open to more than that.
  /// - Throws: EADDRINUSE where somebody listens on it, EEXIST where it is something else than a socket. Nothing was
  ///   changed then.
  public init(path: String, mode: UInt32 = 0o600) throws(SystemError) {
    let address = try UnixAddress(path)
    try BoundFile.removeStale(path, address)
    let socket = try makePacketSocket(for: path)
    // A Unix socket gives its own mode to the file that it is bound to, less the umask.
    let modeResult = fchmod(socket.rawValue, mode)
    let modeError = errno
    if modeResult != 0 { throw SystemError("setting the mode of", path, errno: modeError) }
    let bound = unsafe address.with { unsafe Int(bind(socket.rawValue, $0, $1)) }
    let boundError = errno
    if bound != 0 { throw SystemError("listening on", path, errno: boundError) }
    let file = try BoundFile(bound: path)
    // What the umask took away. A link that somebody has put there meanwhile is not followed.
    let result = unsafe fchmodat(AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW)
    let error = errno
    if result != 0 { throw SystemError("setting the mode of", path, errno: error) }
    let listening = listen(socket.rawValue, 16)
    let listeningError = errno
    if listening != 0 { throw SystemError("listening on", path, errno: listeningError) }
    descriptor = socket
    self.file = consume file
  }

  /// Takes a socket that listens already; on failure it is closed. Its file stays.
  /// - Throws: where it is not such a socket: ENOTSOCK, EAFNOSUPPORT for another family, EPROTOTYPE for another type,
  ///   EINVAL for one that does not listen.
  public init(adopting descriptor: consuming Descriptor) throws(SystemError) {
    try PacketSocketKind.listening.check(descriptor.rawValue, descriptor.subject)
    self.descriptor = descriptor
    file = nil
  }

  /// Waits for somebody who connects.
  /// - Throws: ``ConnectionError/refused(_:)`` for somebody whom the rule does not admit: the connection is closed, and the
  ///   next call waits for the next.
  public func accept(_ rule: PeerRule = .sameUser) throws(ConnectionError) -> PacketSocket {
    let socket: PacketSocket
    let peer: PeerCredentials
    do throws(SystemError) {
      socket = try connection()
      peer = try socket.peerCredentials
    } catch {
      throw .system(error)
    }
    if !rule.admits(peer) { throw .refused(peer) }
    return socket
  }

  private func connection() throws(SystemError) -> PacketSocket {
    while true {
      let number = vf_accept(descriptor.rawValue)
      let error = errno
      if number >= 0 {
        return try PacketSocket(adopting: Descriptor(owning: number, subject: "a connection to \(descriptor.subject)"))
      }
      switch error {
      case EINTR, ECONNABORTED: continue
      case EAGAIN: try descriptor.wait(for: POLLIN)
      default: throw SystemError("accepting a connection to", descriptor.subject, errno: error)
      }
    }
  }
}

/// Who may connect.
public struct PeerRule: Hashable, Sendable {
  /// Users who may.
  public var users: Set<UInt32>
  /// Groups whose members may. What counts is the group that a process has as its own, not those it belongs to besides.
  public var groups: Set<UInt32>

  /// A rule.
  public init(users: Set<UInt32>, groups: Set<UInt32> = []) {
    self.users = users
    self.groups = groups
  }

  /// This process's user, and root.
  public static var sameUser: PeerRule { PeerRule(users: [0, geteuid()]) }

  /// This process's user and root, and these besides.
  public static func sameUser(and users: Set<UInt32>, groups: Set<UInt32>) -> PeerRule {
    PeerRule(users: sameUser.users.union(users), groups: groups)
  }

  /// Whether a process may connect.
  public func admits(_ peer: PeerCredentials) -> Bool { users.contains(peer.uid) || groups.contains(peer.gid) }
}

/// Why there is no connection.
public enum ConnectionError: Error, Hashable, Sendable {
  /// A call failed.
  case system(SystemError)
  /// Somebody connected who may not.
  case refused(PeerCredentials)
}

extension ConnectionError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .system(let error): error.description
    case .refused(let peer): "\(peer) may not connect"
    }
  }
}

/// A socket's file, which goes with its owner as long as it is the same file.
private struct BoundFile: ~Copyable, Sendable {
  let path: String
  private let identity: [UInt64]

  init(bound path: String) throws(SystemError) {
    guard case .socket(let identity) = try Self.found(path) else {
      throw SystemError("finding the socket that was bound to", path, errno: ESTALE)
    }
    self.path = path
    self.identity = identity
  }

  deinit { if case .socket(identity)? = try? Self.found(path) { Files.remove(path) } }

  private enum Found: Equatable {
    case nothing
    case socket([UInt64])
    case other
  }

  private static func found(_ path: String) throws(SystemError) -> Found {
    var status = stat()
    let result = unsafe lstat(path, &status)
    let error = errno
    if result != 0, error == ENOENT { return .nothing }
    if result != 0 { throw SystemError("looking at", path, errno: error) }
    return status.st_mode & S_IFMT == S_IFSOCK ? .socket([UInt64(status.st_dev), UInt64(status.st_ino)]) : .other
  }

  /// Removes a socket that nobody listens on.
  static func removeStale(_ path: String, _ address: UnixAddress) throws(SystemError) {
    let before = try found(path)
    if before == .nothing { return }
    if before == .other { throw SystemError("putting a socket in the place of", path, errno: EEXIST) }
    let socket = try makePacketSocket(for: path)
    let result = unsafe address.with { unsafe Int(connect(socket.rawValue, $0, $1)) }
    let error = errno
    switch result == 0 ? 0 : error {
    case ECONNREFUSED: break
    case ENOENT: return
    // Another type of socket is alive, too, and so is one that has no time for us.
    case 0, EPROTOTYPE, EAGAIN: throw SystemError("listening on", path, errno: EADDRINUSE)
    default: throw SystemError("finding out whether somebody listens on", path, errno: error)
    }
    if try found(path) == before { Files.remove(path) }
  }
}

private func makePacketSocket(for path: String) throws(SystemError) -> Descriptor {
  let type = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
  let number = socket(AF_UNIX, type, 0)
  let error = errno
  if number < 0 { throw SystemError("making a socket for", path, errno: error) }
  return Descriptor(owning: number, subject: path)
}
