// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Glibc
internal import LinuxIO
internal import Transport

/// How `send` and `receive` come to each other.
struct ConnectionOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "How long to wait for the other side (default: send 10, receive for ever).", valueName: "SECONDS"))
  var wait: UInt32?

  @Option(
    help: ArgumentHelp(
      "With TCP: take the other side for dead when it has been silent, or has taken nothing, for so long.",
      valueName: "SECONDS"))
  var deadAfter: UInt32 = 30

  func validate() throws {
    if let wait, !(1...86_400).contains(wait) { throw ValidationError("--wait takes 1 to 86,400 seconds") }
    guard (1...86_400).contains(deadAfter) else { throw ValidationError("--dead-after takes 1 to 86,400 seconds") }
  }

  /// Reads an address and looks its name up, which may take a while that no signal is taken in: to be called before the
  /// signals are.
  static func place(_ address: String, listens: Bool) throws(CommandFailure) -> StreamPlace {
    do throws(TransportError) {
      return try StreamAddress(address).resolved(listens: listens)
    } catch {
      throw failure(error)
    }
  }

  /// Comes by a channel; a signal ends the wait.
  /// - Parameter defaultWait: in seconds; nil waits for ever.
  func meet(
    at place: StreamPlace, defaultWait: UInt32?,
    _ way: (Rendezvous) throws(TransportError) -> any ConnectedChannel
  ) throws(CommandFailure) -> any ConnectedChannel {
    let rendezvous: Rendezvous
    do throws(SystemError) {
      rendezvous = try Rendezvous(place, Rendezvous.Terms(wait: wait ?? defaultWait, deadAfter: deadAfter))
    } catch {
      throw .failed("\(error)")
    }
    SignalDesk.handle { if $0 != SIGUSR1 { rendezvous.cancel() } }
    defer { SignalDesk.keep() }
    do throws(TransportError) {
      return try way(rendezvous)
    } catch {
      throw Self.failure(error)
    }
  }

  private static func failure(_ error: TransportError) -> CommandFailure {
    if error.isMisuse { return .misuse("\(error)") }
    if error == .cancelled { return interrupted }
    return .failed("\(error); nothing was changed")
  }

  /// A signal came before a device was touched.
  static var interrupted: CommandFailure {
    .failed("interrupted by signal \(SignalDesk.end ?? 0); nothing was changed")
  }
}

extension Console {
  /// For a command whose connection may be its standard output: reports go to standard error then.
  func apart(from channel: any ConnectedChannel) -> Console {
    channel.isSame(as: STDOUT_FILENO) ? Console(out: err, err: err, showsProgress: showsProgress) : self
  }
}
