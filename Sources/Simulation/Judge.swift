// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Synchronization

/// Says what of a run is not as it has to be. It stands apart from the engine: it looks at the machines, at what the peers
/// saw, and at a run of the same guest that is never moved.
///
/// What must hold:
/// - a machine that runs in the end has the memory, the GPU memory, and its peers have every answer, as without a move;
/// - nothing arrives at a stopped device, and a stopped device writes nothing;
/// - numbers, keys, addresses and sequence numbers survive (DA1, DA2);
/// - no peer sees an error that its settings could have outlasted (DA3);
/// - at most one side runs, and where none does, somebody says so;
/// - where nothing goes wrong the machine is moved, and a move that fails leaves each device that did not fail as it was;
/// - every page that was written was sent.
///
/// What a guest's own reset of a device breaks, and what ends with a machine that is lost, is nobody's fault.
public final class Judge: Sendable {
  /// How the same guest ends that is never moved.
  private struct Reference: Sendable {
    let memory: PagedMemory
    let gpus: [PagedMemory]
  }

  /// Looked up only, never walked through.
  private let references = Mutex<[MachineWorld.Configuration: Reference]>([:])

  /// A judge that has seen nothing yet. It remembers the runs that it holds others against, and may be asked by many threads.
  public init() {}

  /// What is broken in a run that is over, each in words and with its time; nothing, where all is as it has to be.
  public func findings(_ world: SimulatedWorld) -> [String] {
    guard let machines = world.machines else { return world.referee.violations }
    var findings = world.referee.violations + world.findings
    if machines.isExhausted { findings.append("the run does not come to an end") }
    for violation in machines.violations where !Self.isDead(violation, world) {
      findings.append("\(violation)")
      if findings.count > 10 { break }
    }
    findings += Self.ownership(world, machines)
    findings += Self.endings(world, machines)
    findings += world.memoryFindings
    findings += transparency(world, machines)
    return findings
  }

  /// What a device that never answered, or of which nobody knows where it is, loses once others no longer wait for it is lost
  /// with it: the session has said so, and no vCPU runs.
  private static func isDead(_ violation: MachineViolation, _ world: SimulatedWorld) -> Bool {
    let side: SimulatedSide = violation.host == 0 ? .source : .destination
    guard let device = world.outcome(of: side)?.devices[violation.device], world.place != .runs(side) else {
      return false
    }
    return device.isHung || device.state == nil
  }

  // MARK: Who runs

  private static func ownership(_ world: SimulatedWorld, _ machines: MachineWorld) -> [String] {
    var findings: [String] = []
    let outcomes = SimulatedSide.allCases.map(world.outcome)
    if case .runs(let side) = world.place {
      let devices = world.devices(of: side).indices
      let isAlive = !world.isKilled[side.rawValue]
      let allRun = devices.allSatisfy { machines.state(host: side.rawValue, device: $0).mayStartPeerTransfers }
      if !isAlive || !allRun { findings.append("the machine is said to run on the \(side), and it does not") }
      if side == .destination, !world.isMemoryCompared { findings.append("nothing left STOP, and the machine runs") }
    } else {
      // Who is left has to say that something is wrong, unless the machine ran and died with its process.
      let ranThere = world.isKilled[1] && outcomes[0]?.commitment == .complete
      let isSaid = SimulatedSide.allCases.contains {
        !world.isKilled[$0.rawValue] && outcomes[$0.rawValue]?.fault != nil
      }
      if !isSaid, !ranThere, world.isKilled.contains(false) {
        findings.append("the machine runs nowhere, and nobody says so")
      }
    }
    guard let source = outcomes[0] else { return findings }
    if source.commitment != .none, world.place == .runs(.source) {
      findings.append("the source has let go of the machine, and runs it")
    }
    let isThere = world.place == .runs(.destination) || world.isKilled[1]
    if source.fault == nil, world.areAgreed, source.commitment != .complete || !isThere {
      findings.append("the source reports success, and the machine does not run on the destination")
    }
    return findings
  }

