// SPDX-License-Identifier: Apache-2.0

/// What the NIC asks of the PCIe fabric. The world decides where an address leads: to memory or to another device.
enum RDMAFabricRequest: Hashable, Sendable {
  /// A posted write.
  case write(address: UInt64, words: [UInt64])
  /// A read, answered by ``RDMANIC/Input/readReply(tag:words:)``.
  case read(address: UInt64, words: Int, tag: UInt32)
  /// The interrupt of a completion queue: a posted write, behind the completion that it tells of.
  case interrupt(completionQueue: UInt32)
}
