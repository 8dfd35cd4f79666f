// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// How many descriptors this process may have open.
public enum DescriptorLimit {
  /// Raises the soft limit to the hard one. What is started from here inherits that, so this is for a program whose
  /// children, and whose libraries, wait by nothing like select(2).
  ///
  /// The corresponding C constant is `RLIMIT_NOFILE`.
  public static func raise() throws(SystemError) {
    let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    var limit = rlimit()
    let asked = unsafe getrlimit(resource, &limit)
    let askError = errno
    if asked != 0 { throw SystemError("asking for", "the limit on descriptors", errno: askError) }
    limit.rlim_cur = limit.rlim_max
    let result = unsafe setrlimit(resource, &limit)
    let error = errno
    if result != 0 { throw SystemError("raising", "the limit on descriptors", errno: error) }
  }
}
