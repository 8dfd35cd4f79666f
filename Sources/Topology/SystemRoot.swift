// SPDX-License-Identifier: Apache-2.0

/// Where the system's folders are: `/` for real, a temporary folder in a test.
public struct SystemRoot: Hashable, Sendable {
  /// The path that comes before `/sys`, `/dev` and `/proc`; empty for the real system.
  public let prefix: String

  /// The system below that prefix; by default the real one.
  public init(prefix: String = "") { self.prefix = prefix }

  /// sysfs.
  public var sys: String { prefix + "/sys" }
  /// Device nodes.
  public var dev: String { prefix + "/dev" }
  /// procfs.
  public var proc: String { prefix + "/proc" }
  /// debugfs.
  public var debug: String { prefix + "/sys/kernel/debug" }
  /// Where kernels are, and what they were configured with.
  public var boot: String { prefix + "/boot" }
  /// The modules of kernels, a folder for each release.
  public var modules: String { prefix + "/lib/modules" }
}
