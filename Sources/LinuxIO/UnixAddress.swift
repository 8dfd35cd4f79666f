// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Where a Unix socket is: a path, or a name without a file.
struct UnixAddress {
  private var address = sockaddr_un()
  private let size: Int

  /// - Parameter path: of a file; with `@` as its first character, and where `abstract` says so, a name without one.
  /// - Throws: EINVAL where it is empty or has a NUL in it, ENAMETOOLONG where it has more than 107 bytes.
  init(_ path: String, abstract: Bool = false) throws(SystemError) {
    var bytes = Array(path.utf8)
    if bytes.isEmpty || bytes.contains(0) { throw SystemError("using as a socket's path", path, errno: EINVAL) }
    let room = MemoryLayout.size(ofValue: address.sun_path)
    if bytes.count >= room { throw SystemError("using as a socket's path", path, errno: ENAMETOOLONG) }
    let isAbstract = abstract && bytes[0] == UInt8(ascii: "@")
    if isAbstract { bytes[0] = 0 }
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
    // A name without a file has the length that is said here; a path ends with a NUL.
    size = MemoryLayout<sockaddr_un>.size - room + bytes.count + (isAbstract ? 0 : 1)
  }

  /// A socket, close-on-exec and in non-blocking mode; the caller owns it.
  static func socket(_ type: __socket_type, for path: String) throws(SystemError) -> Descriptor {
    let number = Glibc.socket(AF_UNIX, Int32(type.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    let error = errno
    if number < 0 { throw SystemError("making a socket for", path, errno: error) }
    return Descriptor(owning: number, subject: path)
  }

  /// Lends it to one of the calls that take addresses, and returns what that returns.
  func with(_ call: (UnsafePointer<sockaddr>, socklen_t) -> Int) -> Int {
    unsafe withUnsafePointer(to: address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe call($0, socklen_t(size)) }
    }
  }
}
