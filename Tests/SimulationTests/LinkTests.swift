// SPDX-License-Identifier: Apache-2.0
import Migration
import Simulation
import Testing

@Suite("A link that breaks or lies")
struct LinkTests {
  @Test("cut at every frame and in the middle of each, both sides go back", arguments: [true, false])
  func cuts(isTwoWay: Bool) {
    var scenario = FailureTests.scenario([.full, [.stopCopy]])
    scenario.link.isTwoWay = isTwoWay
    let clean = run(scenario).summary
    let ends = Array(clean.frameOffsets.dropFirst()) + [clean.streamBytes]
    for (begin, end) in zip(clean.frameOffsets, ends) {
      for cut in [begin, begin + 20, (begin + end) / 2, end - 1] {
        var broken = scenario
        broken.link.breaksAfter = cut
        let (_, summary) = run(broken)
        #expect(breaches(broken, summary) == [], "after \(cut) bytes")
        guard case .channel = summary.source?.fault, case .stream(let error) = summary.destination?.fault else {
          Issue.record("after \(cut) bytes: \(summary)")
          continue
        }
        #expect(error.kind == .incomplete)
        #expect(summary.source?.devices.map(\.state) == [.running, .running])
        #expect(summary.destination?.devices.map(\.state) == [.running, .running])
      }
    }
  }

  @Test("with any of 400 spread bits flipped, no device leaves resuming with what came")
  func flips() {
    let scenario = FailureTests.scenario([.full, .full])
    let clean = run(scenario).summary
    for number in 0..<400 {
      var flipped = scenario
      flipped.link.flips = [.init(byte: UInt64(number) * clean.streamBytes / 400, bit: number % 8)]
      let (world, summary) = run(flipped)
      #expect(breaches(flipped, summary) == [], "bit \(number)")
      guard case .stream = summary.destination?.fault else {
        Issue.record("bit \(number): \(summary)")
        continue
      }
      #expect(world.devices(of: .destination).allSatisfy { $0.loadedDigest == nil })
    }
  }
}
