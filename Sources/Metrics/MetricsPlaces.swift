// SPDX-License-Identifier: Apache-2.0
public import LinuxIO

/// Where pages of metrics go. The file, and that of the socket, go with it.
public final class MetricsPlaces: Sendable {
  /// A file; nil for none.
  let file: MetricsFile?
  /// A socket; nil for none.
  let listener: StreamListener?

  /// A file only.
  public init(file: MetricsFile) {
    self.file = file
    listener = nil
  }

  /// A socket, and a file or none.
  public init(file: MetricsFile?, listener: consuming StreamListener) {
    self.file = file
    self.listener = consume listener
  }

  deinit { file?.remove() }

  /// Puts the first page into the file, which says nothing yet, or finds out that it can't be. To be called as whoever writes the
  /// next ones.
  public func begin() throws(SystemError) { try file?.write("") }

  /// The socket's number, which stays its own; nil for none.
  public var number: Int32? {
    switch listener {
    case .some(let listener): listener.number
    case .none: nil
    }
  }
}
