// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// The sockets that systemd has opened for this process (sd_listen_fds(3)), without its library.
public enum SystemdActivation {
  /// A socket of whole packets.
  public enum Socket: Sendable {
    /// One that listens: `Accept=no`.
    case listener(PacketListener)
    /// One that is connected: `Accept=yes`.
    case connection(PacketSocket)
  }

  /// The most sockets that are taken.
  public static let maximumSockets = 16

  /// Takes the sockets, close-on-exec, with the names that they have in the unit (`FileDescriptorName=`), and removes the
  /// variables that tell of them. To be called once, before there are threads. Empty where there are none for this process.
  /// - Throws: EINVAL where the variables make no sense; as ``PacketSocket/init(inherited:subject:)`` where one of them is
  ///   no socket of whole packets, which is for the unit's author to mend (`ListenSequentialPacket=`).
  public static func take() throws(SystemError) -> [(name: String, socket: Socket)] {
    var environment: [String: String] = [:]
    for name in ["LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
      environment[name] = Execution.variable(name)
      Execution.setVariable(name, nil)
    }
    return try take(environment, pid: getpid(), first: 3)
  }

  /// - Parameter first: the number of the first socket.
  static func take(
    _ environment: [String: String], pid: Int32, first: Int32
  ) throws(SystemError) -> [(name: String, socket: Socket)] {
    guard let pidText = environment["LISTEN_PID"], let countText = environment["LISTEN_FDS"] else { return [] }
    guard let listener = Int32(pidText), let count = Int32(countText), (0...Int32(maximumSockets)).contains(count)
    else {
      throw SystemError("taking sockets from systemd as told by", "LISTEN_PID and LISTEN_FDS", errno: EINVAL)
    }
    // They are inherited: this may be somebody's child.
    if listener != pid || count == 0 { return [] }
    let names = environment["LISTEN_FDNAMES"]?.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    if let names, names.count != count {
      throw SystemError("taking sockets from systemd as told by", "LISTEN_FDNAMES", errno: EINVAL)
    }
    return try (0..<count).map { index throws(SystemError) in
      let name = names?[Int(index)] ?? "unknown"
      let subject = "systemd's socket \(name), descriptor \(first + index)"
      // One that is nothing of the kind is left open: it may be anything.
      let kind = try PacketSocketKind.of(first + index, subject)
      let descriptor = Descriptor(owning: first + index, subject: subject)
      try descriptor.setCloseOnExec(true)
      return switch kind {
      case .listening: (name, .listener(try PacketListener(adopting: descriptor)))
      case .connected: (name, .connection(try PacketSocket(adopting: descriptor)))
      }
    }
  }
}
