// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Migration

@Suite("Stopped devices that run again")
struct ResumeSessionTests {
  @Test("they do so in two phases, with one barrier for all")
  func twoPhases() {
    let devices = [sessionDevice(0, state: .stop), sessionDevice(1, state: .stop)]
    var bench = SessionBench(ResumeSession(devices: devices, plan: .forTest(devices)))
    #expect(bench.answer(0) == .setState(.runningP2P))
    #expect(bench.request(0) == nil)
    #expect(bench.answer(1) == .setState(.runningP2P))
    bench.obey(devices: 2)
    #expect(bench.machine.outcome?.fault == nil)
    #expect(bench.machine.outcome?.devices.map(\.state) == [.running, .running])
  }

  @Test(
    "a device that no request brings to running is a fault, not a success",
    arguments: [MigrationState.error, .resuming])
  func stuck(state: MigrationState) {
    let devices = [sessionDevice(0, state: state), sessionDevice(1, state: .stop)]
    var bench = SessionBench(ResumeSession(devices: devices, plan: .forTest(devices)))
    bench.obey(devices: 2)
    #expect(
      bench.machine.outcome?.fault == .device(0, DeviceError(.setState(.running), .unexpectedState(state))))
    #expect(bench.machine.outcome?.devices.map(\.state) == [state, .running])
  }

  @Test("a device that fails is reported where it is, and one that hangs is given up on request")
  func failures() {
    let devices = [sessionDevice(0, state: .stop), sessionDevice(1, state: .stop)]
    var configuration = QuiesceConfiguration()
    configuration.stepLimit = 1000
    var bench = SessionBench(ResumeSession(devices: devices, plan: .forTest(devices), configuration: configuration))
    let error = DeviceError(.setState(.runningP2P), .errno(.inputOutput))
    for _ in 0..<2 {
      bench.answer(0, .failure(error))
      bench.answer(0, .success(.state(.stop)))
    }
    #expect(bench.request(0) == nil)
    bench.pass(1000)
    bench.handle(.time)
    #expect(bench.wants(.note(.hung(device: 1, .setState(.runningP2P), microseconds: 1000))))
    bench.handle(.interrupt(reason: "a test"))
    #expect(bench.machine.outcome == nil)
    bench.handle(.interrupt(reason: "again"))
    #expect(bench.machine.outcome?.fault == .device(0, error))
    #expect(
      bench.machine.outcome?.devices == [
        DeviceOutcome(name: "device0", state: .stop), DeviceOutcome(name: "device1", state: nil, isHung: true),
      ])
  }
}
