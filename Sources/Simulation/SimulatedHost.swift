// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// The devices of one host with their lanes, as threads would be on a kernel: per device one call at a time on the
/// control lane and one on the data lane.
struct SimulatedHost: Sendable {
  enum DataJob: Hashable, Sendable {
    case read(buffer: Int)
    case write(buffer: Int, bytes: Int)

    var buffer: Int {
      switch self {
      case .read(let buffer), .write(let buffer, _): buffer
      }
    }
  }

  struct Lane<Job: Hashable & Sendable>: Sendable {
    struct Call: Sendable {
      let job: Job
      let script: ScriptedFailure.Effect?
      /// The data session that the driver held when the call began.
      let handle: Int?
      let number: Int
      let began: MonotonicTime
    }

    var waiting: [Job] = []
    var call: Call?
    private var calls = 0

    var isIdle: Bool { call == nil && waiting.isEmpty }

    /// Begins the next call, if none is under way.
    mutating func begin(
      handle: Int?, at now: MonotonicTime, script: (Job) -> ScriptedFailure.Effect?
    ) -> Call? {
      guard call == nil, !waiting.isEmpty else { return nil }
      let job = waiting.removeFirst()
      calls += 1
      call = Call(job: job, script: script(job), handle: handle, number: calls, began: now)
      return call
    }

    /// Ends the call of that number; nil where it has ended already.
    mutating func end(_ number: Int) -> Call? {
      guard let ended = call, ended.number == number else { return nil }
      call = nil
      return ended
    }
  }

  let side: SimulatedSide
  var devices: [SimulatedDevice]
  var control: [Lane<ControlRequest>]
  var data: [Lane<DataJob>]
  /// The data session that the driver holds of each device.
  var handles: [Int?]
  /// What is in each transfer buffer: as many bytes as were put there.
  var buffers: [[UInt8]]
  /// Who may touch each buffer: nil is the session.
  var bufferUsers: [String?]

  init(_ side: SimulatedSide, devices: [SimulatedDevice.Configuration], areFunctions: Bool, buffers: Int) {
    self.side = side
    self.devices = devices.map { SimulatedDevice($0, isFunction: areFunctions) }
    control = devices.map { _ in Lane() }
    data = devices.map { _ in Lane() }
    handles = devices.map { _ in nil }
    self.buffers = Array(repeating: [], count: buffers)
    bufferUsers = Array(repeating: nil, count: buffers)
  }

  /// How a session sees the devices before it begins.
  var sessionDevices: [SessionDevice] {
    devices.map { device in
      let configuration = device.configuration
      return SessionDevice(
        name: configuration.name, driver: configuration.driver, features: configuration.features,
        state: device.state, tag: configuration.tag, vmmState: configuration.vmmState)
    }
  }

  /// Takes note of what a state request or reset did to the session that the driver holds.
  mutating func keepHandle(_ device: Int, after request: ControlRequest, _ result: Result<ControlAnswer, DeviceError>) {
    switch (request, result) {
    case (.setState, .success(.moved(openedData: true))): handles[device] = devices[device].session
    case (.setState(let state), .success) where !state.hasDataDescriptor: handles[device] = nil
    case (.reset, .success): handles[device] = nil
    default: break
    }
  }
}
