// SPDX-License-Identifier: Apache-2.0
import Migration

@testable import Helper

/// A session on a bench: a test is the VMM, the driver and the devices.
struct HelperSessionBench {
  var session = HelperSession(version: "test")
  var actions: [HelperSession.Action] = []
  private var number: UInt32 = 0

  init(greeted: Bool = true, devices: [UInt32] = []) {
    guard greeted else { return }
    ask(.hello(major: 1, minor: 1, features: [], version: "bench"))
    for id in devices { add(id) }
    actions = []
  }

  /// - Returns: the request's number.
  @discardableResult
  mutating func ask(_ request: HelperRequest) -> UInt32 {
    number += 1
    actions += session.handle(.request(number, request))
    return number
  }

  /// Asks for what is refused at once; nil where it is not.
  mutating func refusal(_ request: HelperRequest) -> HelperFailure? {
    let number = ask(request)
    return failure(number)
  }

  mutating func feed(_ input: HelperSession.Input) { actions += session.handle(input) }

  /// Does the task of a request, successfully.
  mutating func finish(_ number: UInt32, _ reply: HelperReply = .done) { feed(.finished(number, reply)) }

  func reply(_ number: UInt32) -> HelperReply? {
    for case .reply(number, let reply) in actions { return reply }
    return nil
  }

  func replies(_ number: UInt32) -> Int {
    actions.count { if case .reply(number, _) = $0 { true } else { false } }
  }

  func failure(_ number: UInt32) -> HelperFailure? {
    if case .failure(let failure) = reply(number) { failure } else { nil }
  }

  func event(_ event: HelperEvent) -> Bool { actions.contains(.event(event)) }

  static func info(_ id: UInt32, _ state: MigrationState? = .running) -> HelperDeviceInfo {
    HelperDeviceInfo(
      device: id, state: state, features: [.stopCopy, .p2p, .preCopy], can: .from(state), tracker: .device,
      stopCopyBytes: 1 << 20, driver: "fake", reason: "device")
  }

  static func device(_ id: UInt32) -> HelperDevice {
    HelperDevice(
      device: id, name: DeviceName("0000:00:\(id < 10 ? "0" : "")\(id).0") ?? .node("/dev/vfio/devices/vfio\(id)"),
      space: 1,
      tracker: .auto, support: .none, iommufdNumber: nil, pageTable: nil, logLimits: nil)
  }

  mutating func add(_ id: UInt32, _ state: MigrationState? = .running) {
    finish(ask(.addDevice(Self.device(id))), .device(Self.info(id, state)))
  }

  static func save(_ pages: HelperSave.Pages = .none) -> HelperSave {
    HelperSave(
      preCopy: true, pages: pages, resetAllowed: false, flushes: false, lastResort: .giveUp, downtime: 300_000,
      interval: 10_000, quiescing: nil, loading: nil, stepLimit: nil)
  }

  /// As though the trackers had been started in time.
  mutating func track() { session.isTracking = true }

  static let load = HelperLoad(pages: false, resetAllowed: false, stepLimit: nil)
  static let memory = HelperMemory(guest: 0..<4096, fileOffset: 0, mapping: nil)
  static let mapping = HelperMapping(space: 1, addresses: 0..<4096, guest: 0)

  func outcome(_ state: MigrationState, fault: SessionFault? = nil) -> SessionOutcome {
    SessionOutcome(
      fault: fault, devices: session.order.map { DeviceOutcome(name: "\($0)", state: state) })
  }

  /// Brings a session with devices 1 and 2 to a phase.
  static func at(_ phase: HelperPhase) -> HelperSessionBench {
    var bench = HelperSessionBench(devices: [1, 2])
    switch phase {
    case .setup: break
    case .preCopy, .quiescing, .stopped, .complete, .committed:
      bench.finish(bench.ask(.beginSave(save())))
      if phase == .preCopy { break }
      bench.ask(.vcpusStopped)
      bench.ask(.quiesce(bytesSent: 0))
      if phase == .quiescing { break }
      bench.feed(.note(.phase("copying")))
      if phase == .stopped { break }
      bench.ask(.complete(bytesSent: 0))
      bench.feed(.sessionEnded(bench.outcome(.stop)))
      if phase == .committed { bench.ask(.commit) }
    case .loading, .loaded:
      bench.finish(bench.ask(.beginLoad(load)))
      if phase == .loaded { bench.feed(.sessionEnded(bench.outcome(.stop))) }
    case .resuming:
      bench.finish(bench.ask(.resume))
    case .goingBack:
      bench.finish(bench.ask(.beginSave(save())))
      bench.ask(.abort)
    }
    bench.actions = []
    return bench
  }
}
