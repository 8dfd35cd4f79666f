// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxIO
internal import Synchronization

/// Where a command writes. Tests pass one that collects.
struct Console: Sendable {
  /// Takes text for standard output.
  let out: @Sendable (String) -> Void
  /// Takes text for standard error.
  let err: @Sendable (String) -> Void
  /// Whether standard error is a terminal: only then is progress drawn.
  let showsProgress: Bool
  /// Whether standard error is the journal.
  var isJournal = false

  /// The process's own streams.
  static let standard = Console(
    out: { Self.write($0, to: STDOUT_FILENO) }, err: { Self.write($0, to: STDERR_FILENO) },
    showsProgress: isatty(STDERR_FILENO) == 1, isJournal: LogLevel.standardErrorIsJournal)

  /// A line for standard output.
  func line(_ text: String = "") { out(text + "\n") }

  /// A line for standard error.
  func note(_ text: String) { err(text + "\n") }

  /// A line for a log on standard error: with its level, where the journal takes it from there.
  func log(_ level: LogLevel, _ text: String) { note((isJournal ? level.journalPrefix : "") + text) }

  /// A JSON value, and a newline.
  func json(_ value: JSON, _ format: FormatOptions) { line(value.text(pretty: format.pretty)) }

  /// The first failure to write standard output: an output that is not whole is no success.
  static var outputError: SystemError? { failure.withLock { $0 } }
  private static let failure = Mutex<SystemError?>(nil)

  private static func write(_ text: String, to number: CInt) {
    // The descriptor stays the process's: it is lent here and given back.
    let descriptor = Descriptor(
      owning: number, subject: number == STDOUT_FILENO ? "standard output" : "standard error")
    let bytes = Array(text.utf8)
    var taken = 0
    do throws(SystemError) {
      while taken < bytes.count { taken += try descriptor.write(bytes.span.extracting(taken..<bytes.count)) }
    } catch {
      if number == STDOUT_FILENO { failure.withLock { $0 = $0 ?? error } }
    }
    _ = descriptor.release()
  }
}

/// A command that did not do what it should: one clear line, and the exit status.
struct CommandFailure: Error, Hashable {
  /// The exit statuses of every command.
  enum Status: Int32 {
    /// It failed.
    case failed = 1
    /// The command line makes no sense.
    case misuse = 2
    /// Refused before anything was changed.
    case refused = 3
    /// No such device, or nothing to do it on.
    case nothing = 4
    /// `doctor` alone: nothing is missing, but there are warnings.
    case warned = 5
    /// `doctor` alone: no warnings, but something could not be found out.
    case unclear = 6
  }

  let status: Status
  let message: String

  static func failed(_ message: String) -> CommandFailure { CommandFailure(status: .failed, message: message) }
  static func misuse(_ message: String) -> CommandFailure { CommandFailure(status: .misuse, message: message) }
  static func refused(_ message: String) -> CommandFailure { CommandFailure(status: .refused, message: message) }
  static func nothing(_ message: String) -> CommandFailure { CommandFailure(status: .nothing, message: message) }
}
