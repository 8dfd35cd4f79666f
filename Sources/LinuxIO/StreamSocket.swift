// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc

/// Connected sockets of bytes (`SOCK_STREAM`), TCP or Unix. Each is a ``Descriptor`` that its caller owns, close-on-exec.
public enum StreamSocket {
  /// Connects to an address of IPv4 or IPv6.
  /// - Parameter deadline: microseconds of the monotonic clock.
  /// - Throws: ETIMEDOUT at the deadline, ECANCELED, or what the kernel answered.
  public static func connect(
    to address: InternetAddress, until deadline: UInt64, _ cancellation: borrowing Cancellation
  ) throws(SystemError) -> Descriptor {
    let socket = try make(for: address)
    let number = socket.rawValue
    let result = unsafe address.with { unsafe Glibc.connect(number, $0, $1) }
    let error = errno
    return try finish(socket, result == 0 ? 0 : error, until: deadline, cancellation)
  }

  /// Connects to a Unix socket.
  public static func connect(
    path: String, until deadline: UInt64, _ cancellation: borrowing Cancellation
  ) throws(SystemError) -> Descriptor {
    let address = try UnixAddress(path)
    let socket = try UnixAddress.socket(SOCK_STREAM, for: path)
    let number = socket.rawValue
    let result = unsafe address.with { unsafe Int(Glibc.connect(number, $0, $1)) }
    let error = errno
    let connected = try finish(socket, result == 0 ? 0 : error, until: deadline, cancellation)
    connected.enlargeBuffers()
    return connected
  }

  private static func finish(
    _ socket: consuming Descriptor, _ error: Int32, until deadline: UInt64, _ cancellation: borrowing Cancellation
  ) throws(SystemError) -> Descriptor {
    switch error {
    case 0: return socket
    // An interrupted call goes on by itself, like one that was told not to wait.
    case EINPROGRESS, EINTR: break
    default: throw SystemError("connecting to", socket.subject, errno: error)
    }
    do throws(SystemError) {
      try cancellation.wait(for: .write, on: socket, until: deadline)
    } catch {
      throw SystemError("connecting to", socket.subject, errno: error.errno)
    }
    let outcome = try option(SO_ERROR, of: socket.rawValue, "connecting to", socket.subject)
    if outcome != 0 { throw SystemError("connecting to", socket.subject, errno: outcome) }
    return socket
  }

  /// A TCP socket that is not connected yet, in non-blocking mode.
  static func make(for address: InternetAddress) throws(SystemError) -> Descriptor {
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let number = socket(address.family, type, Int32(IPPROTO_TCP))
    let error = errno
    if number < 0 { throw SystemError("making a socket for", address.name, errno: error) }
    return Descriptor(owning: number, subject: address.name)
  }

  /// Takes a connected socket that this process was started with. Of standard input, output and error a duplicate is taken,
  /// because whatever is opened next would get their numbers; any other number is the caller's alone from then on, and is
  /// close-on-exec.
  /// - Throws: where it is not such a socket, and nothing was changed then: EBADF, ENOTSOCK, EPROTOTYPE for another type,
  ///   EINVAL for one that listens, ENOTCONN for one that is not connected.
  public static func inherited(_ number: Int32, subject: String) throws(SystemError) -> Descriptor {
    let operation = "using as a connection"
    let type = try option(SO_TYPE, of: number, operation, subject)
    guard type == Int32(SOCK_STREAM.rawValue) else { throw SystemError(operation, subject, errno: EPROTOTYPE) }
    if try option(SO_ACCEPTCONN, of: number, operation, subject) != 0 {
      throw SystemError(operation, subject, errno: EINVAL)
    }
    var address = sockaddr_storage()
    var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let result = unsafe withUnsafeMutablePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe getpeername(number, $0, &size) }
    }
    let error = errno
    if result != 0 { throw SystemError(operation, subject, errno: error) }
    if number <= STDERR_FILENO { return try Descriptor.inherited(number, subject: subject) }
    let descriptor = Descriptor(owning: number, subject: subject)
    try descriptor.setCloseOnExec(true)
    return descriptor
  }

  fileprivate static func option(
    _ name: Int32, of number: Int32, _ operation: String, _ subject: String
  ) throws(SystemError) -> Int32 {
    var value: Int32 = 0
    var size = socklen_t(MemoryLayout<Int32>.size)
    let result = unsafe getsockopt(number, SOL_SOCKET, name, &value, &size)
    let error = errno
    if result != 0 { throw SystemError(operation, subject, errno: error) }
    return value
  }
}

extension Descriptor {
  /// Has a TCP connection end with ETIMEDOUT when its other end has been silent for so long, asked now and then if need be,
  /// or has taken nothing of what was sent; and has what is written go out at once. Another socket is left as it is: the
  /// kernel knows when the other end of a Unix socket is gone. The corresponding C constants are `SO_KEEPALIVE` and its
  /// like, `TCP_USER_TIMEOUT` and `TCP_NODELAY`.
  /// - Parameter seconds: 1 to 86,400. It may take half as long again, or a second, until a silence is noticed.
  public func watchPeer(seconds: UInt32) throws(SystemError) {
    let kind = try StreamSocket.option(SO_PROTOCOL, of: rawValue, "setting options of", subject)
    guard kind == Int32(IPPROTO_TCP) else { return }
    let interval = Int32(max(1, seconds / 3))
    try set(SOL_SOCKET, SO_KEEPALIVE, 1)
    try set(Int32(IPPROTO_TCP), TCP_KEEPIDLE, min(interval, 32_767))
    try set(Int32(IPPROTO_TCP), TCP_KEEPINTVL, min(interval, 32_767))
    try set(Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, Int32(min(seconds, 86_400)) * 1000)
    try set(Int32(IPPROTO_TCP), TCP_NODELAY, 1)
  }

  private func set(_ level: Int32, _ name: Int32, _ value: Int32) throws(SystemError) {
    var value = value
    let result = unsafe setsockopt(rawValue, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
    let error = errno
    if result != 0 { throw SystemError("setting options of", subject, errno: error) }
  }

  /// Gives a Unix socket room for several frames, as far as this process may. TCP sizes its buffers by itself, further than
  /// a process could ask for, and stops doing so when one does ask.
  func enlargeBuffers() {
    for name in [SO_SNDBUFFORCE, SO_SNDBUF] where (try? set(SOL_SOCKET, name, 4 << 20)) != nil { return }
  }

  /// Says that nothing more will be sent. The other end reads all that was, and then the end.
  public func endSending() { shutdown(rawValue, Int32(SHUT_WR)) }

  /// Whether two numbers of this process stand for the same file, pipe or socket.
  public func isSame(as number: Int32) -> Bool {
    var (mine, other) = (stat(), stat())
    guard unsafe fstat(rawValue, &mine) == 0, unsafe fstat(number, &other) == 0 else { return false }
    return mine.st_dev == other.st_dev && mine.st_ino == other.st_ino
  }
}
