// SPDX-License-Identifier: Apache-2.0
import Migration
import Simulation
import Testing

@Suite("A move without faults")
struct MoveTests {
  static let groups: [[MigrationFeatures]] =
    MigrationFeatures.definedCombinations.map { [$0] } + [
      [.full, .full],
      [.full, [.stopCopy]],
      [[.stopCopy, .preCopy], .full],
      [[.stopCopy, .p2p], [.stopCopy, .preCopy]],
      [[.stopCopy, .p2p], [.stopCopy, .p2p]],
      [.full, [.stopCopy, .p2p], .full, [.stopCopy], [.stopCopy, .p2p]],
      [[.stopCopy, .preCopy], .full, .full, [.stopCopy, .p2p], .full],
    ]

  static func check(_ scenario: Scenario) -> SimulationSummary {
    let (_, summary) = run(scenario)
    let found = breaches(scenario, summary)
    #expect(found == [])
    #expect(summary.isVerified, "\(summary)")
    return summary
  }

  @Test("every device has at the destination what it had when it stopped", arguments: groups)
  func movesWhole(features: [MigrationFeatures]) {
    let devices = features.enumerated().map { smallDevice($0, $1) }
    for isTwoWay in [true, false] {
      var scenario = smallMove(devices)
      scenario.link.isTwoWay = isTwoWay
      let summary = Self.check(scenario)
      #expect(summary.source?.devices.allSatisfy { $0.state == .stop } == true)
      #expect(summary.destination?.devices.allSatisfy { $0.state == .running } == true)
    }
  }

  @Test("devices that are stopped or quiet when they are found move too, and those of the source return to that")
  func initialStates() {
    let states: [MigrationState] = [.running, .runningP2P, .stop]
    for first in states {
      for second in states {
        for keepStopped in [false, true] {
          var scenario = smallMove([smallDevice(0, state: first), smallDevice(1, [.stopCopy, .p2p], state: second)])
          scenario.save.keepStopped = keepStopped
          scenario.destination[0].initialState = second
          scenario.destination[1].initialState = first
          let summary = Self.check(scenario)
          #expect(summary.source?.devices.map(\.state) == (keepStopped ? [.stop, .stop] : [first, second]))
        }
      }
    }
  }

  @Test("what changes while it is copied arrives in its latest form")
  func latestContent() {
    let scenario = smallMove([smallDevice(0), smallDevice(1)])
    let before = SimulationTests.world(scenario).devices(of: .source).map(\.contentDigest)
    let (world, summary) = run(scenario)
    #expect(summary.isVerified)
    let after = world.devices(of: .source).map(\.contentDigest)
    #expect(zip(before, after).allSatisfy { $0 != $1 })
    #expect(world.devices(of: .source).map(\.savedDigest) == world.devices(of: .destination).map(\.loadedDigest))
    #expect(summary.devices.allSatisfy { $0.preCopyBytes > 2048 && $0.imageBytes > $0.preCopyBytes })
  }

  @Test("a device that saves anew only when it is asked for its info, and not at all in pre-copy-p2p, moves whole")
  func likeMlx5() {
    var first = smallDevice(0)
    first.offersOnInfoOnly = true
    first.offersInPreCopyP2P = false
    first.verifiesImage = false
    var second = smallDevice(1, state: .runningP2P)
    second.offersInPreCopyP2P = false
    let summary = Self.check(smallMove([first, second]))
    #expect(summary.devices[0].preCopyBytes > 2048)
  }

  @Test("a device that changes faster than it can be read stops all the same")
  func doesNotConverge() {
    var device = smallDevice(0)
    device.changedBytesPerMicrosecond = 1000
    device.hotBytes = nil
    _ = Self.check(smallMove([device, smallDevice(1)]))
  }

  @Test("a device whose info takes longer than the pace, next to others, does not put the stop off for ever")
  func slowInfo() {
    var devices = (0..<8).map { smallDevice($0) }
    for index in devices.indices {
      devices[index].callMicroseconds = 3000 + UInt64(index) * 977
      devices[index].changedBytesPerMicrosecond = 0
    }
    _ = Self.check(smallMove(devices))
  }

  @Test("one transfer buffer is enough for any number of devices", arguments: [1, 2, 3, 8])
  func fewBuffers(buffers: Int) {
    var scenario = smallMove((0..<5).map { smallDevice($0) })
    scenario.save.buffers = buffers
    scenario.load.buffers = buffers
    _ = Self.check(scenario)
  }

