// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Helper

@Suite("What a device is asked for itself")
struct DeviceRequestTests {
  private typealias Bench = HelperSessionBench

  private static let own: [HelperRequest] = [.arc(device: 2, .stop), .reset(device: 2), .describe(device: 2)]
  private static let moves: [HelperRequest] = [.beginSave(Bench.save()), .beginLoad(Bench.load), .resume]

  @Test("no session begins on a device that has not answered, and one does as soon as it has", arguments: own, moves)
  func waits(own: HelperRequest, move: HelperRequest) {
    var bench = Bench(devices: [1, 2])
    let asked = bench.ask(own)
    let refusal = bench.refusal(move)
    #expect(refusal?.code == .wrongPhase && refusal?.device == 2)
    #expect(bench.session.phase == .setup)
    bench.finish(asked, .device(Bench.info(2)))
    let second = bench.refusal(move)
    #expect(second == nil && bench.session.phase != .setup)
  }

  @Test("a device that has failed to do as it was asked has answered too")
  func failed() {
    var bench = Bench(devices: [1, 2])
    bench.finish(bench.ask(.arc(device: 2, .stop)), .failure(HelperFailure(.device, device: 2, "no")))
    let refusal = bench.refusal(.beginSave(Bench.save()))
    #expect(refusal == nil)
  }

  @Test("a device that was removed before it answered holds up nobody, and its answer is about no other of its number")
  func removed() {
    var bench = Bench(devices: [1, 2])
    let asked = bench.ask(.arc(device: 2, .stop))
    bench.ask(.removeDevice(2))
    bench.add(2)
    bench.finish(asked, .device(Bench.info(2, .error)))
    #expect(bench.reply(asked) == .device(Bench.info(2, .error)))
    let refusal = bench.refusal(.beginSave(Bench.save()))
    #expect(refusal == nil)
  }

  @Test("several requests for one device are waited for one after the other")
  func several() {
    var bench = Bench(devices: [1])
    let (first, second) = (bench.ask(.arc(device: 1, .stop)), bench.ask(.arc(device: 1, .running)))
    bench.finish(first, .device(Bench.info(1, .stop)))
    let early = bench.refusal(.beginSave(Bench.save()))
    #expect(early?.code == .wrongPhase)
    bench.finish(second, .device(Bench.info(1)))
    let late = bench.refusal(.beginSave(Bench.save()))
    #expect(late == nil)
  }
}
