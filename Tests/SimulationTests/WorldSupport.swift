// SPDX-License-Identifier: Apache-2.0
import Migration

@testable import Simulation

/// How the devices of a machine are brought to a stop.
enum StoppingOrder {
  /// All to P2P, then all to STOP.
  case twoPhases
  /// The same, with that many rounds of flushes before the second phase.
  case flushed(rounds: Int)
  /// One device after the other, in the order of their numbers, or from the last on.
  case oneByOne(reversed: Bool)
  /// In two phases, with a fabric that keeps no order from then on.
  case withoutOrder
}

extension MachineWorld {
  static func configuration(
    _ workload: MachineConfiguration.Workload, isLossy: Bool = false, requests: Int = 12
  ) -> Configuration {
    var configuration = Configuration()
    configuration.machine.workload = workload
    configuration.machine.requests = requests
    configuration.machine.processorsPerNIC = 2
    // What is on its way to a device may take longer than an arc does.
    configuration.machine.arcMicroseconds = 4
    configuration.machine.deviceLink.spread = 25
    configuration.mix = [.writeAndSend, .send, .fetchAdd, .compareSwap, .read]
    if isLossy { configuration.link = .lossy }
    return configuration
  }

  static func finished(_ configuration: Configuration, seed: UInt64) throws -> MachineWorld {
    var world = try MachineWorld(configuration, seed: seed)
    world.start()
    world.runOut()
    return world
  }

  /// A command's answer is waited for so many microseconds.
  static let patience: UInt64 = 20_000

  /// Takes some devices to a state at the same time. - Returns: whether all answered.
  @discardableResult
  mutating func go(_ devices: [Int], to state: MigrationState, host: Int = 0) -> Bool {
    for device in devices { setState(host: host, device: device, to: state) }
    return runUntilAnswered(by: now.adding(microseconds: Self.patience))
  }

  /// Stops everything. - Returns: whether all devices answered.
  @discardableResult
  mutating func stop(_ order: StoppingOrder) -> Bool {
    let devices = Array(0..<configuration.machine.devices)
    stopProcessors(host: 0)
    switch order {
    case .twoPhases: return go(devices, to: .runningP2P) && go(devices, to: .stop)
    case .withoutOrder:
      machines[0].fabric.loseOrder()
      return go(devices, to: .runningP2P) && go(devices, to: .stop)
    case .flushed(let rounds):
      guard go(devices, to: .runningP2P) else { return false }
      for _ in 0..<rounds {
        for device in devices { flush(host: 0, device: device) }
        guard runUntilAnswered(by: now.adding(microseconds: Self.patience)) else { return false }
      }
      return go(devices, to: .stop)
    case .oneByOne(let isReversed):
      for device in isReversed ? devices.reversed() : devices {
        guard go([device], to: .runningP2P), go([device], to: .stop) else { return false }
      }
      return true
    }
  }

  /// Lets everything go on.
  @discardableResult
  mutating func resume(host: Int = 0) -> Bool {
    let devices = Array(0..<configuration.machine.devices)
    guard go(devices, to: .runningP2P, host: host), go(devices, to: .running, host: host) else { return false }
    startProcessors(host: host)
    return true
  }

  /// What has to hold at the end of a run; empty where it does.
  var breaches: [String] {
    var found: [String] = []
    let machine = configuration.machine
    let answered = peers.reduce(0) { $0 + $1.observations.answered }
    let wanted = machine.nics * machine.connections * machine.requests
    if !arePeersDone { found.append("not done at \(now.microseconds)") }
    if answered != wanted { found.append("\(answered) answers, not \(wanted)") }
    for (index, peer) in peers.enumerated() {
      if !peer.observations.mismatches.isEmpty { found.append("peer \(index): \(peer.observations.mismatches)") }
      if !peer.observations.failures.isEmpty { found.append("peer \(index): \(peer.observations.failures)") }
    }
    if !violations.isEmpty { found.append("violations: \(violations)") }
    for (host, machine) in machines.enumerated() {
      if machine.iommu.faults.contains(where: { $0 > 0 }) { found.append("\(host): faults: \(machine.iommu.faults)") }
      if machine.processors.faults > 0 { found.append("\(host): a processor's fault") }
      if machine.gpus.contains(where: { $0.refused > 0 }) { found.append("\(host): a kernel was refused") }
      if !machine.isFabricEmpty { found.append("\(host): packets are under way") }
    }
    return found
  }

  /// Whether memory, on the host where it ended, and what peers saw are as in another run that ended on host 0.
  func endsAs(_ other: MachineWorld, host: Int = 0) -> Bool {
    machines[host].memory.content == other.machines[0].memory.content
      && machines[host].gpus.map(\.memory) == other.machines[0].gpus.map(\.memory)
      && peers.map(\.observations.answered) == other.peers.map(\.observations.answered)
  }
}

extension NetworkLink {
  static var lossy: NetworkLink {
    var link = NetworkLink()
    link.jitterMicroseconds = 3
    link.lossPerMillion = 20_000
    link.duplicationPerMillion = 5_000
    link.reorderingPerMillion = 20_000
    return link
  }
}
