// SPDX-License-Identifier: Apache-2.0
import Migration

/// A session on a bench: a test plays the devices and the channel by hand, one event at a time.
struct SessionBench<Machine: SessionMachine> {
  var machine: Machine
  /// Everything that the session wanted so far and that was not taken by the test.
  private(set) var pending: [SessionEffect] = []
  private(set) var now = MonotonicTime(microseconds: 0)

  init(_ machine: Machine) {
    self.machine = machine
    pending = self.machine.begin(at: now)
  }

  mutating func pass(_ microseconds: UInt64) { now = now.adding(microseconds: microseconds) }

  mutating func handle(_ event: SessionEvent) { pending += machine.handle(event, at: now) }

  /// Answers the device's control request. - Returns: what it was; nil where there was none.
  @discardableResult
  mutating func answer(
    _ device: Int, _ result: Result<ControlAnswer, DeviceError>? = nil
  ) -> ControlRequest? {
    for (index, effect) in pending.enumerated() {
      guard case .control(device, let request) = effect else { continue }
      pending.remove(at: index)
      let times = RequestTimes(began: now, ended: now)
      handle(.control(device: device, request, result ?? .success(Self.obedient(request)), times))
      return request
    }
    return nil
  }

  /// Answers all control requests until there are none, as devices do that obey.
  mutating func obey(devices: Int, but refuse: (Int, ControlRequest) -> Bool = { _, _ in false }) {
    var went = true
    while went {
      went = false
      for device in 0..<devices {
        guard let request = request(device), !refuse(device, request) else { continue }
        answer(device)
        went = true
      }
    }
  }

  /// The device's request that is not answered yet.
  func request(_ device: Int) -> ControlRequest? {
    for case .control(device, let request) in pending { return request }
    return nil
  }

  private static func obedient(_ request: ControlRequest) -> ControlAnswer {
    switch request {
    case .setState(let state): .moved(openedData: state == .preCopy || state == .resuming || state == .stopCopy)
    case .readState: .state(.running)
    case .preCopyInfo: .preCopyInfo(PreCopyInfo(initialBytes: 0, dirtyBytes: 0))
    case .stopCopySize: .stopCopySize(nil)
    case .flush: .flushed
    case .reset: .reset
    }
  }

  /// Takes the device's oldest read off the list. - Returns: its buffer.
  mutating func takeRead(_ device: Int) -> Int? {
    for (index, effect) in pending.enumerated() {
      guard case .read(device, let buffer) = effect else { continue }
      pending.remove(at: index)
      return buffer
    }
    return nil
  }

  /// The types of the frames that were sent, in order; they stay on the list.
  var sent: [FrameType?] {
    pending.compactMap { effect -> FrameType?? in
      if case .send(let frame) = effect { .some(frame.header.knownType) } else { nil }
    }
  }

  /// Confirms every frame that was sent.
  mutating func confirmSends() {
    while let index = pending.firstIndex(where: { if case .send = $0 { true } else { false } }) {
      guard case .send(let frame) = pending.remove(at: index) else { continue }
      handle(.sent(frame.payload))
    }
  }

  /// Takes the effect at that place off the list.
  mutating func drop(_ index: Int) { pending.remove(at: index) }

  func wants(_ effect: SessionEffect) -> Bool { pending.contains(effect) }
}

extension QuiescePlan {
  /// The plan of devices each of which may reach each other.
  static func forTest(_ devices: [SessionDevice]) -> QuiescePlan {
    do throws(QuiesceRefusal) {
      return try QuiescePlan(devices: devices, reachability: .assumed(count: devices.count))
    } catch {
      preconditionFailure("\(error)")
    }
  }
}

extension SaveSession {
  /// A session of devices each of which may reach each other, and whose vCPUs do not run.
  init(devices: [SessionDevice], configuration: Configuration = Configuration()) {
    var configuration = configuration
    configuration.quiescing.vcpusAreStopped = true
    self.init(devices: devices, plan: .forTest(devices), configuration: configuration)
  }
}

extension LoadSession {
  /// A session of devices each of which may reach each other, and whose vCPUs do not run.
  init(devices: [SessionDevice], configuration: Configuration = Configuration()) {
    var configuration = configuration
    configuration.quiescing.vcpusAreStopped = true
    self.init(devices: devices, plan: .forTest(devices), configuration: configuration)
  }
}

func sessionDevice(
  _ number: Int, _ features: MigrationFeatures = [.stopCopy, .p2p, .preCopy], state: MigrationState = .running
) -> SessionDevice {
  SessionDevice(name: "device\(number)", driver: "d", features: features, state: state)
}
