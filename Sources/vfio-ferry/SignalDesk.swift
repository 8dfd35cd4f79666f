// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxIO
internal import Synchronization

/// Where the signals go that end what a command does (SIGINT, SIGTERM, SIGHUP) or let held devices run (SIGUSR1).
///
/// The desk remembers: whoever handles signals next is told of one that came before.
enum SignalDesk {
  private struct State {
    var isOpen = false
    var handler: (@Sendable (Int32) -> Void)?
    var end: Int32?
    var resume = false
  }

  private static let state = Mutex(State())

  /// Takes the signals from now on. To be called before any thread is started, because threads inherit which signals
  /// are blocked; and after whatever may wait for ever, such as opening a named pipe.
  static func open() throws(CommandFailure) {
    let isFirst = state.withLock { state in
      defer { state.isOpen = true }
      return !state.isOpen
    }
    guard isFirst else { return }
    do throws(SystemError) {
      try Signals.take([SIGINT, SIGTERM, SIGHUP, SIGUSR1]) { signal in
        let handler = state.withLock { state in
          if signal == SIGUSR1 { state.resume = true } else { state.end = signal }
          return state.handler
        }
        handler?(signal)
      }
    } catch {
      throw .failed("\(error)")
    }
  }

  /// The signal that asked this program to end, if one has.
  static var end: Int32? { state.withLock { $0.end } }

  /// Gives every signal to `handler`, those first that came before.
  static func handle(_ handler: @escaping @Sendable (Int32) -> Void) {
    let (end, resume) = state.withLock { state in
      state.handler = handler
      return (state.end, state.resume)
    }
    if let end { handler(end) }
    if resume { handler(SIGUSR1) }
  }

  /// Forgets what came before now, because it was about something else.
  /// - Returns: the signal that asked this program to end, if one had.
  static func forget() -> Int32? {
    state.withLock { state in
      defer { (state.end, state.resume) = (nil, false) }
      return state.end
    }
  }

  /// Nobody handles signals now; they are remembered.
  static func keep() { state.withLock { $0.handler = nil } }
}
