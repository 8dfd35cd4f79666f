// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Helper

@Suite("What a device is asked for itself")
struct DeviceRequestTests {
  private typealias Bench = HelperSessionBench

  private static let own: [HelperRequest] = [
    .arc(device: 2, .stop), .reset(device: 2), .describe(device: 2), .tag(device: 2, offset: 0, size: 1),
  ]
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

  @Test(
    "nothing that needs all devices begins while one is being taken over: it would be left out",
    arguments: moves + [.startTracking(pageSize: 4096)])
  func adding(request: HelperRequest) {
    var bench = Bench(devices: [1])
    let added = bench.ask(.addDevice(Bench.device(2)))
    let refusal = bench.refusal(request)
    #expect(refusal?.code == .wrongPhase && refusal?.device == 2)
    bench.finish(added, .device(Bench.info(2)))
    let second = bench.refusal(request)
    #expect(second == nil)
  }

  @Test(
    "what was found of a device that was removed meanwhile is not taken for the next of its number",
    arguments: [true, false])
  func replaced(fails: Bool) {
    var bench = Bench(devices: [1])
    let first = bench.ask(.addDevice(Bench.device(2)))
    bench.ask(.removeDevice(2))
    let second = bench.ask(.addDevice(Bench.device(2)))
    bench.finish(
      first, fails ? .failure(HelperFailure(.device, device: 2, "no")) : .device(Bench.info(2, .resuming)))
    let early = bench.refusal(.beginSave(Bench.save()))
    #expect(early?.device == 2 && early?.code == .wrongPhase)
    bench.finish(second, .device(Bench.info(2)))
    let late = bench.refusal(.beginSave(Bench.save()))
    #expect(late == nil && bench.session.order == [1, 2])
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
