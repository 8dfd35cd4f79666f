// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxIO

/// Where a stream goes, or comes from, as a person writes it.
public enum StreamAddress: Hashable, Sendable {
  /// `tcp:HOST:PORT`, IPv6 in brackets. Nothing is encrypted, and nobody proves who they are.
  case tcp(host: String, port: UInt16)
  /// `unix:PATH`.
  case unix(path: String)
  /// `fd:N`: a connected socket that this process was started with. Who is behind it, and whether what goes through it is
  /// encrypted on its way, is the business of whoever made it.
  case descriptor(Int32)

  /// Reads one.
  public init(_ text: String) throws(TransportError) {
    func refuse(_ reason: String) -> TransportError { .address(text, reason) }
    guard let colon = text.firstIndex(of: ":") else {
      throw refuse("it has no kind")
    }
    let rest = String(text[text.index(after: colon)...])
    switch text[..<colon] {
    case "tcp":
      self = try Self.tcp(rest, refuse)
    case "unix":
      if rest.isEmpty || rest.utf8.contains(0) { throw refuse("it has no path") }
      if rest.utf8.count > Self.maximumPathSize {
        throw refuse("its path has \(rest.utf8.count) bytes, and a socket's has \(Self.maximumPathSize) at most")
      }
      self = .unix(path: rest)
    case "fd":
      guard let number = Int32(rest), number >= 0, rest.allSatisfy(\.isNumber) else {
        throw refuse("\"\(rest)\" is no number of a descriptor")
      }
      self = .descriptor(number)
    default:
      throw refuse("it has no kind that this program knows")
    }
  }

  private static let maximumPathSize = 107

  private static func tcp(
    _ text: String, _ refuse: (String) -> TransportError
  ) throws(TransportError) -> StreamAddress {
    guard let colon = text.lastIndex(of: ":") else { throw refuse("it has no port") }
    var host = text[..<colon]
    let port = text[text.index(after: colon)...]
    if host.first == "[", host.last == "]" {
      host = host.dropFirst().dropLast()
      guard host.contains(":") else { throw refuse("what is in brackets is no address of IPv6") }
    } else if host.contains(":") || host.contains("[") || host.contains("]") {
      throw refuse("an address of IPv6 goes in brackets: tcp:[2001:db8::1]:PORT")
    }
    if host.isEmpty || host.utf8.contains(0) { throw refuse("it has no host") }
    guard let number = UInt16(port), port.allSatisfy(\.isNumber) else {
      throw refuse("\"\(port)\" is no port: 1 to 65535, or 0 to listen on one that is free")
    }
    return .tcp(host: String(host), port: number)
  }

  /// Finds out what a name stands for. Waits for whoever has to be asked, and touches nothing.
  /// - Parameter listens: whether it is to be listened on, and so one of this host's own.
  public func resolved(listens: Bool) throws(TransportError) -> StreamPlace {
    switch self {
    case .unix(let path): return .unix(path: path)
    case .descriptor(let number): return .descriptor(number)
    case .tcp(let host, let port):
      if port == 0, !listens { throw .address("\(self)", "there is nobody at port 0") }
      do throws(ResolutionError) {
        return .tcp(self, try InternetAddress.resolve(host: host, port: port, listens: listens))
      } catch {
        throw .name(error)
      }
    }
  }
}

extension StreamAddress: CustomStringConvertible {
  public var description: String {
    switch self {
    case .tcp(let host, let port): host.contains(":") ? "tcp:[\(host)]:\(port)" : "tcp:\(host):\(port)"
    case .unix(let path): "unix:\(path)"
    case .descriptor(let number): "fd:\(number)"
    }
  }
}
