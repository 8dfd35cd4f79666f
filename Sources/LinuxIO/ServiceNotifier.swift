// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Tells systemd how this process is (sd_notify(3)), without its library.
public struct ServiceNotifier: Sendable {
  private let path: String

  /// One for the socket that the environment names (`NOTIFY_SOCKET`), and removes the variable, so that no child speaks for
  /// this process. To be called once, before there are threads. Nil where nobody wants to know.
  public static func take() -> ServiceNotifier? {
    defer { Execution.setVariable("NOTIFY_SOCKET", nil) }
    return Execution.variable("NOTIFY_SOCKET").flatMap(ServiceNotifier.init)
  }

  /// One for a socket; nil where this is neither a full path nor a name after `@`.
  init?(path: String) {
    guard path.hasPrefix("/") || path.hasPrefix("@"), path.utf8.count > 1 else { return nil }
    self.path = path
  }

  /// It can be used: `READY=1`.
  public func ready() throws(SystemError) { try send("READY=1") }

  /// It is about to end: `STOPPING=1`.
  public func stopping() throws(SystemError) { try send("STOPPING=1") }

  /// What it does, for a person: `STATUS=`. A line break in it becomes a space.
  public func status(_ text: String) throws(SystemError) {
    try send("STATUS=" + text.split(separator: "\n").joined(separator: " "))
  }

  private func send(_ message: String) throws(SystemError) {
    let address = try UnixAddress(path, abstract: true)
    let number = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    let madeError = errno
    if number < 0 { throw SystemError("making a socket for", path, errno: madeError) }
    let descriptor = Descriptor(owning: number, subject: path)
    let bytes = Array(message.utf8)
    while true {
      let result = unsafe address.with { address, size in
        unsafe sendto(descriptor.rawValue, bytes, bytes.count, Int32(MSG_NOSIGNAL), address, size)
      }
      let error = errno
      if result >= 0 { return }
      if error != EINTR { throw SystemError("notifying", path, errno: error) }
    }
  }
}
