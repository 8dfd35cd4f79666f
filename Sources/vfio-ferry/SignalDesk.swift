// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxIO
internal import Synchronization

/// Where the signals go that end a session or a hold: SIGINT, SIGTERM, SIGHUP and SIGUSR1. None is lost: one that comes
/// while nobody handles them waits for the next who does.
enum SignalDesk {
  private struct State {
    var isOpen = false
    var handler: (@Sendable (Int32) -> Void)?
    var waiting: [Int32] = []
  }

  private static let state = Mutex(State())

  /// Takes the signals from now on. To be called before any thread is started, because threads inherit which signals
  /// are blocked.
  static func open() throws(CommandFailure) {
    let isFirst = state.withLock { state in
      defer { state.isOpen = true }
      return !state.isOpen
    }
    guard isFirst else { return }
    do throws(SystemError) {
      try Signals.take([SIGINT, SIGTERM, SIGHUP, SIGUSR1]) { signal in
        let handler = state.withLock { state in
          if state.handler == nil { state.waiting.append(signal) }
          return state.handler
        }
        handler?(signal)
      }
    } catch {
      throw .failed("\(error)")
    }
  }

  /// Gives every signal to `handler`, those that wait first.
  static func handle(_ handler: @escaping @Sendable (Int32) -> Void) {
    let waiting = state.withLock { state in
      state.handler = handler
      defer { state.waiting = [] }
      return state.waiting
    }
    for signal in waiting { handler(signal) }
  }

  /// Keeps signals until somebody handles them.
  static func keep() { state.withLock { $0.handler = nil } }
}
