// SPDX-License-Identifier: Apache-2.0
internal import CConfinement
internal import Glibc

/// A user and a group that a process can become.
public struct ProcessUser: Hashable, Sendable {
  /// The user's number.
  public var uid: UInt32
  /// The group's.
  public var gid: UInt32

  /// By numbers.
  public init(uid: UInt32, gid: UInt32) {
    self.uid = uid
    self.gid = gid
  }

  /// By `USER` or `USER:GROUP`, each a name or a number; without a group it is the user's own. Nil where there is none such: a
  /// number that no user has wants a group.
  public init?(_ text: String) {
    let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    guard let user = parts.first, let found = Self.user(user) else { return nil }
    guard let gid = parts.count == 2 ? Self.group(parts[1]) : found.gid else { return nil }
    self.init(uid: found.uid, gid: gid)
  }

  /// A user by name or number, and the group that it has.
  public static func user(_ text: String) -> (uid: UInt32, gid: UInt32?)? {
    if let number = number(text) { return (number, unsafe getpwuid(number).map { unsafe $0.pointee.pw_gid }) }
    guard let entry = unsafe getpwnam(text) else { return nil }
    return unsafe (entry.pointee.pw_uid, entry.pointee.pw_gid)
  }

  /// A group by name or number.
  public static func group(_ text: String) -> UInt32? {
    if let number = number(text) { return number }
    return unsafe getgrnam(text).map { unsafe $0.pointee.gr_gid }
  }

  /// The highest number means "no change" to the kernel.
  private static func number(_ text: String) -> UInt32? {
    text.allSatisfy(\.isNumber) ? UInt32(text).flatMap { $0 == .max ? nil : $0 } : nil
  }
}

/// What this process may do beyond what any process may, and giving it up. Nothing of it can be taken back.
public enum ProcessPrivileges {
  /// Becomes a user and a group, with no other groups, and makes sure that it is.
  /// - Throws: EPERM where this process may not.
  public static func become(_ user: ProcessUser) throws(SystemError) {
    let result = vf_become(user.uid, user.gid)
    let error = errno
    if result != 0 { throw SystemError("becoming", "user \(user.uid) and group \(user.gid)", errno: error) }
  }

  /// Capabilities, a bit for each by its number.
  public struct Capabilities: OptionSet, Hashable, Sendable {
    /// Locking memory beyond the limit. The corresponding C constant is `CAP_IPC_LOCK`.
    public static var lockMemory: Capabilities { Capabilities(rawValue: vf_capability_ipc_lock) }
    /// Many things; what matters here is that the kernel wants it of who reads all of a PCI function's configuration space. The
    /// corresponding C constant is `CAP_SYS_ADMIN`.
    public static var administer: Capabilities { Capabilities(rawValue: vf_capability_sys_admin) }

    /// The bits.
    public let rawValue: UInt64
    /// By the bits.
    public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// The capabilities that it has, or could get by itself.
  public static var capabilities: Capabilities {
    get throws(SystemError) {
      var held: UInt64 = 0
      let result = unsafe vf_capabilities(&held)
      let error = errno
      if result != 0 { throw SystemError("asking for", "capabilities", errno: error) }
      return Capabilities(rawValue: held)
    }
  }

  /// Gives up all capabilities but these, and makes sure of it.
  public static func keep(_ kept: Capabilities) throws(SystemError) {
    let result = vf_keep_capabilities(kept.rawValue)
    let error = errno
    if result != 0 { throw SystemError("giving up", "capabilities", errno: error) }
    if try !capabilities.isSubset(of: kept) { throw SystemError("giving up", "capabilities", errno: EPERM) }
  }

  /// No program that is started and no file gives this process more than it has.
  public static func forbidNewOnes() throws(SystemError) {
    let result = vf_set_no_new_privileges()
    let error = errno
    if result != 0 { throw SystemError("giving up", "new privileges", errno: error) }
  }

  /// Its memory goes into no dump, and no process of the same user may look into it.
  public static func forbidLookingIn() throws(SystemError) {
    let result = vf_set_not_dumpable()
    let error = errno
    if result != 0 { throw SystemError("closing to others", "this process", errno: error) }
  }
}
