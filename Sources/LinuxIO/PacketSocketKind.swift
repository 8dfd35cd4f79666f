// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// What a Unix socket of whole packets can be.
enum PacketSocketKind {
  case connected
  case listening

  /// Of which of the two kinds a descriptor is.
  /// - Throws: ENOTSOCK or EBADF where it is no socket, EAFNOSUPPORT where its family is not `AF_UNIX`, EPROTOTYPE where its
  ///   type is not `SOCK_SEQPACKET`.
  static func of(_ number: Int32, _ subject: String) throws(SystemError) -> PacketSocketKind {
    let operation = "using as a Unix socket of type SOCK_SEQPACKET"
    func option(_ name: Int32) throws(SystemError) -> Int32 {
      var value: Int32 = 0
      var size = socklen_t(MemoryLayout<Int32>.size)
      let result = unsafe getsockopt(number, SOL_SOCKET, name, &value, &size)
      let error = errno
      if result != 0 { throw SystemError(operation, subject, errno: error) }
      return value
    }
    guard try option(SO_DOMAIN) == AF_UNIX else { throw SystemError(operation, subject, errno: EAFNOSUPPORT) }
    guard try option(SO_TYPE) == Int32(SOCK_SEQPACKET.rawValue) else {
      throw SystemError(operation, subject, errno: EPROTOTYPE)
    }
    return try option(SO_ACCEPTCONN) == 0 ? .connected : .listening
  }

  /// That a descriptor is of this kind.
  /// - Throws: as ``of(_:_:)``; EINVAL where it is of the other kind, ENOTCONN where it is of neither.
  func check(_ number: Int32, _ subject: String) throws(SystemError) {
    switch (self, try Self.of(number, subject)) {
    case (.listening, .listening): return
    case (.listening, .connected): throw SystemError("listening on", subject, errno: EINVAL)
    case (.connected, .listening): throw SystemError("using as a connection", subject, errno: EINVAL)
    case (.connected, .connected):
      var address = sockaddr()
      var size = socklen_t(MemoryLayout<sockaddr>.size)
      let result = unsafe getpeername(number, &address, &size)
      let error = errno
      if result != 0 { throw SystemError("using as a connection", subject, errno: error) }
    }
  }
}

extension Descriptor {
  /// Waits until poll(2) says so of this descriptor, or that its other end is gone.
  func wait(for events: Int32) throws(SystemError) {
    var polled = pollfd(fd: rawValue, events: Int16(events), revents: 0)
    while true {
      let result = unsafe poll(&polled, 1, -1)
      let error = errno
      if result > 0 { return }
      if result < 0, error != EINTR { throw SystemError("waiting for", subject, errno: error) }
    }
  }
}
