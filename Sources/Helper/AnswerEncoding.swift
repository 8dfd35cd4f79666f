// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Migration

extension HelperReply {
  /// The packet that is the reply to a request.
  /// - Parameters:
  ///   - type: the request's type.
  ///   - number: the request's number.
  /// - Returns: its bytes; as many descriptors go with them as ``descriptors(to:)`` says.
  public func packet(to type: UInt32, number: UInt32) -> [UInt8] {
    func packet(_ structure: some BitwiseCopyable) -> [UInt8] {
      HelperPacket.bytes(
        structure, type: type | UInt32(VFIO_FERRY_REPLY), number: number, descriptors: descriptors(to: type))
    }
    switch self {
    case .done: return packet(vfio_ferry_done())
    case .hello(let minor, let features, let limits, let version):
      var hello = vfio_ferry_hello()
      hello.major = UInt32(VFIO_FERRY_VERSION_MAJOR)
      hello.minor = minor
      hello.features = features.rawValue
      hello.max_devices = UInt32(clamping: limits.devices)
      hello.max_memory = UInt32(clamping: limits.memory)
      hello.max_mappings = UInt32(clamping: limits.mappings)
      hello.max_blob = UInt32(clamping: limits.blob)
      hello.version = WireField.characters(version)
      return packet(hello)
    case .device(let info): return packet(info.structure)
    case .bitmap(let pageSize, let words, let dirty):
      return packet(
        vfio_ferry_bitmap(header: vfio_ferry_header(), page_size: pageSize, words: words, dirty: dirty))
    case .estimate(let estimate): return packet(estimate.structure)
    case .blob(let device, let size):
      return packet(vfio_ferry_blob(header: vfio_ferry_header(), device: device, size: size, offset: 0))
    case .status(let status): return packet(status.structure)
    case .failure(let failure):
      return HelperPacket.bytes(
        failure.structure(request: type), type: UInt32(VFIO_FERRY_ERROR), number: number, descriptors: 0)
    }
  }

  /// How many descriptors belong to the reply to a request of that type: the bitmap's file to
  /// `VFIO_FERRY_TRACKING_START`, a blob's file where it is not empty.
  public func descriptors(to type: UInt32) -> Int {
    switch self {
    case .bitmap: Int(type) == VFIO_FERRY_TRACKING_START ? 1 : 0
    case .blob(_, let size): size > 0 ? 1 : 0
    default: 0
    }
  }
}

extension HelperEvent {
  /// The packet that tells of it. No descriptors go with it.
  public var packet: [UInt8] {
    func packet(_ structure: some BitwiseCopyable) -> [UInt8] {
      HelperPacket.bytes(structure, type: type, number: 0, descriptors: 0)
    }
    func event(
      _ phase: HelperPhase, device: UInt32 = 0, microseconds: UInt64 = 0, _ text: String = ""
    ) -> [UInt8] {
      packet(
        vfio_ferry_event(
          header: vfio_ferry_header(), device: device, phase: phase.rawValue, microseconds: microseconds,
          text: WireField.characters(text)))
    }
    switch self {
    case .phase(let phase): return event(phase)
    case .progress(let device, let progress):
      return packet(
        vfio_ferry_progress(
          header: vfio_ferry_header(), device: device, state: WireField.number(progress.state),
          bytes: progress.bytes, pre_copy: progress.preCopyBytes,
          expected: progress.expectedBytes ?? WireField.unknown))
    case .arc(let device, let from, let to, let error, let microseconds):
      return packet(
        vfio_ferry_arc(
          header: vfio_ferry_header(), device: device, from: WireField.number(from), to: WireField.number(to),
          error: error?.rawValue ?? 0, microseconds: microseconds))
    case .hung(let device, let phase, let microseconds, let text),
      .slow(let device, let phase, let microseconds, let text):
      return event(phase, device: device, microseconds: microseconds, text)
    case .reset(let device, let phase, let text), .tracker(let device, let phase, let text),
      .tag(let device, let phase, let text):
      return event(phase, device: device, text)
    case .decision(let estimate), .ready(let estimate): return packet(estimate.structure)
    case .throttle(let phase, let text), .linkLost(let phase, let text): return event(phase, text)
    case .loaded: return event(.loaded)
    case .failed(let failure): return packet(failure.structure(request: 0))
    }
  }

