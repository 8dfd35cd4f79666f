// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc

/// A socket of bytes (`SOCK_STREAM`), TCP or Unix, that others connect to. What it has put into the file system goes with
/// it.
public struct StreamListener: ~Copyable, Sendable {
  // Before the socket, and so removed before it is closed: until then nothing else can have the same inode.
  private let file: BoundFile?
  private let descriptor: Descriptor
  /// The socket's number, which stays this one's.
  public var number: Int32 { descriptor.rawValue }
  /// Where it is, with the port that the kernel chose where 0 was asked for.
  public let name: String

  /// Listens on a path, by default one that this user and root may connect to. What is there already is treated as
  /// ``PacketListener/init(path:mode:)`` does.
  /// - Parameter mode: of the file, whatever the umask; to connect is to write to it.
  public init(path: String, mode: UInt32 = 0o600) throws(SystemError) {
    let address = try UnixAddress(path)
    try BoundFile.removeStale(path, address)
    let socket = try UnixAddress.socket(SOCK_STREAM, for: path)
    let file = try BoundFile.bind(socket, to: path, address, mode: mode)
    try Self.listen(socket)
    descriptor = socket
    self.file = consume file
    name = path
  }

  /// Listens on an address of this host.
  public init(_ address: InternetAddress) throws(SystemError) {
    let socket = try StreamSocket.make(for: address)
    let number = socket.rawValue
    var on: Int32 = 1
    // So that the connections of a move before this one, which linger for a minute, are in nobody's way.
    let reuse = unsafe setsockopt(number, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
    let reuseError = errno
    if reuse != 0 { throw SystemError("listening on", address.name, errno: reuseError) }
    let bound = unsafe address.with { unsafe bind(number, $0, $1) }
    let boundError = errno
    if bound != 0 { throw SystemError("listening on", address.name, errno: boundError) }
    try Self.listen(socket)
    name = try InternetAddress.local(of: socket).name
    descriptor = socket
    file = nil
  }

  private static func listen(_ socket: borrowing Descriptor) throws(SystemError) {
    // One is taken; the others need not wait for long to be told.
    let result = Glibc.listen(socket.rawValue, 4)
    let error = errno
    if result != 0 { throw SystemError("listening on", socket.subject, errno: error) }
  }

  /// Waits for somebody who connects.
  /// - Parameters:
  ///   - rule: who may, at a Unix socket. With TCP nobody can be told from anybody else.
  ///   - deadline: microseconds of the monotonic clock; nil waits for ever.
  /// - Returns: the connection, which is the caller's.
  /// - Throws: ETIMEDOUT at the deadline, ECANCELED; ``ConnectionError/refused(_:)`` for somebody whom the rule does not
  ///   admit: the connection is closed, and the next call waits for the next.
  public func accept(
    _ rule: PeerRule = .sameUser, until deadline: UInt64? = nil, _ cancellation: borrowing Cancellation
  ) throws(ConnectionError) -> StreamArrival {
    let socket: Descriptor
    do throws(SystemError) {
      socket = try acceptAnybody(until: deadline, cancellation)
      if file == nil {
        // Somebody who is gone again has no address; reading finds that out.
        let peer = (try? InternetAddress.peer(of: socket).name) ?? "somebody"
        return StreamArrival(socket: Descriptor(owning: socket.release(), subject: peer), peer: peer)
      }
    } catch {
      throw .system(error)
    }
    var peer = PeerCredentials(pid: 0, uid: 0, gid: 0)
    let result = unsafe vf_peer_credentials(socket.rawValue, &peer.pid, &peer.uid, &peer.gid)
    let error = errno
    if result != 0 { throw .system(SystemError("asking who is behind", socket.subject, errno: error)) }
    if !rule.admits(peer) { throw .refused(peer) }
    socket.enlargeBuffers()
    return StreamArrival(socket: socket, peer: "\(peer)")
  }

  /// Waits for somebody who connects, and does not ask who it is: that the mode of the socket's file has decided.
  /// - Parameter deadline: microseconds of the monotonic clock; nil waits for ever.
  /// - Returns: the connection, which is the caller's.
  /// - Throws: ETIMEDOUT at the deadline, ECANCELED.
  public func acceptAnybody(
    until deadline: UInt64? = nil, _ cancellation: borrowing Cancellation
  ) throws(SystemError) -> Descriptor {
    while true {
      try cancellation.wait(for: .read, on: descriptor, until: deadline)
      let number = vf_accept(descriptor.rawValue)
      let error = errno
      if number >= 0 { return Descriptor(owning: number, subject: "a connection to \(name)") }
      switch error {
      // What went wrong with one connection is no reason not to wait for the next: see accept(2).
      case EINTR, EAGAIN, ECONNABORTED, EPROTO, ENETDOWN, EHOSTDOWN, EHOSTUNREACH, ENETUNREACH: continue
      default: throw SystemError("accepting a connection to", name, errno: error)
      }
    }
  }
}

/// A connection that has come in.
public struct StreamArrival: ~Copyable, Sendable {
  /// The connection.
  public private(set) var socket: Descriptor
  /// Who it is, in words.
  public let peer: String

  /// Takes the connection out of it.
  public consuming func take() -> Descriptor { socket }
}
