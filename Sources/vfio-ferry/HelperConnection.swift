// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxIO

/// How a helper comes to its connection, and whose it may be.
struct HelperConnection: ParsableArguments {
  @Option(help: ArgumentHelp("The connection is this descriptor.", valueName: "N"))
  var fd: Int32?

  @Option(help: ArgumentHelp("Listen here, and serve the first that connects.", valueName: "PATH"))
  var listen: String?

  @Option(help: ArgumentHelp("The mode of PATH; to connect is to write to it.", valueName: "OCTAL"))
  var mode: String?

  @Option(help: ArgumentHelp("Besides this user and root, serve USER. May be repeated.", valueName: "USER"))
  var allowUser: [String] = []

  @Option(
    help: ArgumentHelp("Serve any user whose process has GROUP as its own. May be repeated.", valueName: "GROUP"))
  var allowGroup: [String] = []

  func validate() throws {
    if fd != nil, listen != nil { throw ValidationError("--fd and --listen are two ways to a connection: give one") }
    if let fd, fd < 0 { throw ValidationError("--fd takes the number of a descriptor") }
    if fd != nil, isSelective { throw ValidationError("--fd is a connection already: its VMM is whoever made it") }
    guard let mode else { return }
    if listen == nil { throw ValidationError("--mode is that of --listen's PATH; a socket unit has SocketMode=") }
    if bits(mode) == nil { throw ValidationError("--mode takes up to three octal digits, such as 660") }
  }

  private var isSelective: Bool { !allowUser.isEmpty || !allowGroup.isEmpty }

  private func bits(_ text: String) -> UInt32? { UInt32(text, radix: 8).flatMap { $0 <= 0o777 ? $0 : nil } }

  private func rule() throws -> PeerRule {
    func number(_ name: String, _ option: String, _ find: (String) -> UInt32?) throws -> UInt32 {
      guard let found = find(name) else { throw CommandFailure.misuse("\(option) \(name): there is none such") }
      return found
    }
    let users = try allowUser.map { try number($0, "--allow-user") { ProcessUser.user($0)?.uid } }
    let groups = try allowGroup.map { try number($0, "--allow-group", ProcessUser.group) }
    return .sameUser(and: Set(users), groups: Set(groups))
  }

  /// The connection, of somebody who may have it.
  /// - Parameters:
  ///   - log: told of those who may not.
  ///   - listening: told when somebody can connect.
  func socket(_ log: (LogLevel, String) -> Void, listening: () -> Void) throws -> PacketSocket {
    if let fd { return try PacketSocket(inherited: fd, subject: "descriptor \(fd)") }
    let rule = try rule()
    if let listen {
      let listener = try PacketListener(path: listen, mode: mode.flatMap(bits) ?? 0o600)
      listening()
      return try first(of: listener, rule, log)
    }
    guard let given = try SystemdActivation.take().first else {
      throw CommandFailure.misuse("no connection: give --fd N or --listen PATH, or start it from a systemd socket")
    }
    switch given.socket {
    case .connection(let socket):
      // systemd has accepted it: its unit says who can connect, and what is said here comes on top.
      let peer = try socket.peerCredentials
      if isSelective, !rule.admits(peer) { throw CommandFailure.refused("\(ConnectionError.refused(peer))") }
      return socket
    case .listener(let listener):
      listening()
      return try first(of: listener, rule, log)
    }
  }

  /// Waits for a VMM that may connect.
  private func first(
    of listener: PacketListener, _ rule: PeerRule, _ log: (LogLevel, String) -> Void
  ) throws(SystemError) -> PacketSocket {
    while true {
      do throws(ConnectionError) {
        return try listener.accept(rule)
      } catch {
        guard case .system(let cause) = error else {
          log(.warning, "\(error)")
          continue
        }
        throw cause
      }
    }
  }
}
