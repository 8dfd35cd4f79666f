// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc

/// A system call that failed.
public struct SystemError: Error, Hashable, Sendable {
  /// What was being done, as in "opening".
  public let operation: String
  /// On what: a path, or what a descriptor stands for.
  public let subject: String
  /// The kernel's error number.
  public let errno: Int32

  /// A failure with its error number, read right after the call.
  public init(_ operation: String, _ subject: String, errno: Int32) {
    self.operation = operation
    self.subject = subject
    self.errno = errno
  }

  /// The C constant's name, such as `EINVAL`.
  public var name: String {
    if let name = unsafe vf_error_name(errno) { return unsafe String(cString: name) }
    return "errno \(errno)"
  }

  /// What the C library says about the error number.
  public var message: String { unsafe String(cString: strerror(errno)) }
}

extension SystemError: CustomStringConvertible {
  public var description: String { "\(operation) \(subject): \(message) (\(name))" }
}
