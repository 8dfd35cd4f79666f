// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc

/// Another process. Once it has ended every call fails with ESRCH, even if its number is in use again.
public struct ProcessHandle: ~Copyable {
  /// The process's number.
  public let pid: Int32
  private let descriptor: Descriptor

  /// The corresponding system call is pidfd_open(2).
  public init(pid: Int32) throws(SystemError) {
    let number = vf_pidfd_open(pid, 0)
    let error = errno
    if number < 0 { throw SystemError("finding", "process \(pid)", errno: error) }
    self.pid = pid
    descriptor = Descriptor(owning: number, subject: "process \(pid)")
  }

  /// A duplicate of one of the process's descriptors; the caller owns it. The process notices nothing. Needs the
  /// permission to trace it. The corresponding system call is pidfd_getfd(2).
  public func duplicate(descriptor number: Int32, subject: String) throws(SystemError) -> Descriptor {
    let result = vf_pidfd_getfd(descriptor.rawValue, number, 0)
    let error = errno
    if result < 0 {
      throw SystemError("duplicating", "descriptor \(number) of process \(pid) (\(subject))", errno: error)
    }
    return Descriptor(owning: result, subject: subject)
  }
}
