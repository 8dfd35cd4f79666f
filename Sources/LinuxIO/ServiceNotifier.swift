// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Tells systemd how this process is (sd_notify(3)), without its library.
///
/// The socket is connected when this is made, so that a process which can make no socket any more can still tell.
public final class ServiceNotifier: Sendable {
  /// The socket's own descriptor.
  public let descriptor: Descriptor

  /// One for the socket that the environment names (`NOTIFY_SOCKET`), and removes the variable, so that no child speaks for
  /// this process. To be called once, before there are threads. Nil where nobody wants to know.
  /// - Throws: where nobody listens there.
  public static func take() throws(SystemError) -> ServiceNotifier? {
    defer { Execution.setVariable("NOTIFY_SOCKET", nil) }
    guard let path = Execution.variable("NOTIFY_SOCKET") else { return nil }
    return try ServiceNotifier(path: path)
  }

  /// One for a socket; nil where this is neither a full path nor a name after `@`.
  init?(path: String) throws(SystemError) {
    guard path.hasPrefix("/") || path.hasPrefix("@"), path.utf8.count > 1 else { return nil }
    let address = try UnixAddress(path, abstract: true)
    let number = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    let madeError = errno
    if number < 0 { throw SystemError("making a socket for", path, errno: madeError) }
    let socket = Descriptor(owning: number, subject: path)
    let connected = unsafe address.with { unsafe Int(connect(number, $0, $1)) }
    let error = errno
    if connected != 0 { throw SystemError("connecting to", path, errno: error) }
    descriptor = socket
  }

  /// It can be used: `READY=1`.
  public func ready() throws(SystemError) { try send("READY=1") }

  /// What it does, for a person: `STATUS=`. A line break in it becomes a space.
  public func status(_ text: String) throws(SystemError) {
    try send("STATUS=" + text.split(separator: "\n").joined(separator: " "))
  }

  private func send(_ message: String) throws(SystemError) {
    let bytes = Array(message.utf8)
    while true {
      let result = unsafe Glibc.send(descriptor.rawValue, bytes, bytes.count, Int32(MSG_NOSIGNAL))
      let error = errno
      if result >= 0 { return }
      if error != EINTR { throw SystemError("notifying", descriptor.subject, errno: error) }
    }
  }
}
