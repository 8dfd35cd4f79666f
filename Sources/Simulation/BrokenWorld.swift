// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// How a world is broken on purpose; see ``Sabotage``. What the sessions are, and what they decide, stays as it is.
extension SimulatedWorld {
  var sabotage: Sabotage? { scenario.world?.sabotage }

  /// The fabric keeps no order from the stop on.
  mutating func breakOrder() {
    if sabotage == .withoutOrder {
      machines?.machines[0].fabric.loseOrder(holdingUp: 2 * (scenario.world?.arcMicroseconds ?? 0))
    }
  }

  // MARK: A queue pair with another number

  /// The record of a device's image in which the number is forged on the way into the destination's NIC.
  func numberToForge(_ device: Int, _ content: DeviceContent) -> Int? {
    guard sabotage == .renumberedQueuePair, device == 0 else { return nil }
    let queuePairs = (0..<content.count).filter {
      content.words(ofRecord: $0).first.map { UInt32(truncatingIfNeeded: $0) } == RDMANIC.queuePairKind
    }
    return queuePairs.isEmpty ? nil : queuePairs[Int(scenario.seed % UInt64(queuePairs.count))]
  }

  /// Another number in the low half of a word.
  static func forgedNumber(_ word: UInt64) -> UInt64 { word ^ 0x10_0000 }

  // MARK: A lost COMMIT that is taken for an abort

  /// The source has handed COMMIT to the channel, which breaks some time later.
  mutating func noteCommit() {
    isCommitHanded = true
    guard sabotage == .commitAsAbort else { return }
    let most = 2 * Int(scenario.link.delayMicroseconds) + 4 * Int(scenario.world?.arcMicroseconds ?? 0)
    queue.put(.linkBreaks, at: now.adding(microseconds: UInt64(chance.next(below: most + 1))))
  }

  /// The source starts again what it has let go of.
  mutating func forceRestart() {
    forcedPaths = hosts[0].devices.indices.map { device in
      hosts[0].devices[device].graph.path(from: hosts[0].devices[device].state, to: .running) ?? []
    }
    for device in forcedPaths.indices {
      if let first = forcedPaths[device].first { machines?.setState(host: 0, device: device, to: first) }
    }
  }

  /// A function has answered a command of the forced restart. - Returns: whether it was one.
  mutating func restartIsForced(_ host: Int, _ device: Int, _ state: MigrationState) -> Bool {
    guard host == 0, !forcedPaths.isEmpty, forcedPaths[device].first == state else { return false }
    forcedPaths[device].removeFirst()
    if let next = forcedPaths[device].first { machines?.setState(host: 0, device: device, to: next) }
    if forcedPaths.allSatisfy(\.isEmpty) { startVCPUs(.source) }
    return true
  }
}
