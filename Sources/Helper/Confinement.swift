// SPDX-License-Identifier: Apache-2.0
public import LinuxIO
internal import Topology

/// What a helper gives up before it hears a word from its VMM, so that whoever takes it over, by a packet, a stream or an answer
/// of the kernel's, has what the VMM handed over and no more. docs/confinement.md says it to whoever runs one.
///
/// It keeps: standard input, output and error, its connection, what comes over that; reading of sysfs (``readable``); the system
/// calls of ``calls``, among which ioctl is VFIO's and iommufd's only. It has no way to a file, a socket, a process or a program
/// that it was not given.
public struct Confinement: Sendable {
  /// Whom to become; nil to stay who it is.
  public var user: ProcessUser?

  /// The folder in which it goes on making and removing a file of its own, that of its metrics; nil where it has none.
  public var fileFolder: String?
  /// The folder of a socket to which it goes on accepting connections, that of its metrics, and from which it removes it in the
  /// end; nil where it has none.
  public var socketFolder: String?

  /// - Parameter user: whom to become.
  public init(user: ProcessUser? = nil) { self.user = user }

  /// What can be read: which devices there are and how they hang together (``Inventory``, ``PCIScanner``), with a function's
  /// registers, and what the C library looks at now and then by itself.
  static let readable = [
    "/sys/bus", "/sys/class", "/sys/devices", "/sys/module", "/sys/kernel/iommu_groups", "/sys/kernel/debug/vfio",
    "/proc/sys/kernel/osrelease", "/proc/sys/vm/overcommit_memory",
  ]

  /// Descriptors that a session at its caps can need: each range of guest memory has its file, and where that is of huge pages
  /// one more; each request that waits can have brought two; each device has its own, and its data's.
  static let descriptors: UInt64 = 24_576
  /// Bytes of memory that bitmaps at their cap want locked: see `SharedWords` and `LockedWords`.
  static var lockedBytes: UInt64 { 4 * UInt64(HelperLimits().bitmap) }

  /// Raises the limits on descriptors and on locked memory as far as a session can need, or as this process may.
  public static func raiseLimits() {
    ResourceLimit.descriptors.raise(to: descriptors)
    ResourceLimit.lockedMemory.raise(to: lockedBytes)
  }

  /// Does it, for good. To be called while the process has one thread.
  /// - Parameters:
  ///   - kept: the descriptors that stay open besides standard input, output and error. All others are closed, whoever thinks
  ///     that he owns them.
  ///   - prefix: begins each line on standard error that tells of something refused from then on; at most 63 bytes of it.
  /// - Returns: what is weaker than it could be, for the log.
  /// - Throws: where any of it can't be done: the process is to end then, because it is half confined.
  public func begin(keeping kept: [Int32], prefix: String) throws(ConfinementError) -> [String] {
    // Rules for files count for the thread that puts them in force, and for those that it starts.
    guard Files.names(in: "/proc/self/task").count == 1 else { throw .threads }
    do {
      // What needs a library, a file or a privilege comes first.
      let filter = try SystemCallFilter(
        Self.calls + (fileFolder == nil ? [] : Self.files) + (socketFolder == nil ? [] : Self.socket))
      PCIScanner.keepLibrary()
      Self.raiseLimits()
      try Descriptor.closeAll(but: kept)
      let rules = try FileRules()
      for path in Self.readable { try rules?.allowReading(path) }
      if let fileFolder { try rules?.allowFiles(in: fileFolder) }
      if let socketFolder { try rules?.allowRemoving(in: socketFolder) }

      if let user { try ProcessPrivileges.become(user) }
      // Root without these is kept from the registers of PCI functions that say who can reach whom; by calls and files it is
      // confined all the same.
      try ProcessPrivileges.keep(user == nil ? [.administer, .lockMemory] : [])
      try ProcessPrivileges.forbidLookingIn()
      try ProcessPrivileges.forbidNewOnes()

      let hasRules = rules != nil
      try rules?.enforce()
      try filter.enforce(prefix: prefix)
      return hasRules ? [] : [withoutRules]
    } catch let error as SystemCallFilter.Problem {
      throw .filter(error)
    } catch let error as SystemError {
      throw .system(error)
    } catch {
      preconditionFailure("\(error)")
    }
  }
}

extension Confinement {
  /// What a kernel without Landlock leaves open.
  private var withoutRules: String {
    let more =
      switch (fileFolder, socketFolder) {
      case (nil, nil): ""
      case (nil, _): "; with its metrics' socket, also removed"
      case (_, _): "; with its metrics' file, also renamed and removed"
      }
    return "this kernel has no Landlock (or it is off): a file that the helper's user may open can still be opened"
      + more
  }
}

/// Why a process is not confined.
public enum ConfinementError: Error, Hashable, Sendable {
  /// It has threads already.
  case threads
  /// There is no filter of system calls.
  case filter(SystemCallFilter.Problem)
  /// A call failed.
  case system(SystemError)
}

extension ConfinementError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .threads: "it has more than one thread, or no /proc to tell"
    case .filter(let problem): "\(problem)"
    case .system(let error): "\(error)"
    }
  }
}
