// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// A folder of small texts that only this user can write, for what has to be found after a crash.
///
/// What is in it is believed only as far as its owner and permissions show that nobody else can have written it.
public struct PrivateFolder: Hashable, Sendable {
  /// Where it is.
  public let path: String

  /// A folder by its path; nothing is made or looked at.
  public init(path: String) { self.path = path }

  /// Makes the folder where it is missing, for this user alone (0700), and the folder above it.
  /// - Throws: EPERM where there is something that another user could change.
  public func make() throws(SystemError) {
    let above = path.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
    if !above.isEmpty { try Self.makeFolder(above) }
    try Self.makeFolder(path)
    try check()
  }

  /// Whether there is such a folder at all.
  public var exists: Bool { Files.exists(path) }

  /// That it is a folder, this user's, and that nobody else can write in it.
  /// - Throws: EPERM where it is otherwise.
  public func check() throws(SystemError) {
    var status = stat()
    let result = unsafe lstat(path, &status)
    let error = errno
    if result != 0 { throw SystemError("looking at", path, errno: error) }
    guard status.st_mode & S_IFMT == S_IFDIR, status.st_uid == geteuid(), status.st_mode & 0o022 == 0 else {
      throw SystemError("trusting what is in", path, errno: EPERM)
    }
  }

  /// The names in it, sorted; empty where there is no such folder.
  public var names: [String] { Files.names(in: path) }

  /// Reads a text, whoever holds it.
  /// - Parameter maximum: the most bytes that it may have.
  /// - Throws: EPERM where it is not a regular file of this user's alone, EFBIG where it is larger.
  public func read(_ name: String, maximum: Int) throws(SystemError) -> [UInt8] {
    try Self.read(try open(name), maximum: maximum)
  }

  /// Writes a text that is not there yet, and returns when it is safe on the disk. It has its name only when it is whole and
  /// held.
  /// - Parameter temporary: what it is called until then; nothing may have that name.
  /// - Returns: the text; the caller holds it.
  /// - Throws: EEXIST where it is there. Nothing is left of a text that could not be written.
  public func add(_ name: String, _ text: String, temporary: String) throws(SystemError) -> HeldText {
    let file = try write(text, temporary)
    defer { Files.remove("\(path)/\(temporary)") }
    try Files.link("\(path)/\(temporary)", to: "\(path)/\(name)")
    do throws(SystemError) {
      try synchronize()
    } catch {
      Files.remove("\(path)/\(name)")
      throw error
    }
    return HeldText(name: name, path: "\(path)/\(name)", file: file)
  }

  /// Puts another text in place of one that the caller holds, at one stroke, and returns when it is safe on the disk.
  /// - Parameters:
  ///   - held: to be kept where this fails, and to be let go where it does not.
  ///   - temporary: what the new text is called until then; nothing may have that name.
  /// - Returns: the new text; the caller holds it.
  public func replace(_ held: HeldText, _ text: String, temporary: String) throws(SystemError) -> HeldText {
    let file = try write(text, temporary)
    do throws(SystemError) {
      try Files.rename("\(path)/\(temporary)", to: "\(path)/\(held.name)")
    } catch {
      Files.remove("\(path)/\(temporary)")
      throw error
    }
    // Held already, whatever the disk says.
    try? synchronize()
    return HeldText(name: held.name, path: "\(path)/\(held.name)", file: file)
  }

  /// Takes hold of a text that nobody holds.
  /// - Returns: the text, held by the caller; nil where somebody else holds it, or it is gone by now.
  /// - Throws: EPERM where it is not a regular file of this user's alone.
  public func claim(_ name: String) throws(SystemError) -> HeldText? {
    while true {
      let file: Descriptor
      do throws(SystemError) {
        file = try open(name)
      } catch {
        if error.errno == ENOENT { return nil }
        throw error
      }
      guard try file.lock(waits: false) else { return nil }
      // Between opening and locking its holder may have removed it, and another may have taken its name.
      if Self.has("\(path)/\(name)", file) { return HeldText(name: name, path: "\(path)/\(name)", file: file) }
    }
  }

  private func open(_ name: String) throws(SystemError) -> Descriptor {
    let file = try Descriptor.open("\(path)/\(name)", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
    var status = stat()
    let result = unsafe fstat(file.rawValue, &status)
    let error = errno
    if result != 0 { throw SystemError("looking at", file.subject, errno: error) }
    guard status.st_mode & S_IFMT == S_IFREG, status.st_uid == geteuid(), status.st_mode & 0o022 == 0 else {
      throw SystemError("trusting", file.subject, errno: EPERM)
    }
    return file
  }

  static func read(_ file: borrowing Descriptor, maximum: Int) throws(SystemError) -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: maximum + 1)
    while bytes.count <= maximum {
      var span = chunk.mutableSpan
      let count = try file.read(into: &span, at: bytes.count)
      if count == 0 { return bytes }
      bytes += chunk[..<count]
    }
    throw SystemError("reading", file.subject, errno: EFBIG)
  }

  /// Whether a path leads to that open file.
  static func has(_ path: String, _ file: borrowing Descriptor) -> Bool {
    var (named, opened) = (stat(), stat())
    guard unsafe lstat(path, &named) == 0, unsafe fstat(file.rawValue, &opened) == 0 else { return false }
    return named.st_dev == opened.st_dev && named.st_ino == opened.st_ino
  }

  /// Writes a text, locked.
  private func write(_ text: String, _ name: String) throws(SystemError) -> Descriptor {
    while true {
      let file = try Descriptor.open("\(path)/\(name)", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
      do throws(SystemError) {
        // Before it was locked, somebody who looks for what was left behind may have claimed it and removed it.
        _ = try file.lock(waits: true)
        guard Self.has("\(path)/\(name)", file) else { continue }
        try file.writeAll(Array(text.utf8).span, at: 0)
        try file.synchronize()
      } catch {
        Files.remove("\(path)/\(name)")
        throw error
      }
      return file
    }
  }

  /// Waits until the names in it are on the disk.
  private func synchronize() throws(SystemError) {
    try Descriptor.open(path, O_RDONLY | O_DIRECTORY).synchronize()
  }

  private static func makeFolder(_ path: String) throws(SystemError) {
    let result = unsafe mkdir(path, 0o700)
    let error = errno
    if result != 0, error != EEXIST { throw SystemError("making", path, errno: error) }
  }
}
