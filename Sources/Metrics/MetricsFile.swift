// SPDX-License-Identifier: Apache-2.0
internal import Glibc
public import LinuxIO
internal import Synchronization

/// A file of metrics for the node exporter's textfile collector. Whoever reads it finds one page, whole, and nothing once it is
/// removed.
///
/// It takes the place of nothing but a regular file, such as one that a process before this has left, and is removed as long as
/// it is the same file.
public final class MetricsFile: Sendable {
  /// Its path; the collector takes those that end with `.prom`.
  public let path: String
  /// Where the next page is written. The collector does not take it for a page.
  private let partial: String
  /// The page that was written last, as device and inode.
  private let written = Mutex<[UInt64]?>(nil)

  /// A file that is not there yet.
  public init(path: String) {
    self.path = path
    partial = "\(path).partial-\(getpid())"
  }

  /// Finds out whether it can be written, and writes nothing.
  public func check() throws(SystemError) {
    _ = try replaceable()
    try Files.checkWriting(in: Files.folder(of: path))
  }

  /// Whether the page that was written last is still there.
  public var isThere: Bool {
    guard let identity = written.withLock({ $0 }) else { return false }
    return (try? replaceable()) == identity
  }

  /// Puts a page in the place of the one before.
  public func write(_ page: String) throws(SystemError) {
    _ = try replaceable()
    // One that somebody of the same number has left; nothing is truncated that may be something else.
    Files.remove(partial)
    let bytes = Array(page.utf8)
    do throws(SystemError) {
      let file = try Descriptor.open(partial, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW)
      // Whatever the umask: the collector is another user.
      let result = fchmod(file.rawValue, 0o644)
      let error = errno
      if result != 0 { throw SystemError("setting the mode of", partial, errno: error) }
      try file.writeAll(bytes.span, at: 0)
      let identity = try Self.identity(of: partial)
      try Files.rename(partial, to: path)
      written.withLock { $0 = identity }
    } catch {
      Files.remove(partial)
      throw error
    }
  }

  /// Removes it, unless it is another's by now.
  public func remove() { if isThere { Files.remove(path) } }

  /// The regular file that is there, as device and inode; nil for none.
  /// - Throws: EEXIST for anything else, such as a device node or a link.
  private func replaceable() throws(SystemError) -> [UInt64]? {
    do throws(SystemError) { return try Self.identity(of: path) } catch {
      if error.errno == ENOENT { return nil }
      throw error
    }
  }

  private static func identity(of path: String) throws(SystemError) -> [UInt64] {
    var status = stat()
    let result = unsafe lstat(path, &status)
    let error = errno
    if result != 0 { throw SystemError("looking at", path, errno: error) }
    if status.st_mode & S_IFMT != S_IFREG { throw SystemError("putting a file in the place of", path, errno: EEXIST) }
    return [UInt64(status.st_dev), UInt64(status.st_ino)]
  }
}
