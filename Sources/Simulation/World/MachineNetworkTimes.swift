// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// A device's state changed, in truth: not what whoever asked for it believes.
struct MachineStateChange: Hashable, Sendable {
  /// When.
  let time: MonotonicTime
  /// On which host.
  let host: Int
  /// The device's number.
  let device: Int
  /// The state that it entered.
  let state: MigrationState
}

/// For how long each NIC was on no host a part of the network: suspended everywhere, or without its connections.
struct MachineNetworkTimes: Hashable, Sendable {
  /// What is known of one.
  private struct NIC: Hashable, Sendable {
    /// On how many hosts it serves: on one at first.
    var hosts = 1
    /// When it was on none for the last time.
    var last = MonotonicTime(microseconds: 0)
    /// Microseconds of the longest time on none that is over.
    var longest: UInt64 = 0
  }

  /// By the NIC's number.
  private var times: [NIC]

  /// Each serves, on one host.
  init(nics: Int) { times = Array(repeating: NIC(), count: nics) }

  /// On one host more or one less a NIC takes part, and has connections.
  mutating func note(_ nic: Int, isServing: Bool, at now: MonotonicTime) {
    if isServing {
      if times[nic].hosts == 0 {
        times[nic].longest = max(times[nic].longest, now.microseconds(since: times[nic].last))
      }
      times[nic].hosts += 1
    } else {
      times[nic].hosts -= 1
      times[nic].last = now
    }
  }

  /// The longest such time of each NIC up to now, in microseconds, with one that still lasts.
  func outages(at now: MonotonicTime) -> [UInt64] {
    times.map { $0.hosts > 0 ? $0.longest : max($0.longest, now.microseconds(since: $0.last)) }
  }
}
