// SPDX-License-Identifier: Apache-2.0
import Migration
import Simulation

/// A checksum of the tests' own: each byte is added to what was there before and spread by a multiplication that can be
/// undone, so that no single flipped bit goes unseen.
let testChecksum = StreamChecksum { bytes in
  var sum: UInt64 = 0x1234_5678_9abc_def1
  for index in bytes.indices {
    sum = (sum ^ UInt64(bytes[index])) &* 0x0000_0100_0000_01b3
  }
  return sum ^ (sum >> 32)
}

extension MigrationFeatures {
  static let full: MigrationFeatures = [.stopCopy, .p2p, .preCopy]
}

/// A small device, so that thousands of runs fit in a minute. Full-featured ones change while they run.
func smallDevice(
  _ number: Int, _ features: MigrationFeatures = .full, state: MigrationState = .running, bytes: Int = 2048
) -> SimulatedDevice.Configuration {
  var device = SimulatedDevice.Configuration(name: "device\(number)")
  device.features = features
  device.initialState = state
  device.stateBytes = bytes
  device.pageBytes = 128
  device.seed = UInt64(number) &* 977 &+ 5
  device.changedBytesPerMicrosecond = 1
  device.hotBytes = 512
  device.mostBytesPerRead = 800
  return device
}

/// A move of these devices, with a pace that fits their size. The devices of the destination are in use too, so that the
/// referee watches them.
func smallMove(_ devices: [SimulatedDevice.Configuration]) -> Scenario {
  var scenario = Scenario(moving: devices)
  for index in scenario.destination.indices {
    scenario.destination[index].isInUse = true
    scenario.destination[index].initialState = .running
  }
  scenario.save.pace.interval = 500
  scenario.save.pace.smallBytes = 300
  scenario.save.quiescing.stepLimit = 100_000
  scenario.load.quiescing.stepLimit = 100_000
  scenario.link.bytesPerMicrosecond = 10
  return scenario
}

/// The world of a scenario whose devices can be brought to a stop.
func world(_ scenario: Scenario, checksum: StreamChecksum = testChecksum) -> SimulatedWorld {
  do throws(QuiesceRefusal) {
    return try SimulatedWorld(scenario, checksum: checksum)
  } catch {
    preconditionFailure("\(error)")
  }
}

func run(_ scenario: Scenario) -> (world: SimulatedWorld, summary: SimulationSummary) {
  var world = world(scenario)
  let summary = world.run()
  return (world, summary)
}

/// What has to hold at the end of every run, whatever went wrong in it; empty where it does.
///
/// - Parameter stubborn: devices may have failed more than once, and may be left where they were on the way back.
func breaches(
  _ scenario: Scenario, _ summary: SimulationSummary, stubborn: Bool = false
) -> [String] {
  var found = summary.violations
  let sides = [(SimulatedSide.source, summary.source), (.destination, summary.destination)]
  for (side, outcome) in sides {
    guard let outcome else {
      found.append("\(side) has no outcome")
      continue
    }
    let devices = side == .source ? scenario.source : scenario.destination
    let keepStopped = side == .source ? scenario.save.keepStopped : scenario.load.keepStopped
    for (index, device) in outcome.devices.enumerated() {
      let initial = devices[index].initialState
      let goal = outcome.fault == nil ? (keepStopped ? .stop : side == .source ? initial : .running) : initial
      let isReported = device.isHung || device.state == nil || device.state == .error
      if outcome.fault == nil, device.state != goal || device.isHung {
        found.append("\(side) reports success, and device \(index) is \(device)")
      } else if device.state != goal, !isReported, !stubborn {
        found.append("\(side): device \(index) should be in \(goal): \(device)")
      }
    }
    if outcome.fault == nil, !outcome.cleanupFaults.isEmpty { found.append("\(side): clean-up without a fault") }
  }
  if summary.destination?.fault == nil, !summary.devices.allSatisfy(\.isVerified) {
    found.append("the destination reports success, and its devices do not hold what they should")
  }
  return found
}

extension Scenario {
  /// A move of a network card that behaves as mlx5 does, and a graphics card, with opaque content.
  /// - Parameters:
  ///   - nicBytes: bytes of the network card's state.
  ///   - gpuBytes: bytes of the graphics card's state.
  ///   - seed: another seed gives other contents and other changes.
  static func nicAndGPU(nicBytes: Int = 64 << 20, gpuBytes: Int = 1 << 30, seed: UInt64 = 1) -> Scenario {
    var nic = SimulatedDevice.Configuration(name: "0000:17:00.2")
    nic.driver = "simulated-nic"
    nic.stateBytes = nicBytes
    nic.pageBytes = 16 << 10
    nic.seed = seed
    nic.changedBytesPerMicrosecond = 40
    nic.hotBytes = max(1, nicBytes / 4)
    nic.offersOnInfoOnly = true
    nic.offersInPreCopyP2P = false
    nic.stopCopyArcMicroseconds = 12_000
    nic.readBytesPerMicrosecond = 2000
    nic.writeBytesPerMicrosecond = 1500
    var gpu = SimulatedDevice.Configuration(name: "0000:3b:00.0")
    gpu.driver = "simulated-gpu"
    gpu.stateBytes = gpuBytes
    gpu.pageBytes = 64 << 10
    gpu.seed = seed &+ 1
    gpu.changedBytesPerMicrosecond = 300
    gpu.hotBytes = max(1, gpuBytes / 32)
    gpu.stopCopyArcMicroseconds = 4000
    gpu.readBytesPerMicrosecond = 8000
    gpu.writeBytesPerMicrosecond = 6000
    return Scenario(moving: [nic, gpu])
  }
}
