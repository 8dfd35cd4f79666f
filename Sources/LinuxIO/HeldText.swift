// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// A text of a ``PrivateFolder`` that this process holds: nobody else can take hold of it, until this goes or its process
/// ends, however it ends.
///
/// The lock is the open file's (flock(2)), so reading the same text elsewhere in the process leaves it alone, and a command
/// that the process starts does not inherit it: the descriptor is close-on-exec.
public final class HeldText: Sendable {
  /// Its name in the folder.
  public let name: String
  private let path: String
  private let file: Descriptor

  /// - Parameter file: open and locked; it is closed with this.
  init(name: String, path: String, file: consuming Descriptor) {
    self.name = name
    self.path = path
    self.file = file
  }

  /// Reads it.
  /// - Parameter maximum: the most bytes that it may have.
  /// - Throws: EFBIG where it is larger.
  public func read(maximum: Int) throws(SystemError) -> [UInt8] { try PrivateFolder.read(file, maximum: maximum) }

  /// Removes it, unless somebody has put something else in its place, and goes on holding what has no name any more.
  public func remove() { if PrivateFolder.has(path, file) { Files.remove(path) } }
}