  /// The corresponding C constants are `VFIO_FERRY_EVENT_*`.
  public var type: UInt32 {
    let type =
      switch self {
      case .phase: VFIO_FERRY_EVENT_PHASE
      case .progress: VFIO_FERRY_EVENT_PROGRESS
      case .arc: VFIO_FERRY_EVENT_ARC
      case .hung: VFIO_FERRY_EVENT_HUNG
      case .slow: VFIO_FERRY_EVENT_SLOW
      case .reset: VFIO_FERRY_EVENT_RESET
      case .decision: VFIO_FERRY_EVENT_DECISION
      case .ready: VFIO_FERRY_EVENT_READY
      case .throttle: VFIO_FERRY_EVENT_THROTTLE
      case .tracker: VFIO_FERRY_EVENT_TRACKER
      case .linkLost: VFIO_FERRY_EVENT_LINK_LOST
      case .loaded: VFIO_FERRY_EVENT_LOADED
      case .failed: VFIO_FERRY_EVENT_FAILED
      case .tag: VFIO_FERRY_EVENT_TAG
      }
    return UInt32(type)
  }
}

extension HelperFailure {
  fileprivate func structure(request: UInt32) -> vfio_ferry_error {
    vfio_ferry_error(
      header: vfio_ferry_header(), request: request, code: code.rawValue, error: errno?.rawValue ?? 0, device: device,
      text: WireField.characters(text))
  }
}

extension HelperDeviceInfo {
  fileprivate var structure: vfio_ferry_device_info {
    var packet = vfio_ferry_device_info()
    packet.device = device
    packet.state = WireField.number(state)
    // Those of a newer kernel have no meaning to a VMM.
    packet.features = UInt32(features.rawValue & ~features.unknown)
    packet.can = can.rawValue
    packet.tracker = WireField.number(tracker, TrackerKind.wireNumbers)
    packet.stop_copy_bytes = stopCopyBytes ?? WireField.unknown
    packet.driver = WireField.characters(driver)
    packet.reason = WireField.characters(reason)
    return packet
  }
}

extension HelperEstimate {
  fileprivate var structure: vfio_ferry_estimate {
    let forecast = decision?.forecast ?? PreCopyForecast()
    var packet = vfio_ferry_estimate()
    packet.round = UInt32(clamping: decision?.round ?? 0)
    // After the stop there is nothing left to decide.
    packet.verdict = isLast ? 0 : UInt32(decision?.verdict.wireNumber ?? 0)
    packet.device = awaited
    packet.is_last = isLast ? 1 : 0
    packet.dirty = dirty
    packet.page_bytes = forecast.pageBytes
    packet.device_bytes = forecast.deviceBytes
    packet.bandwidth = forecast.bandwidth
    packet.dirty_rate = forecast.dirtyRate
    packet.device_us = forecast.deviceMicroseconds
    packet.reading_us = forecast.reading
    packet.quiescing_us = forecast.quiescing
    packet.loading_us = forecast.loading
    packet.downtime_us = forecast.downtime ?? WireField.unknown
    packet.inbound_limit = inboundLimit ?? WireField.unknown
    if case .throttle(let rate)? = decision?.verdict { packet.inbound_limit = inboundLimit ?? rate }
    return packet
  }
}

extension PreCopyDecision.Verdict {
  /// The corresponding C constants are `VFIO_FERRY_VERDICT_*`.
  fileprivate var wireNumber: Int {
    switch self {
    case .goOn: VFIO_FERRY_VERDICT_GO_ON
    case .awaitInitial: VFIO_FERRY_VERDICT_AWAIT_INITIAL
    case .throttle: VFIO_FERRY_VERDICT_THROTTLE
    case .stop: VFIO_FERRY_VERDICT_STOP
    case .force: VFIO_FERRY_VERDICT_FORCE
    case .giveUp: VFIO_FERRY_VERDICT_GIVE_UP
    }
  }
}

extension HelperStatus {
  fileprivate var structure: vfio_ferry_status {
    vfio_ferry_status(
      header: vfio_ferry_header(), phase: phase.rawValue, devices: UInt32(clamping: devices),
      hung: UInt32(clamping: hung), vcpus_stopped: vcpusAreStopped ? 1 : 0, bytes: bytes,
      expected: expectedBytes ?? WireField.unknown, memory_bytes: memoryBytes)
  }
}
