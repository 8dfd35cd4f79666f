// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// A socket's file, which goes with its owner as long as it is the same file.
struct BoundFile: ~Copyable, Sendable {
  let path: String
  private let identity: [UInt64]

  /// Binds a socket to a path.
  /// - Parameters:
  ///   - socket: stays the caller's.
  ///   - mode: of the file, whatever the umask; to connect is to write to it. It is never open to more than that.
  static func bind(
    _ socket: borrowing Descriptor, to path: String, _ address: UnixAddress, mode: UInt32
  ) throws(SystemError) -> BoundFile {
    let number = socket.rawValue
    // A Unix socket gives its own mode to the file that it is bound to, less the umask.
    let modeResult = fchmod(number, mode)
    let modeError = errno
    if modeResult != 0 { throw SystemError("setting the mode of", path, errno: modeError) }
    let bound = unsafe address.with { unsafe Int(Glibc.bind(number, $0, $1)) }
    let boundError = errno
    if bound != 0 { throw SystemError("listening on", path, errno: boundError) }
    let file = try BoundFile(bound: path)
    // What the umask took away. A link that somebody has put there meanwhile is not followed.
    let result = unsafe fchmodat(AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW)
    let error = errno
    if result != 0 { throw SystemError("setting the mode of", path, errno: error) }
    return file
  }

  private init(bound path: String) throws(SystemError) {
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
    // Whoever listens for a stream sees nothing of somebody who asks for packets, and the other way round it is said, too.
    let socket = try UnixAddress.socket(SOCK_SEQPACKET, for: path)
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
