// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// A limit on what this process may have of something.
public enum ResourceLimit: Sendable {
  /// Open descriptors: the highest number and one. The corresponding C constant is `RLIMIT_NOFILE`.
  case descriptors
  /// Bytes of locked memory. The corresponding C constant is `RLIMIT_MEMLOCK`.
  case lockedMemory

  private var resource: __rlimit_resource_t {
    switch self {
    case .descriptors: __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    case .lockedMemory: __rlimit_resource_t(__RLIMIT_MEMLOCK.rawValue)
    }
  }

  /// Raises it as far as that, or as this process may; a limit that is higher stays.
  /// - Returns: what it is now.
  @discardableResult
  public func raise(to wanted: UInt64) -> UInt64 {
    var limit = rlimit()
    guard unsafe getrlimit(resource, &limit) == 0 else { return 0 }
    let before = UInt64(limit.rlim_cur)
    if before >= wanted { return before }
    var more = limit
    more.rlim_cur = rlim_t(wanted)
    more.rlim_max = max(more.rlim_max, rlim_t(wanted))
    // Above its hard limit only who may.
    if unsafe setrlimit(resource, &more) == 0 { return wanted }
    more = limit
    more.rlim_cur = min(limit.rlim_max, rlim_t(wanted))
    return unsafe setrlimit(resource, &more) == 0 ? UInt64(more.rlim_cur) : before
  }
}
