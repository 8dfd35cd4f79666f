// SPDX-License-Identifier: Apache-2.0
internal import Glibc
public import LinuxIO

/// An address whose name has been looked up.
public enum StreamPlace: Hashable, Sendable {
  /// All that the name stands for, in the order in which they are tried.
  case tcp(StreamAddress, [InternetAddress])
  /// A path.
  case unix(path: String)
  /// A socket that is connected already.
  case descriptor(Int32)
}

/// Comes by a connected channel, once: calls the other side, or waits for it to call.
public final class Rendezvous: Sendable {
  /// How long to wait, and for what.
  public struct Terms: Hashable, Sendable {
    /// Seconds until there has to be a connection; nil waits for ever.
    public var wait: UInt32?
    /// Seconds of silence after which the other side of a TCP connection counts as dead: see
    /// ``LinuxIO/Descriptor/watchPeer(seconds:)``.
    public var deadAfter: UInt32

    /// Those terms.
    public init(wait: UInt32?, deadAfter: UInt32) {
      self.wait = wait
      self.deadAfter = deadAfter
    }
  }

  private let place: StreamPlace
  private let terms: Terms
  private let cancellation: Cancellation
  /// Between two attempts to reach somebody who is not there yet, in microseconds.
  private static let pause: UInt64 = 100_000

  /// Nothing is done yet. Fails where no descriptor can be had.
  public init(_ place: StreamPlace, _ terms: Terms) throws(SystemError) {
    self.place = place
    self.terms = terms
    cancellation = try Cancellation()
  }

  /// Has whoever waits, now or later, fail with ``TransportError/cancelled``. From any thread.
  public func cancel() { cancellation.cancel() }

  // MARK: Calling

  /// Connects to the other side, again and again while it is not there yet.
  public func call() throws(TransportError) -> any ConnectedChannel {
    let seconds = terms.wait ?? .max
    let deadline = monotonicMicroseconds() + UInt64(seconds) * 1_000_000
    while true {
      let errors: [SystemError]
      switch place {
      case .descriptor(let number): return try adopt(number)
      case .unix(let path):
        do throws(SystemError) {
          return try channel(StreamSocket.connect(path: path, until: deadline, cancellation), "unix:\(path)")
        } catch {
          errors = [error]
        }
      case .tcp(let address, let candidates):
        var failed: [SystemError] = []
        for (index, candidate) in candidates.enumerated() {
          do throws(SystemError) {
            // One that answers nothing leaves the others their share of the time.
            let now = monotonicMicroseconds()
            let share = (deadline > now ? deadline - now : 0) / UInt64(candidates.count - index)
            return try channel(
              StreamSocket.connect(to: candidate, until: now + share, cancellation), "\(address) (\(candidate.name))")
          } catch {
            if error.errno == ECANCELED { throw .cancelled }
            failed.append(error)
          }
        }
        errors = failed
      }
      if errors.contains(where: { $0.errno == ECANCELED }) { throw .cancelled }
      guard errors.contains(where: { Self.mayPass($0.errno) }) else {
        if let only = errors.first, errors.count == 1 { throw .system(only) }
        throw .unreached(errors, seconds: seconds)
      }
      let now = monotonicMicroseconds()
      if now >= deadline { throw .unreached(errors, seconds: seconds) }
      guard cancellation.pause(until: min(deadline, now + Self.pause)) else { throw .cancelled }
    }
  }

  /// Whether somebody may be there a moment later.
  private static func mayPass(_ error: Int32) -> Bool {
    [ECONNREFUSED, ECONNRESET, ENOENT, EAGAIN, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENETDOWN].contains(
      error)
  }

  // MARK: Being called

  /// Waits for the other side to connect, takes the first that may, and listens no longer.
  /// - Parameters:
  ///   - listening: told once somebody can connect: where.
  ///   - refused: told of somebody who was sent away.
  ///   - connected: told who has come.
  public func answer(
    listening: (String) -> Void, refused: (PeerCredentials) -> Void, connected: (String) -> Void
  ) throws(TransportError) -> any ConnectedChannel {
    if case .descriptor(let number) = place { return try adopt(number) }
    let deadline = terms.wait.map { monotonicMicroseconds() + UInt64($0) * 1_000_000 }
    let arrival = try first(listening: listening, refused: refused, until: deadline)
    // Nobody else can connect any more.
    connected(arrival.peer)
    let socket = arrival.take()
    let name = socket.subject
    do throws(SystemError) {
      try socket.watchPeer(seconds: terms.deadAfter)
    } catch {
      throw .system(error)
    }
    do throws(SystemError) {
      // Whoever is there opens its devices, and sends a manifest.
      try cancellation.wait(for: .read, on: socket, until: deadline)
    } catch {
      throw failure(error, atDeadline: .silent(name, seconds: terms.wait ?? 0))
    }
    do throws(SystemError) {
      return try channel(socket, name)
    } catch {
      throw .system(error)
    }
  }

  private func first(
    listening: (String) -> Void, refused: (PeerCredentials) -> Void, until deadline: UInt64?
  ) throws(TransportError) -> StreamArrival {
    let listener = try listener()
    let prefix = if case .unix = place { "unix" } else { "tcp" }
    let name = "\(prefix):\(listener.name)"
    listening(name)
    while true {
      do throws(ConnectionError) {
        return try listener.accept(until: deadline, cancellation)
      } catch {
        switch error {
        case .refused(let peer): refused(peer)
        case .system(let cause):
          throw failure(cause, atDeadline: .nobodyCame(at: name, seconds: terms.wait ?? 0))
        }
      }
    }
  }

  private func listener() throws(TransportError) -> StreamListener {
    do throws(SystemError) {
      guard case .tcp(_, let candidates) = place else {
        guard case .unix(let path) = place else { preconditionFailure("a descriptor is not listened on") }
        return try StreamListener(path: path)
      }
      var failed: SystemError?
      for candidate in candidates {
        do throws(SystemError) {
          return try StreamListener(candidate)
        } catch {
          failed = failed ?? error
        }
      }
      throw failed ?? SystemError("listening on", "no address", errno: EADDRNOTAVAIL)
    } catch {
      throw .system(error)
    }
  }

  // MARK: Both

  private func failure(_ error: SystemError, atDeadline: TransportError) -> TransportError {
    switch error.errno {
    case ECANCELED: .cancelled
    case ETIMEDOUT: atDeadline
    default: .system(error)
    }
  }

  private func adopt(_ number: Int32) throws(TransportError) -> any ConnectedChannel {
    do throws(SystemError) {
      return try channel(StreamSocket.inherited(number, subject: "fd:\(number)"), "fd:\(number)")
    } catch {
      throw switch error.errno {
      case EBADF: .address("fd:\(number)", "no such descriptor was given to this program")
      case ENOTSOCK: .address("fd:\(number)", "it is no socket, and answers have to come back")
      case EPROTOTYPE: .address("fd:\(number)", "it is no socket of bytes (SOCK_STREAM)")
      case EINVAL: .address("fd:\(number)", "it listens, and a connected socket is wanted")
      case ENOTCONN: .address("fd:\(number)", "it is not connected")
      default: .system(error)
      }
    }
  }

  private func channel(
    _ socket: consuming Descriptor, _ name: String
  ) throws(SystemError) -> any ConnectedChannel {
    try socket.watchPeer(seconds: terms.deadAfter)
    return try DescriptorChannel(owning: Descriptor(owning: socket.release(), subject: name), isTwoWay: true)
  }
}
