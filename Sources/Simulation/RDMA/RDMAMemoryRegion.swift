// SPDX-License-Identifier: Apache-2.0

/// A range of the guest's addresses that the NIC may touch under a key (DA1: its keys survive a migration).
struct RDMAMemoryRegion: Hashable, Sendable {
  /// What a region may be used for.
  struct Access: OptionSet, Hashable, Sendable {
    let rawValue: UInt8
    static let localWrite = Access(rawValue: 1)
    static let remoteWrite = Access(rawValue: 2)
    static let remoteRead = Access(rawValue: 4)
    static let remoteAtomic = Access(rawValue: 8)
    static let everything: Access = [.localWrite, .remoteWrite, .remoteRead, .remoteAtomic]
  }

  /// The key, for local and remote use (lkey and rkey are one number, as in ConnectX).
  var key: UInt32
  var address: UInt64
  var bytes: UInt64
  var access: Access

  /// Whether that many words at an address are within the region, and may be used so.
  func allows(_ wanted: Access, at start: UInt64, words: Int) -> Bool {
    guard access.isSuperset(of: wanted), Page.wordIndex(start) != nil, start >= address else { return false }
    let last = Page.advanced(start, by: max(0, words - 1))
    return last >= start && last - address < bytes && bytes - (last - address) >= 8
  }
}
