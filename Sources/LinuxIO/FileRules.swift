// SPDX-License-Identifier: Apache-2.0
internal import CConfinement
internal import Glibc

/// Which files this process may open from some moment on; what is open stays as it is. The corresponding kernel feature is
/// Landlock.
///
/// Nothing is allowed that is not said: with a kernel that can refuse it, no TCP socket can be bound or connected either, and
/// no abstract Unix socket and no signal reaches a process that is not confined with this one.
public struct FileRules: ~Copyable {
  /// The version of Landlock that this kernel has; 0 where it has none. Below 4 TCP is not refused, below 6 neither abstract
  /// sockets nor signals.
  public static var version: Int { Int(vf_landlock_version()) }

  private let rules: Descriptor

  /// Rules that allow nothing; nil where this kernel has no Landlock.
  public init?() throws(SystemError) {
    let version = vf_landlock_version()
    if version == 0 { return nil }
    let number = vf_landlock_make(version)
    let error = errno
    if number < 0 { throw SystemError("making rules for", "files", errno: error) }
    rules = Descriptor(owning: number, subject: "rules for files")
  }

  /// Allows reading a file, or all below a folder. What is not there now is passed over, and stays refused.
  public func allowReading(_ path: String) throws(SystemError) {
    let result = unsafe vf_landlock_allow_reading(rules.rawValue, path)
    let error = errno
    if result != 0, error != ENOENT, error != EACCES, error != ENOTDIR {
      throw SystemError("allowing to read", path, errno: error)
    }
  }

  /// Allows making, writing, renaming and removing files in a folder and below it, and not reading them.
  public func allowFiles(in folder: String) throws(SystemError) {
    let result = unsafe vf_landlock_allow_files_in(rules.rawValue, folder)
    let error = errno
    if result != 0 { throw SystemError("allowing files in", folder, errno: error) }
  }

  /// Allows removing files and sockets in a folder and below it, and nothing else.
  public func allowRemoving(in folder: String) throws(SystemError) {
    let result = unsafe vf_landlock_allow_removing_in(rules.rawValue, folder)
    let error = errno
    if result != 0 { throw SystemError("allowing to remove in", folder, errno: error) }
  }

  /// Puts them in force for the calling thread and those that it starts, for good. Needs
  /// ``ProcessPrivileges/forbidNewOnes()``.
  public consuming func enforce() throws(SystemError) {
    let result = vf_landlock_enforce(rules.rawValue)
    let error = errno
    if result != 0 { throw SystemError("putting in force", "rules for files", errno: error) }
  }
}
