// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Glibc
internal import Helper
internal import LinuxIO

struct HelperCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "helper", abstract: "Serve a VMM, which moves its devices by this.",
    discussion: """
      One process serves one VM over one connection, a Unix socket of type SOCK_SEQPACKET: inherited as descriptor N \
      (--fd), the first that connects to PATH (--listen), or from systemd (a socket unit with Accept=yes or no), which is \
      taken where neither is given. What is said on it is in docs/helper-protocol.md and include/vfio_ferry.h.

      It changes nothing unless the VMM asks for it, and ends when the VMM hangs up. Exit status: 0 after a farewell; 1 \
      where the VMM went in the middle of a move, with a line on where each device is.
      """)

  @Option(help: ArgumentHelp("The connection is this descriptor.", valueName: "N"))
  var fd: Int32?

  @Option(help: ArgumentHelp("Listen here, and serve the first that connects.", valueName: "PATH"))
  var listen: String?

  @Flag(name: .shortAndLong, help: "Log every event on standard error.")
  var verbose = false

  func validate() throws {
    if fd != nil, listen != nil { throw ValidationError("--fd and --listen are two ways to a connection: give one") }
    if let fd, fd < 0 { throw ValidationError("--fd takes the number of a descriptor") }
  }

  func execute(_ console: Console) throws {
    // A range of guest memory has one, and a VM may have many ranges.
    try? DescriptorLimit.raise()
    let notifier = ServiceNotifier.take()
    let ending: HelperServer.Ending
    do {
      let socket = try connection(notifier, console)
      let isVerbose = verbose
      let server = try HelperServer(socket: socket, version: "vfio-ferry \(VFIOFerry.version)") { line in
        if isVerbose { console.note("vfio-ferry helper: \(line)") }
      }
      if verbose { console.note("vfio-ferry helper: serving \(try socket.peerCredentials)") }
      _ = try? notifier?.ready()
      ending = server.run()
    } catch let error as SystemError {
      throw CommandFailure.failed("\(error)")
    }
    _ = try? notifier?.stopping()
    // Whatever still waits in a device's call ends with the process, and its descriptors with it.
    if ending.status != 0 { throw CommandFailure.failed(ending.words ?? "the session ended badly") }
  }

  private func connection(_ notifier: ServiceNotifier?, _ console: Console) throws -> PacketSocket {
    if let fd { return try PacketSocket(inherited: fd, subject: "descriptor \(fd)") }
    if let listen { return try first(of: PacketListener(path: listen), notifier, console) }
    guard let given = try SystemdActivation.take().first else {
      throw CommandFailure.misuse("no connection: give --fd N or --listen PATH, or start it from a systemd socket")
    }
    switch given.socket {
    case .connection(let socket): return socket
    case .listener(let listener): return try first(of: listener, notifier, console)
    }
  }

  /// Waits for a VMM that may connect.
  private func first(
    of listener: PacketListener, _ notifier: ServiceNotifier?, _ console: Console
  ) throws(SystemError) -> PacketSocket {
    _ = try? notifier?.ready()
    while true {
      do throws(ConnectionError) {
        return try listener.accept()
      } catch {
        guard case .system(let cause) = error else {
          console.note("vfio-ferry helper: \(error)")
          continue
        }
        throw cause
      }
    }
  }
}
