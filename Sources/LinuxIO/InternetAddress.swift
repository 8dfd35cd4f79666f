// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// An address and port of IPv4 or IPv6.
public struct InternetAddress: Hashable, Sendable {
  /// What messages call it, such as `192.0.2.1:4900` or `[2001:db8::1]:4900`.
  public let name: String
  let family: Int32
  private let bytes: [UInt8]

  private init(family: Int32, bytes: [UInt8]) throws(SystemError) {
    if bytes.count > MemoryLayout<sockaddr_storage>.size {
      throw SystemError("reading", "an address of \(bytes.count) bytes", errno: EINVAL)
    }
    self.family = family
    self.bytes = bytes
    name = try Self.name(family, bytes)
  }

  /// The addresses that a host's name or number stands for, in the order in which they are to be tried. Waits for whoever
  /// has to be asked.
  /// - Parameters:
  ///   - host: a name or a number; IPv6 without brackets, with its zone behind a percent sign where it has one.
  ///   - listens: whether it is one of this host's own.
  public static func resolve(
    host: String, port: UInt16, listens: Bool
  ) throws(ResolutionError) -> [InternetAddress] {
    var wanted = unsafe addrinfo()
    unsafe wanted.ai_family = AF_UNSPEC
    unsafe wanted.ai_socktype = Int32(SOCK_STREAM.rawValue)
    unsafe wanted.ai_protocol = Int32(IPPROTO_TCP)
    unsafe wanted.ai_flags = AI_NUMERICSERV | (listens ? AI_PASSIVE : 0)
    var first: UnsafeMutablePointer<addrinfo>? = nil
    let result = unsafe getaddrinfo(host, "\(port)", &wanted, &first)
    let error = errno
    if result != 0 { throw ResolutionError(host: host, code: result, errno: result == EAI_SYSTEM ? error : 0) }
    defer { unsafe freeaddrinfo(first) }
    var found: [InternetAddress] = []
    var next = unsafe first
    while let item = unsafe next {
      let bytes = unsafe Array(UnsafeRawBufferPointer(start: item.pointee.ai_addr, count: Int(item.pointee.ai_addrlen)))
      // One that has no number to show can't be used either.
      if let address = unsafe try? InternetAddress(family: item.pointee.ai_family, bytes: bytes),
        !found.contains(address)
      {
        found.append(address)
      }
      unsafe next = item.pointee.ai_next
    }
    if found.isEmpty { throw ResolutionError(host: host, code: EAI_NONAME, errno: 0) }
    return found
  }

  /// Where this end of a socket is.
  static func local(of socket: borrowing Descriptor) throws(SystemError) -> InternetAddress {
    let number = socket.rawValue
    return unsafe try ask("asking for the address of", socket.subject) { unsafe getsockname(number, $0, $1) }
  }

  /// Where the other end of a socket is.
  static func peer(of socket: borrowing Descriptor) throws(SystemError) -> InternetAddress {
    let number = socket.rawValue
    return unsafe try ask("asking who is behind", socket.subject) { unsafe getpeername(number, $0, $1) }
  }

  private static func ask(
    _ operation: String, _ subject: String,
    _ call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
  ) throws(SystemError) -> InternetAddress {
    var storage = sockaddr_storage()
    var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let result = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe call($0, &size) }
    }
    let error = errno
    if result != 0 { throw SystemError(operation, subject, errno: error) }
    let count = min(Int(size), MemoryLayout<sockaddr_storage>.size)
    let bytes = unsafe withUnsafeBytes(of: &storage) { unsafe Array($0.prefix(count)) }
    return try InternetAddress(family: Int32(storage.ss_family), bytes: bytes)
  }

  /// Lends it to one of the calls that take addresses, and returns what that returns.
  func with(_ call: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 { unsafe Self.with(bytes, call) }

  private static func with(_ bytes: [UInt8], _ call: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    var storage = sockaddr_storage()
    unsafe withUnsafeMutableBytes(of: &storage) { unsafe $0.copyBytes(from: bytes) }
    return unsafe withUnsafePointer(to: storage) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe call($0, socklen_t(bytes.count)) }
    }
  }

  private static func name(_ family: Int32, _ bytes: [UInt8]) throws(SystemError) -> String {
    var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
    var port = [CChar](repeating: 0, count: 32)
    let result = unsafe with(bytes) { address, size in
      unsafe getnameinfo(
        address, size, &host, socklen_t(host.count), &port, socklen_t(port.count), NI_NUMERICHOST | NI_NUMERICSERV)
    }
    // What is in the bytes came from the kernel or the resolver.
    if result != 0 { throw SystemError("reading", "an address of family \(family)", errno: EAFNOSUPPORT) }
    func text(_ characters: [CChar]) -> String {
      String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    return family == AF_INET6 ? "[\(text(host))]:\(text(port))" : "\(text(host)):\(text(port))"
  }
}

/// A host's name that stands for no address.
public struct ResolutionError: Error, Hashable, Sendable {
  /// The name.
  public let host: String
  /// What getaddrinfo(3) answered: one of the `EAI_` constants.
  public let code: Int32
  /// The error number where a system call failed; otherwise 0.
  public let errno: Int32

  /// Whether it may be different later: whoever knows the name could not be asked.
  public var isPassing: Bool { code == EAI_AGAIN || code == EAI_SYSTEM || code == EAI_MEMORY }
}

extension ResolutionError: CustomStringConvertible {
  public var description: String {
    let said = errno == 0 ? unsafe String(cString: gai_strerror(code)) : unsafe String(cString: strerror(errno))
    return "looking up \(host): \(said)"
  }
}
