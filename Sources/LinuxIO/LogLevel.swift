// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// How much a line of a log matters, by syslog's numbers.
public enum LogLevel: UInt8, Comparable, Sendable {
  /// Something failed.
  case error = 3
  /// Something is not as it should be, and it goes on.
  case warning = 4
  /// What whoever runs it wants to know.
  case notice = 5
  /// What happens.
  case info = 6

  /// A lower number matters more, and counts as more.
  public static func < (one: LogLevel, other: LogLevel) -> Bool { one.rawValue > other.rawValue }

  /// What the journal takes a line's level from (sd-daemon(3)).
  public var journalPrefix: String { "<\(rawValue)>" }

  /// Whether standard error goes to the journal: systemd says which file that is, because a program may have been given
  /// another since.
  public static var standardErrorIsJournal: Bool {
    var status = stat()
    guard let told = Execution.variable("JOURNAL_STREAM"), unsafe fstat(STDERR_FILENO, &status) == 0 else {
      return false
    }
    return told == "\(status.st_dev):\(status.st_ino)"
  }
}
