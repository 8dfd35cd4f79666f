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
    let socket = try UnixAddress.socket(SOCK_SEQPACKET, for: path)
    let file = try BoundFile.bind(socket, to: path, address, mode: mode)
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