  @Test("without pre-copy everything is read after the stop")
  func withoutPreCopy() {
    var scenario = smallMove([smallDevice(0), smallDevice(1)])
    scenario.save.preCopy = false
    let summary = Self.check(scenario)
    #expect(summary.devices.allSatisfy { $0.preCopyBytes == 0 })
  }

  @Test("pre-copy leaves less to read after the stop")
  func preCopyHelps() {
    var scenario = smallMove([smallDevice(0, bytes: 16_384)])
    let with = Self.check(scenario)
    scenario.save.preCopy = false
    let without = Self.check(scenario)
    let rest = with.devices[0].imageBytes - with.devices[0].preCopyBytes
    #expect(rest * 4 < without.devices[0].imageBytes)
  }

  @Test("the destination may keep its devices stopped, and the source may go on")
  func otherEnds() {
    var scenario = smallMove([smallDevice(0), smallDevice(1, [.stopCopy])])
    scenario.save.keepStopped = false
    scenario.load.keepStopped = true
    let summary = Self.check(scenario)
    #expect(summary.source?.devices.map(\.state) == [.running, .running])
    #expect(summary.destination?.devices.map(\.state) == [.stop, .stop])
  }

  @Test("what the VMM keeps of a device comes along")
  func vmmState() {
    var device = smallDevice(0)
    device.vmmState = [1, 2, 3]
    let (world, summary) = run(smallMove([device, smallDevice(1)]))
    #expect(summary.isVerified)
    #expect(world.loadedVMMStates == [[1, 2, 3], nil])
  }

  @Test("in a two-way move no device stops before the destination has every device's initial data")
  func waitsForAnswers() throws {
    var scenario = smallMove([smallDevice(0), smallDevice(1)])
    scenario.link.delayMicroseconds = 50_000
    for index in scenario.source.indices { scenario.source[index].changedBytesPerMicrosecond = 0 }
    let (world, _) = run(scenario)
    let stop = try #require(world.notes.first { $0.note == .phase("ending peer transfers") && $0.side == .source })
    #expect(stop.time.microseconds > 100_000)
  }

  @Test("two devices without P2P states that may write to each other are refused, with their names")
  func refusal() throws {
    let scenario = smallMove([smallDevice(0, [.stopCopy]), smallDevice(1), smallDevice(2, [.stopCopy, .preCopy])])
    #expect {
      _ = try SimulatedWorld(scenario, checksum: testChecksum)
    } throws: { error in
      guard let refusal = error as? QuiesceRefusal else { return false }
      return refusal.cycle == [0, 2] && "\(refusal)".contains("device0 and device2")
    }
  }

  @Test("a destination that does not fit is left untouched", arguments: 0..<4)
  func mismatch(kind: Int) {
    var scenario = smallMove([smallDevice(0), smallDevice(1)])
    switch kind {
    case 0: scenario.destination.removeLast()
    case 1: scenario.destination[1].driver = "another"
    case 2: scenario.destination[1].features = [.stopCopy, .p2p]
    default:
      scenario.source[1].tag = [1]
      scenario.destination[1].tag = [2]
    }
    let (world, summary) = run(scenario)
    guard case .mismatch = summary.destination?.fault else {
      Issue.record("\(summary)")
      return
    }
    #expect(summary.violations == [])
    #expect(world.devices(of: .destination).allSatisfy { $0.uses(of: .anyArc) == 0 && $0.uses(of: .reset) == 0 })
    #expect(summary.source?.devices.map(\.state) == [.running, .running])
  }

  @Test("the same scenario gives the same run, bit for bit, and another seed another one")
  func reproducible() {
    let scenario = Scenario.nicAndGPU(nicBytes: 1 << 16, gpuBytes: 1 << 18, seed: 7)
    let (first, second) = (run(scenario).summary, run(scenario).summary)
    #expect(first.isVerified)
    #expect(first.runDigest == second.runDigest)
    #expect(first.totalMicroseconds == second.totalMicroseconds)
    let other = run(Scenario.nicAndGPU(nicBytes: 1 << 16, gpuBytes: 1 << 18, seed: 8)).summary
    #expect(other.devices.allSatisfy { $0.isVerified })
    #expect(other.runDigest != first.runDigest)
  }

  @Test("the built-in scenario moves more than 1 GiB and is verified")
  func builtIn() {
    // The contents are verified by the devices; here the stream's own checksum may be cheap.
    var world = SimulationTests.world(.nicAndGPU(), checksum: StreamChecksum { UInt64($0.count) })
    let summary = world.run()
    #expect(summary.isVerified, "\(summary.violations)")
    #expect(summary.streamBytes > 1 << 30)
    #expect(summary.downtimeMicroseconds != nil)
  }
}
