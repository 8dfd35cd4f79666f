// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// What a terminal is like.
public struct Terminal: Hashable, Sendable {
  /// Letters in a line.
  public let columns: Int
  /// Lines.
  public let rows: Int

  /// What one that does not tell is taken for.
  public static let usual = Terminal(columns: 80, rows: 24)

  /// A terminal of that size.
  public init(columns: Int, rows: Int) {
    self.columns = columns
    self.rows = rows
  }

  /// Asks the terminal behind a descriptor; nil where there is none. The corresponding C constant is `TIOCGWINSZ`.
  /// - Parameter number: stays the caller's.
  public init?(_ number: CInt) {
    guard isatty(number) == 1 else { return nil }
    var size = winsize()
    let result = unsafe ioctl(number, UInt(TIOCGWINSZ), &size)
    self =
      result == 0 && size.ws_col > 0 && size.ws_row > 0
      ? Terminal(columns: Int(size.ws_col), rows: Int(size.ws_row)) : .usual
  }

  /// Whether standard output's terminal is said to have 256 colours, and nobody has asked for none.
  public static var hasColours: Bool {
    func variable(_ name: String) -> String? { unsafe getenv(name).map { unsafe String(cString: $0) } }
    if variable("NO_COLOR").map({ !$0.isEmpty }) ?? false { return false }
    return (variable("TERM") ?? "").hasSuffix("256color") || variable("COLORTERM") != nil
  }
}
