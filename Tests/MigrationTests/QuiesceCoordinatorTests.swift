// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Migration

@Suite("The coordinator, step by step")
struct QuiesceCoordinatorTests {
  static let full: MigrationFeatures = [.stopCopy, .p2p, .preCopy]

  /// A save without pre-copy of devices with these features; each link is a pair of positions.
  static func bench(
    _ features: [MigrationFeatures], links: [[Int]]? = nil,
    _ change: (inout SaveSession.Configuration) -> Void = { _ in }
  ) throws -> SessionBench<SaveSession> {
    let devices = features.enumerated().map { sessionDevice($0, $1) }
    let reachability = Reachability(count: features.count) { from, to in
      let exists = links?.contains([from, to]) ?? true
      return Reachability.Link(path: exists ? .unknown : .none, reason: "a test", origin: .assumed)
    }
    var configuration = SaveSession.Configuration()
    configuration.preCopy = false
    configuration.quiescing.vcpusAreStopped = true
    configuration.quiescing.stepLimit = 1000
    change(&configuration)
    var bench = SessionBench(
      SaveSession(
        devices: devices, plan: try QuiescePlan(devices: devices, reachability: reachability),
        configuration: configuration))
    for device in devices.indices { #expect(bench.answer(device) == .stopCopySize) }
    return bench
  }

  private func requests(_ bench: SessionBench<SaveSession>, _ devices: Int) -> [ControlRequest?] {
    (0..<devices).map { bench.request($0) }
  }

  @Test("all devices of a step are asked at once, and nobody is asked for the next before the last has answered")
  func barrier() throws {
    var bench = try Self.bench([Self.full, Self.full, [.stopCopy]])
    #expect(requests(bench, 3) == [.setState(.runningP2P), .setState(.runningP2P), nil])
    bench.answer(1)
    #expect(requests(bench, 3) == [.setState(.runningP2P), nil, nil])
    bench.answer(0)
    #expect(requests(bench, 3) == [nil, nil, .setState(.stop)])
    bench.answer(2)
    #expect(requests(bench, 3) == [.setState(.stop), .setState(.stop), .setState(.stopCopy)])
    // Inside a step each device goes its own way.
    bench.answer(0)
    #expect(requests(bench, 3) == [.setState(.stopCopy), .setState(.stop), .setState(.stopCopy)])
  }

  @Test("of devices without P2P states the initiator stops first, and starts last")
  func levels() throws {
    var bench = try Self.bench([[.stopCopy], [.stopCopy]], links: [[1, 0]])
    #expect(requests(bench, 2) == [nil, .setState(.stop)])
    bench.answer(1)
    #expect(requests(bench, 2) == [.setState(.stop), nil])
    bench.answer(0, .failure(DeviceError(.setState(.stop), .errno(.inputOutput))))
    bench.answer(0, .success(.state(.running)))
    // It may have been stopped by half: through STOP, then both run again, the target first.
    #expect(requests(bench, 2) == [.setState(.stop), nil])
    bench.answer(0)
    #expect(requests(bench, 2) == [.setState(.running), nil])
    bench.answer(0)
    #expect(requests(bench, 2) == [nil, .setState(.running)])
    bench.answer(1)
    #expect(bench.machine.outcome?.devices.map(\.state) == [.running, .running])
  }

  @Test("nothing is asked of a device before the vCPUs have stopped, however often time passes")
  func vcpus() throws {
    var bench = try Self.bench([Self.full, [.stopCopy]]) { $0.quiescing.vcpusAreStopped = false }
    #expect(bench.wants(.stopVCPUs))
    bench.pass(10_000)
    bench.handle(.time)
    #expect(requests(bench, 2) == [nil, nil])
    #expect(bench.machine.stopBegan == nil)
    bench.handle(.vcpusStopped)
    #expect(bench.machine.stopBegan == bench.now)
    // What they said while the guest ran may have changed.
    #expect(requests(bench, 2) == [.readState, .readState])
    bench.answer(0)
    #expect(requests(bench, 2) == [nil, .readState])
    bench.answer(1)
    #expect(requests(bench, 2) == [.setState(.runningP2P), nil])
  }

  @Test("a device that left its P2P state or its stop before the vCPUs had stopped is quiesced like the others")
  func changedMeanwhile() throws {
    for found in [MigrationState.runningP2P, .stop] {
      let devices = [sessionDevice(0, state: found), sessionDevice(1)]
      var configuration = SaveSession.Configuration()
      configuration.preCopy = false
      var bench = SessionBench(SaveSession(devices: devices, plan: .forTest(devices), configuration: configuration))
      for device in 0...1 { #expect(bench.answer(device) == .stopCopySize) }
      bench.handle(.vcpusStopped)
      for device in 0...1 { bench.answer(device, .success(.state(.running))) }
      #expect(requests(bench, 2) == [.setState(.runningP2P), .setState(.runningP2P)], "\(found)")
    }
  }

  @Test("a device that its guest reset after pre-copy, before the vCPUs had stopped, is voided and read anew")
  func resetWhileWaiting() throws {
    let device = sessionDevice(0)
    var bench = SessionBench(SaveSession(devices: [device], plan: .forTest([device])))
    bench.obey(devices: 1) { $1 == .readState }
    while let buffer = bench.takeRead(0) { bench.handle(.read(device: 0, buffer: buffer, .success(.end))) }
    bench.pass(1_000_000)
    bench.handle(.time)
    bench.obey(devices: 1) { $1 == .readState }
    #expect(bench.wants(.stopVCPUs))
    bench.handle(.vcpusStopped)
    bench.answer(0, .success(.state(.running)))
    #expect(bench.sent.contains(.void))
    #expect(bench.request(0) == .setState(.runningP2P))
  }

  @Test("a device that is found in error once the vCPUs have stopped ends the session")
  func errorWhileWaiting() throws {
    var bench = try Self.bench([Self.full, Self.full]) { $0.quiescing.vcpusAreStopped = false }
    bench.handle(.vcpusStopped)
    bench.answer(0, .success(.state(.error)))
    bench.answer(1)
    bench.obey(devices: 2)
    #expect(bench.machine.outcome?.fault == .device(0, DeviceError(.readState, .unexpectedState(.error))))
    #expect(bench.machine.outcome?.devices.map(\.state) == [.error, .running])
  }

  @Test("a session that is interrupted while it waits for the vCPUs has touched nothing")
  func interruptedEarly() throws {
    var bench = try Self.bench([Self.full]) { $0.quiescing.vcpusAreStopped = false }
    bench.handle(.interrupt(reason: "a test"))
    #expect(bench.request(0) == nil)
    #expect(bench.machine.outcome?.fault == .interrupted("a test"))
  }

  @Test("vCPUs that were stopped before anybody asked are not asked for again")
  func vcpusEarly() throws {
    let device = sessionDevice(0)
    var bench = SessionBench(SaveSession(devices: [device], plan: .forTest([device])))
    bench.handle(.vcpusStopped)
    bench.obey(devices: 1) { $1 == .readState }
    while let buffer = bench.takeRead(0) { bench.handle(.read(device: 0, buffer: buffer, .success(.end))) }
    bench.pass(1_000_000)
    bench.handle(.time)
    bench.obey(devices: 1) { $1 == .readState }
    #expect(!bench.wants(.stopVCPUs))
    bench.answer(0, .success(.state(.preCopy)))
    #expect(bench.request(0) == .setState(.preCopyP2P))
  }

  @Test("a device that outlives the step's limit is reported once, and nobody passes it")
  func hangs() throws {
    var bench = try Self.bench([Self.full, Self.full])
    bench.pass(400)
    bench.answer(0)
    bench.pass(599)
    bench.handle(.time)
    #expect(bench.machine.deadline == MonotonicTime(microseconds: 1000))
    bench.pass(1)
    bench.handle(.time)
    #expect(bench.wants(.note(.hung(device: 1, .setState(.runningP2P), microseconds: 1000))))
    #expect(bench.machine.deadline == nil)
    bench.handle(.interrupt(reason: "a test"))
    #expect(bench.request(0) == nil)
    // It answers at last: everything goes back.
    bench.answer(1)
    bench.obey(devices: 2)
    #expect(bench.machine.outcome?.devices.map(\.state) == [.running, .running])
  }

  @Test("a device whose read never ends can be declared dead, one that has nothing to answer can't")
  func deadRead() throws {
    var bench = try Self.bench([Self.full, Self.full])
    bench.obey(devices: 2)
    _ = bench.takeRead(0)
    while let buffer = bench.takeRead(1) { bench.handle(.read(device: 1, buffer: buffer, .success(.end))) }
    bench.handle(.declareDead(device: 7))
    bench.handle(.declareDead(device: 1))
    #expect(bench.machine.outcome == nil && requests(bench, 2) == [nil, nil])
    bench.handle(.declareDead(device: 0))
    bench.obey(devices: 2)
    #expect(bench.machine.outcome?.fault == .declaredDead(0))
    #expect(bench.machine.outcome?.devices.map(\.isHung) == [true, false])
    #expect(bench.machine.outcome?.devices[1].state == .running)
  }

  @Test("the limit is the step's: a device on its second arc has what is left of it")
  func limitOfAStep() throws {
    var bench = try Self.bench([Self.full])
    bench.answer(0)
    bench.pass(700)
    bench.answer(0)
    #expect(bench.request(0) == .setState(.stopCopy))
    #expect(bench.machine.deadline == MonotonicTime(microseconds: 1000))
    bench.pass(300)
    bench.handle(.time)
    #expect(bench.wants(.note(.hung(device: 0, .setState(.stopCopy), microseconds: 300))))
  }

  @Test("a device that is declared dead is left alone, the others go back, and what it answers later is ignored")
  func declaredDead() throws {
    var bench = try Self.bench([Self.full, Self.full])
    bench.answer(0)
    bench.handle(.declareDead(device: 0))
    #expect(bench.machine.outcome == nil && bench.request(0) == nil)
    bench.handle(.declareDead(device: 1))
    #expect(bench.request(0) == .setState(.running))
    bench.answer(0)
    #expect(bench.machine.outcome?.fault == .declaredDead(1))
    #expect(
      bench.machine.outcome?.devices == [
        DeviceOutcome(name: "device0", state: .running), DeviceOutcome(name: "device1", state: nil, isHung: true),
      ])
    let arc = bench.machine.steps[0].arcs.last
    #expect(arc?.device == 1 && arc?.error == DeviceError(.setState(.runningP2P), .noAnswer))
    let before = bench.pending.count
    bench.answer(1)
    #expect(bench.pending.count == before - 1)
  }

  @Test("where it is asked for, every device is flushed twice between the steps to a stop, one round after the other")
  func flushes() throws {
    var bench = try Self.bench([Self.full, [.stopCopy]]) { $0.quiescing.flushes = true }
    bench.answer(0)
    for _ in 1...2 {
      #expect(requests(bench, 2) == [.flush, .flush])
      bench.answer(0)
      #expect(requests(bench, 2) == [nil, .flush])
      bench.answer(1)
    }
    #expect(requests(bench, 2) == [nil, .setState(.stop)])
    bench.answer(1)
    #expect(requests(bench, 2) == [.flush, .flush])
  }

  @Test("every step is reported with its arcs, their times and errors, and how far apart the devices arrived")
  func reports() throws {
    var bench = try Self.bench([Self.full, Self.full])
    bench.pass(10)
    bench.answer(0)
    bench.pass(30)
    bench.answer(1)
    let step = try #require(bench.machine.steps.first)
    #expect(step.step == .stop(.endPeerTransfers) && !step.isWayBack)
    #expect(step.began == MonotonicTime(microseconds: 0) && step.ended == MonotonicTime(microseconds: 40))
    #expect(step.skew == 30)
    #expect(step.arcs.map(\.device) == [0, 1] && step.arcs.allSatisfy { $0.from == .running && $0.to == .runningP2P })
    let error = DeviceError(.setState(.stop), .errno(.inputOutput))
    bench.answer(0, .failure(error))
    bench.answer(0, .success(.state(.stop)))
    bench.obey(devices: 2)
    let broken = bench.machine.steps[1]
    #expect(broken.step == .stop(.stopAll))
    #expect(broken.arcs.first?.error == error)
    #expect(bench.machine.steps.dropFirst(2).map(\.step) == [.start(.answerPeers), .start(.startAll)])
    #expect(bench.machine.steps.dropFirst(2).allSatisfy { $0.isWayBack })
    #expect(bench.machine.outcome?.devices.map(\.state) == [.running, .running])
  }
}
