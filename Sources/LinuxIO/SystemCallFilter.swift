// SPDX-License-Identifier: Apache-2.0
internal import CConfinement
internal import Glibc

/// A filter of the system calls that this process may make, for good. The corresponding system call is seccomp(2).
///
/// A call that no rule allows fails with EPERM, and a line on standard error tells of it. `open` and `openat` are carried out
/// all the same, by a handler that tells of a file which the process may not have (``FileRules``) by its path.
@safe
public struct SystemCallFilter: ~Copyable {
  /// A call that is allowed. Several rules for one call each allow it.
  public struct Rule: Sendable {
    /// What the call's argument has to be.
    enum Condition: Sendable {
      case anything
      case masked(argument: UInt32, mask: UInt64, value: UInt64)
    }
    let name: StaticString
    let condition: Condition

    /// Whatever its arguments.
    public static func call(_ name: StaticString) -> Rule { Rule(name: name, condition: .anything) }

    /// Where these bits of an argument, counted from 0, have that value.
    public static func call(
      _ name: StaticString, argument: UInt32, mask: UInt64 = .max, is value: UInt64
    ) -> Rule {
      Rule(name: name, condition: .masked(argument: argument, mask: mask, value: value))
    }

    fileprivate var raw: vf_call_rule {
      var rule = unsafe vf_call_rule()
      // A StaticString with a pointer ends with a zero.
      precondition(name.hasPointerRepresentation)
      unsafe rule.name = UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self)
      switch condition {
      case .anything: unsafe rule.condition = VF_CONDITION_NONE
      case .masked(let argument, let mask, let value):
        unsafe rule.condition = VF_CONDITION_MASKED
        unsafe (rule.argument, rule.mask, rule.value) = (argument, mask, value)
      }
      return unsafe rule
    }
  }

  /// Why there is no filter.
  public enum Problem: Error, Hashable, Sendable {
    /// This machine has no libseccomp, or one that lacks what is needed.
    case noLibrary
    /// libseccomp does not know this call.
    case unknownCall(String)
    /// A call failed.
    case system(SystemError)
  }

  private var filter: OpaquePointer?

  /// Loads libseccomp, and makes a filter that is not in force yet.
  public init(_ rules: [Rule]) throws(Problem) {
    var made: OpaquePointer?
    var place = 0
    let raw = unsafe rules.map { unsafe $0.raw }
    let result = unsafe vf_filter_make(raw, raw.count, &made, &place)
    let error = errno
    switch result {
    case VF_FILTER_MADE: unsafe filter = made
    case VF_FILTER_NO_LIBRARY: throw .noLibrary
    case VF_FILTER_UNKNOWN_CALL: throw .unknownCall("\(rules[place].name)")
    default:
      let subject = place < rules.count ? "the rule for \(rules[place].name)" : "libseccomp"
      throw .system(SystemError("making a filter of system calls with", subject, errno: error))
    }
  }

  deinit { if let filter = unsafe filter { unsafe vf_filter_release(filter) } }

  /// Puts it in force for all threads. Needs ``ProcessPrivileges/forbidNewOnes()``.
  /// - Parameter prefix: begins each line that tells of a refusal; at most 63 bytes of it.
  public consuming func enforce(prefix: String) throws(SystemError) {
    guard let ready = unsafe filter else { return }
    unsafe filter = nil
    let result = unsafe vf_filter_load(ready, prefix)
    let error = errno
    if result != 0 { throw SystemError("putting in force", "the filter of system calls", errno: error) }
  }
}

extension SystemCallFilter.Problem: CustomStringConvertible {
  public var description: String {
    switch self {
    case .noLibrary: "libseccomp.so.2 can't be loaded (Debian has it in libseccomp2)"
    case .unknownCall(let name): "libseccomp is too old: it does not know the system call \(name)"
    case .system(let error): "\(error)"
    }
  }
}
