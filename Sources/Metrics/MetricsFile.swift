// SPDX-License-Identifier: Apache-2.0
internal import Glibc
public import LinuxIO

/// A file of metrics for the node exporter's textfile collector. Whoever reads it finds one page, whole, and nothing once it is
/// removed.
public struct MetricsFile: Hashable, Sendable {
  /// Its path; the collector takes those that end with `.prom`.
  public let path: String
  /// Where the next page is written. The collector does not take it for a page.
  private let partial: String

  /// A file that is not there yet.
  public init(path: String) {
    self.path = path
    partial = "\(path).partial-\(getpid())"
  }

  /// The folder that it is in, and in which it has to be possible to make and remove files.
  public var folder: String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// Puts a page in the place of the one before.
  public func write(_ page: String) throws(SystemError) {
    // One that somebody of the same number has left; nothing is truncated that may be something else.
    Files.remove(partial)
    let bytes = Array(page.utf8)
    do throws(SystemError) {
      let file = try Descriptor.open(partial, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW)
      try file.writeAll(bytes.span, at: 0)
      try Files.rename(partial, to: path)
    } catch {
      Files.remove(partial)
      throw error
    }
  }

  /// Removes it.
  public func remove() { Files.remove(path) }
}
