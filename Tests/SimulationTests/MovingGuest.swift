// SPDX-License-Identifier: Apache-2.0
import Migration
import Simulation

/// A guest with memory without content and one or two devices, on hosts and a link that a seed draws.
struct MovingGuest {
  var scenario: Scenario
  /// Bytes that the link carries in a microsecond.
  let link: UInt64
  /// Bytes of guest memory that are written in a second; the first device's peers write three quarters of them.
  let dirtyRate: UInt64

  static let pages = 1 << 15

  /// - Parameter perMille: how fast memory is written, in thousandths of the link's rate; nil draws it.
  init(seed: UInt64, dirtyPerMille perMille: UInt64? = nil) {
    var numbers = SeededGenerator(seed: seed)
    func draw(_ range: ClosedRange<UInt64>) -> UInt64 {
      range.lowerBound + UInt64(numbers.next(below: Int(range.upperBound - range.lowerBound + 1)))
    }
    link = [25, 125, 312, 625, 1250, 2500][Int(draw(0...5))]
    dirtyRate = link * 1000 * (perMille ?? draw(0...1600))
    var devices: [SimulatedDevice.Configuration] = []
    for number in 0...draw(0...1) {
      var device = SimulatedDevice.Configuration(name: "device \(number)")
      device.seed = seed + number
      device.pageBytes = 64 << 10
      device.stateBytes = 1 << Int(draw(16...23))
      device.hotBytes = device.stateBytes / Int(draw(2...16))
      device.changedBytesPerMicrosecond = max(1, link / draw(3...200))
      device.offersOnInfoOnly = draw(0...1) == 1
      device.arcMicroseconds = draw(50...4000)
      device.stopCopyArcMicroseconds = device.arcMicroseconds * draw(1...6)
      device.readBytesPerMicrosecond = max(100, link * draw(1...8) / 2)
      device.writeBytesPerMicrosecond = device.readBytesPerMicrosecond
      devices.append(device)
    }
    scenario = Scenario(moving: devices)
    scenario.seed = seed
    scenario.commits = true
    scenario.link.bytesPerMicrosecond = link
    scenario.link.delayMicroseconds = draw(10...2000)
    scenario.memory = SimulatedMemory.Configuration(
      pages: Self.pages,
      writers: [
        .init(device: 0, pages: 0..<Self.pages / 2, bytesPerSecond: dirtyRate * 3 / 4),
        .init(device: nil, pages: Self.pages / 2..<Self.pages, bytesPerSecond: dirtyRate / 4),
      ])
    var memory = PreCopyConfiguration()
    memory.throttled = devices.indices.map { $0 == 0 }
    memory.downtimeLimit = draw(30_000...400_000)
    memory.lastResort = .force
    scenario.save.memory = memory
  }

  /// Takes over what stopping and loading cost from a move of the same devices, empty, between the same hosts.
  mutating func learn() {
    var rehearsal = scenario
    rehearsal.memory = nil
    let world = run(rehearsal).world
    func steps(of side: SimulatedSide) -> [StepReport] {
      world.notes.compactMap { if case .stepEnded(let step) = $0.note, $0.side == side { step } else { nil } }
    }
    scenario.save.memory?.takeQuiescing(from: steps(of: .source), vcpus: scenario.vcpuStopMicroseconds)
    scenario.save.memory?.takeLoading(
      from: steps(of: .destination), roundTrip: 2 * scenario.link.delayMicroseconds)
  }
}
