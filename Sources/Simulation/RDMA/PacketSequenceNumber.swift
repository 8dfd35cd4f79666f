// SPDX-License-Identifier: Apache-2.0

/// A packet sequence number (PSN) of a reliable connection: 24 bits that wrap around.
struct PacketSequenceNumber: Hashable, Sendable {
  /// 0 to 2^24 - 1.
  let value: UInt32

  /// The low 24 bits of a number.
  init(_ value: UInt32) { self.value = value & 0xff_ffff }

  /// The number that many packets later; earlier, where that is negative.
  func advanced(by packets: Int) -> PacketSequenceNumber {
    PacketSequenceNumber(value &+ UInt32(truncatingIfNeeded: packets))
  }

  /// Packets from `earlier` to here, from -2^23 to 2^23 - 1: negative, where it is later than this.
  func distance(from earlier: PacketSequenceNumber) -> Int {
    Int(Int32(bitPattern: (value &- earlier.value) << 8) >> 8)
  }
}
