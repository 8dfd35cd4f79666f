// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Which process it is, for good: its number comes again after it has ended, this does not.
public struct ProcessIdentity: Hashable, Sendable {
  /// The process's number.
  public var pid: Int32
  /// When it started, in clock ticks since the machine did: the 22nd field of `/proc/PID/stat`.
  public var startTicks: UInt64
  /// The inode of the process's PID namespace, in which its number counts.
  public var pidNamespace: UInt64
  /// The kernel's name of this run of the machine: `/proc/sys/kernel/random/boot_id`.
  public var boot: String

  /// An identity that was written down.
  public init(pid: Int32, startTicks: UInt64, pidNamespace: UInt64, boot: String) {
    self.pid = pid
    self.startTicks = startTicks
    self.pidNamespace = pidNamespace
    self.boot = boot
  }

  /// This process.
  /// - Parameter proc: where procfs is.
  /// - Throws: ENODATA where procfs does not say.
  public static func current(proc: String = "/proc") throws(SystemError) -> ProcessIdentity {
    guard let boot = boot(proc: proc),
      let namespace = namespace("pid", proc: proc),
      let start = start("\(proc)/self/stat")
    else { throw SystemError("reading about this process in", proc, errno: ENODATA) }
    return ProcessIdentity(pid: getpid(), startTicks: start, pidNamespace: namespace, boot: boot)
  }

  /// The kernel's name of this run of the machine; nil where procfs does not say.
  public static func boot(proc: String = "/proc") -> String? { Files.text("\(proc)/sys/kernel/random/boot_id") }

  /// The inode of one of this process's namespaces, such as "net".
  public static func namespace(_ kind: String, proc: String = "/proc") -> UInt64? {
    // "net:[4026531840]"
    guard let link = Files.link("\(proc)/self/ns/\(kind)"), link.hasPrefix("\(kind):["), link.hasSuffix("]") else {
      return nil
    }
    return UInt64(link.dropFirst(kind.utf8.count + 2).dropLast())
  }

  /// The 22nd field. The second is the program's name, in brackets, and may hold anything.
  private static func start(_ path: String) -> UInt64? {
    guard let text = Files.text(path), let bracket = text.lastIndex(of: ")") else { return nil }
    let fields = text[text.index(after: bracket)...].split(separator: " ")
    return fields.count > 19 ? UInt64(fields[19]) : nil
  }
}
