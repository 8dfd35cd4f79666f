// SPDX-License-Identifier: Apache-2.0
internal import CConfinement
internal import CVFIO
internal import Glibc

/// Small questions to a file system: what the kernel tells in sysfs, debugfs and procfs.
public enum Files {
  /// The most bytes that ``text(_:maximum:)`` reads by default: the kernel's attribute files have a page at most, its tables more.
  public static let maximumTextSize = 1 << 20

  /// A file's text, without the newline at its end.
  /// - Parameter maximum: what comes after so many bytes is not read.
  /// - Returns: nil where the file can't be read; a person gets the reason from ``readText(_:maximum:)``.
  public static func text(_ path: String, maximum: Int = maximumTextSize) -> String? {
    try? readText(path, maximum: maximum)
  }

  /// A regular file's text, without the newline at its end; bytes that are not UTF-8 are replaced.
  ///
  /// What the kernel shows in sysfs, debugfs, procfs and configfs are regular files. Nothing else is read, and so nothing
  /// makes the caller wait: in a folder that somebody sent, a pipe or a link to a device node may stand in a file's place,
  /// and opening a node can do something to the device.
  /// - Parameter maximum: what comes after so many bytes is not read.
  public static func readText(_ path: String, maximum: Int = maximumTextSize) throws(SystemError) -> String {
    var bytes = try readBytes(path, maximum: maximum)
    while bytes.last == 10 { bytes.removeLast() }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// A regular file's bytes, for which ``readText(_:maximum:)`` says the same.
  public static func readBytes(_ path: String, maximum: Int) throws(SystemError) -> [UInt8] {
    if try !isRegularFile(path) { throw SystemError("reading as a regular file", path, errno: EINVAL) }
    // In case it is none any more.
    let descriptor = try Descriptor.open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY)
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while bytes.count < maximum {
      var span = chunk.mutableSpan
      let count = try descriptor.read(into: &span)
      if count == 0 { break }
      bytes += chunk[..<min(count, maximum - bytes.count)]
    }
    return bytes
  }

  /// What a symbolic link points at; nil where there is none.
  public static func link(_ path: String) -> String? {
    var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
    let count = unsafe buffer.withUnsafeMutableBytes { bytes in
      unsafe readlink(path, bytes.baseAddress!.assumingMemoryBound(to: CChar.self), bytes.count)
    }
    return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
  }

  /// The path with every link followed; nil where it does not exist.
  public static func resolved(_ path: String) -> String? {
    guard let real = unsafe realpath(path, nil) else { return nil }
    defer { unsafe free(real) }
    return unsafe String(cString: real)
  }

  /// Whether the path exists, links followed.
  public static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }

  /// Whether the path is a regular file, links followed.
  public static func isRegularFile(_ path: String) throws(SystemError) -> Bool {
    var status = stat()
    let result = unsafe stat(path, &status)
    let error = errno
    if result != 0 { throw SystemError("looking at", path, errno: error) }
    return status.st_mode & S_IFMT == S_IFREG
  }

  /// The device number of a device node, links followed, as `major:minor`; nil where it is none.
  public static func deviceNumber(_ path: String) -> String? {
    var status = stat()
    guard unsafe stat(path, &status) == 0, status.st_rdev != 0 else { return nil }
    return "\(vf_device_major(status.st_rdev)):\(vf_device_minor(status.st_rdev))"
  }

  /// Whose a file is, and who may do what with it.
  public struct Ownership: Hashable, Sendable {
    /// The user's number.
    public var owner: UInt32
    /// The group's.
    public var group: UInt32
    /// The permission bits, as in 0o660.
    public var mode: UInt32

    /// By numbers and bits.
    public init(owner: UInt32, group: UInt32, mode: UInt32) {
      self.owner = owner
      self.group = group
      self.mode = mode
    }
  }

  /// Whose a path is, links followed; nil where it does not exist.
  public static func ownership(_ path: String) -> Ownership? {
    var status = stat()
    guard unsafe stat(path, &status) == 0 else { return nil }
    return Ownership(owner: status.st_uid, group: status.st_gid, mode: status.st_mode & 0o7777)
  }

  /// What a path stands for, links followed, as device and inode: two paths with the same one are the same file.
  public static func identity(_ path: String) -> [UInt64]? {
    var status = stat()
    guard unsafe stat(path, &status) == 0 else { return nil }
    return [UInt64(status.st_dev), UInt64(status.st_ino)]
  }

  /// The program that a command's first word means: itself where it has a slash, else the first of that name in PATH.
  public static func program(_ name: String) -> String? {
    func isProgram(_ path: String) -> Bool { unsafe access(path, X_OK) == 0 && (try? isRegularFile(path)) == true }
    if name.contains("/") { return isProgram(name) ? name : nil }
    let path = unsafe getenv("PATH").map { unsafe String(cString: $0) } ?? "/usr/bin:/bin"
    for folder in path.split(separator: ":") where isProgram("\(folder)/\(name)") { return "\(folder)/\(name)" }
    return nil
  }

  /// The names in a folder, sorted; empty where there is no such folder.
  public static func names(in folder: String) -> [String] {
    guard let stream = unsafe opendir(folder) else { return [] }
    defer { unsafe closedir(stream) }
    var names: [String] = []
    while let entry = unsafe readdir(stream) {
      let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  /// Gives a file another name, in place of what had it; both are in one file system.
  public static func rename(_ path: String, to newPath: String) throws(SystemError) {
    let result = unsafe Glibc.rename(path, newPath)
    let error = errno
    if result != 0 { throw SystemError("naming", newPath, errno: error) }
  }

  /// Gives a file a second name that nothing has yet, in the same file system.
  /// - Throws: EEXIST where something has it.
  public static func link(_ path: String, to newPath: String) throws(SystemError) {
    let result = unsafe Glibc.link(path, newPath)
    let error = errno
    if result != 0 { throw SystemError("naming", newPath, errno: error) }
  }

  /// Removes a file's name, if it is there.
  public static func remove(_ path: String) { unsafe unlink(path) }

  /// Whether this process may make and remove files in a folder.
  /// - Throws: what making one would fail with.
  public static func checkWriting(in folder: String) throws(SystemError) {
    let result = unsafe faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS)
    let error = errno
    if result != 0 { throw SystemError("writing in", folder, errno: error) }
  }

  /// Whether a user may make and remove files in a folder, as its group's and no other's. To be called while the process has one
  /// thread; one that may not become that user finds out nothing.
  /// - Throws: what making one would fail with.
  public static func checkWriting(in folder: String, as user: ProcessUser) throws(SystemError) {
    let result = unsafe vf_may_write(folder, user.uid, user.gid)
    let error = errno
    if result != 0 { throw SystemError("writing as user \(user.uid) in", folder, errno: error) }
  }

  /// The folder that a path is in.
  public static func folder(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// The last component of a path.
  public static func lastComponent(_ path: String) -> String {
    path.utf8.split(separator: UInt8(ascii: "/")).last.map { String(Substring($0)) } ?? ""
  }
}
