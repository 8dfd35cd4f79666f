// SPDX-License-Identifier: Apache-2.0

/// A limit on what a NIC takes from the network (DA9): a token bucket, a token a packet.
struct RDMAInboundLimit: Hashable, Sendable {
  /// Packets in a millisecond, at least 1.
  let packetsPerMillisecond: UInt64
  /// Packets that may come at once after a pause, at least 1.
  let burstPackets: UInt64
  /// In thousandths of a packet.
  private var tokens: UInt64
  private var time: UInt64 = 0

  init(packetsPerMillisecond: UInt64, burstPackets: UInt64) {
    self.packetsPerMillisecond = max(1, packetsPerMillisecond)
    self.burstPackets = min(max(1, burstPackets), 1 << 40)
    tokens = self.burstPackets * 1000
  }

  mutating func admits(at now: UInt64) -> Bool {
    let most = burstPackets * 1000
    let (gained, overflow) = (now - min(now, time)).multipliedReportingOverflow(by: packetsPerMillisecond)
    tokens = overflow || gained >= most - tokens ? most : tokens + gained
    time = now
    guard tokens >= 1000 else { return false }
    tokens -= 1000
    return true
  }
}
