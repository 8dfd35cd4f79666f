// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// The Internet addresses of network interfaces.
public enum InterfaceAddresses {
  /// All addresses in this network namespace, as text by the interface's name, but those of IPv6 that every interface gives
  /// itself (link-local). The corresponding call is getifaddrs(3).
  public static func all() throws(SystemError) -> [String: [String]] {
    var first: UnsafeMutablePointer<ifaddrs>?
    let result = unsafe getifaddrs(&first)
    let error = errno
    if result != 0 { throw SystemError("listing the addresses of", "network interfaces", errno: error) }
    defer { unsafe freeifaddrs(first) }
    var found: [String: [String]] = [:]
    var next = unsafe first
    while let entry = unsafe next {
      unsafe next = entry.pointee.ifa_next
      guard let address = unsafe entry.pointee.ifa_addr, let text = unsafe text(address) else { continue }
      unsafe found[String(cString: entry.pointee.ifa_name), default: []].append(text)
    }
    return found
  }

  private static func text(_ address: UnsafeMutablePointer<sockaddr>) -> String? {
    let size: Int
    switch Int32(unsafe address.pointee.sa_family) {
    case AF_INET: size = MemoryLayout<sockaddr_in>.size
    case AF_INET6: size = MemoryLayout<sockaddr_in6>.size
    default: return nil
    }
    var buffer = [CChar](repeating: 0, count: Int(NI_MAXHOST))
    let result = unsafe getnameinfo(
      address, socklen_t(size), &buffer, socklen_t(buffer.count), nil, 0, NI_NUMERICHOST)
    guard result == 0 else { return nil }
    let text = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return text.hasPrefix("fe80:") ? nil : text
  }
}
