// SPDX-License-Identifier: Apache-2.0
internal import Glibc
public import LinuxIO
internal import Synchronization

/// A file of metrics for the node exporter's textfile collector. Whoever reads it finds one page, whole, and nothing once it is
/// removed.
///
/// It takes the place of nothing but a regular file, such as one that a process before this has left, and is removed as long as
/// it is the same file. Between a look whether it is and what follows there is a moment: a path is one process's.
public final class MetricsFile: Sendable {
  /// Its path; the collector takes those that end with `.prom`.
  public let path: String
  /// Where the next page is written. The collector does not take it for a page.
  private let partial: String
  /// The page that was written last. It stays open, so that no other file gets its inode.
  private let written = Mutex<Descriptor?>(nil)

  /// A file that is not there yet.
  public init(path: String) {
    self.path = path
    partial = "\(path).partial-\(getpid())"
  }

  /// Lets everybody read the files that this process makes from now on, whatever its umask was: the collector is another user. To
  /// be called before it is confined.
  public static func letOthersRead() { umask(0o022) }

  /// Finds out whether it can be written, and writes nothing.
  /// - Parameter user: who is to write it; nil for this process as it is.
  public func check(as user: ProcessUser? = nil) throws(SystemError) {
    let folder = Files.folder(of: path)
    _ = try replaceable()
    guard let user else { return try Files.checkWriting(in: folder) }
    try Files.checkWriting(in: folder, as: user)
    // In a sticky folder, such as /tmp, only a file's owner and the folder's may put another in its place.
    guard user.uid != 0, let file = Files.ownership(path), file.owner != user.uid, let around = Files.ownership(folder),
      around.mode & 0o1000 != 0, around.owner != user.uid
    else { return }
    throw SystemError("putting a file of user \(user.uid) in the place of", path, errno: EPERM)
  }

  /// Whether the page that was written last is still there.
  public var isThere: Bool {
    guard let there = try? replaceable() else { return false }
    return written.withLock { written in
      switch written {
      case .some(let file): there == Self.identity(of: file)
      case .none: false
      }
    }
  }

  /// Puts a page in the place of the one before.
  public func write(_ page: String) throws(SystemError) {
    _ = try replaceable()
    // One that somebody of the same number has left; nothing is truncated that may be something else.
    Files.remove(partial)
    let bytes = Array(page.utf8)
    do throws(SystemError) {
      // Its mode is not changed afterwards: a helper that could would be able to change that of a device, too.
      let file = try Descriptor.open(partial, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o644)
      try file.writeAll(bytes.span, at: 0)
      try Files.rename(partial, to: path)
      keep(file)
    } catch {
      Files.remove(partial)
      throw error
    }
  }

  /// Removes it, unless it is another's by now.
  public func remove() { if isThere { Files.remove(path) } }

  private func keep(_ file: consuming Descriptor) {
    var kept = Optional(consume file)
    written.withLock { swap(&$0, &kept) }
  }

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

  private static func identity(of file: borrowing Descriptor) -> [UInt64]? {
    var status = stat()
    guard unsafe fstat(file.rawValue, &status) == 0 else { return nil }
    return [UInt64(status.st_dev), UInt64(status.st_ino)]
  }
}
