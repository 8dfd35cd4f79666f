// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Testing

/// Has the kernel's iommufd fail at the n-th of its places that can, from now on and in this thread
/// (`CONFIG_FAULT_INJECTION`).
struct FailNth {
  /// How many places are left until the one that fails; 0 after that.
  private(set) var left: Int

  init(_ left: Int) { self.left = left }

  /// A report of each failure would be a screenful.
  static func beQuiet() throws {
    let file = try Descriptor.open("/sys/kernel/debug/fail_iommufd/verbose", O_WRONLY)
    _ = try file.write(Array("0".utf8).span)
  }

  /// Sets the count for this thread; 0 ends it.
  static func set(_ count: Int) throws {
    let file = try Descriptor.open("/proc/thread-self/fail-nth", O_WRONLY)
    _ = try file.write(Array("\(count)".utf8).span)
  }

  /// Counts the places that the body comes to, and fails at the last one.
  mutating func during(_ body: () throws -> Void) throws {
    if left == 0 { return try body() }
    try Self.set(left)
    defer { try? Self.set(0) }
    try body()
    left = try #require(Int(try Files.readText("/proc/thread-self/fail-nth")))
  }
}