  // MARK: As without a move

  private func transparency(_ world: SimulatedWorld, _ machines: MachineWorld) -> [String] {
    guard case .runs(let side) = world.place else { return [] }
    let configuration = machines.configuration
    let outages = machines.outages
    let wasReset = machines.nicsResetByGuest
    // A NIC with a connection that broke, or that its guest reset, leaves requests undone.
    var isWhole = wasReset.map { !$0 }
    var findings: [String] = []
    for (number, peer) in machines.peers.enumerated() {
      for failure in peer.observations.failures {
        let nic = machines.nic(ofPeer: number, connection: failure.connection)
        if wasReset[nic] { continue }
        isWhole[nic] = false
        let allowance = Self.allowance(configuration)
        if !failure.status.isSilence || outages[nic] + Self.margin < allowance {
          findings.append(
            "\(failure.time.microseconds): peer \(number) saw \(failure.status) on connection \(failure.connection), with"
              + " its NIC away for \(outages[nic]) us only, of \(allowance) that it can outlast")
        }
      }
      for wrong in peer.observations.mismatches.prefix(3)
      where !wasReset[machines.nic(ofPeer: number, connection: wrong.connection)] {
        findings.append(
          "\(wrong.time.microseconds): peer \(number) got a wrong answer to request \(wrong.request) on connection"
            + " \(wrong.connection)")
      }
    }
    for (number, peer) in machines.peers.enumerated() {
      let undone = peer.connections.indices.filter {
        isWhole[machines.nic(ofPeer: number, connection: $0)]
          && peer.connections[$0].finished < configuration.machine.requests
      }
      guard let first = undone.first else { continue }
      findings.append("peer \(number) waits for answers on \(undone.count) connections, \(first) among them")
    }
    guard findings.isEmpty, !isWhole.contains(false) else { return findings }
    let host = machines.machines[side.rawValue]
    let reference = reference(configuration)
    if host.memory.content != reference.memory { findings.append("guest memory does not end as without a move") }
    for (number, gpu) in host.gpus.enumerated() where gpu.memory != reference.gpus[number] {
      findings.append("the memory of GPU \(number) does not end as without a move")
    }
    let faults = host.iommu.faults.reduce(0, +)
    if faults > 0 { findings.append("devices met \(faults) addresses that lead nowhere") }
    if host.processors.faults > 0 { findings.append("a vCPU met an address that leads nowhere") }
    return findings
  }

  /// Microseconds that the network and a resume take at most, beside the outage.
  private static let margin: UInt64 = 300

  /// Microseconds for which a NIC may be away without a peer seeing an error: until the last retransmission, or an earlier one
  /// where the network may lose it or its answer.
  private static func allowance(_ configuration: MachineWorld.Configuration) -> UInt64 {
    let settings = configuration.machine.retransmission
    let link = configuration.link
    let spare = link.lossPerMillion + link.reorderingPerMillion > 0 ? 4 : 0
    let last = settings.retries - 1 - spare
    guard last >= 0 else { return 0 }
    return (0...last).reduce(0) { $0 + settings.timeout(after: $1) }
  }

  private func reference(_ configuration: MachineWorld.Configuration) -> Reference {
    // Neither network nor timing decide how a guest ends.
    var plain = configuration
    plain.hosts = 1
    plain.link = NetworkLink()
    plain.keepsRoundTrips = false
    plain.pauseMicroseconds = 0
    plain.machine.retransmission = RetransmissionSettings()
    plain.machine.quiescing = .betweenPackets
    if let known = references.withLock({ $0[plain] }) { return known }
    guard var world = try? MachineWorld(plain, seed: 1) else { preconditionFailure("a guest that ran can't be set up") }
    world.start()
    world.runOut()
    let reference = Reference(memory: world.machines[0].memory.content, gpus: world.machines[0].gpus.map(\.memory))
    references.withLock { $0[plain] = reference }
    return reference
  }
}
