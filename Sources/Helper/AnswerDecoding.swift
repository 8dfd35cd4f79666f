// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import LinuxIO
internal import Migration

/// What a helper says: a VMM reads it.
public enum HelperMessage: Hashable, Sendable {
  /// The reply to the request of that number and type. The type is 0 for the failure of a request whose packet had none.
  case reply(number: UInt32, to: UInt32, HelperReply)
  /// Something it tells unasked.
  case event(HelperEvent)
}

extension HelperPacket {
  /// Reads a reply or an event, as strictly as a request.
  ///
  /// An estimate's decision has no limit, which the VMM itself chose, the verdict `stop` after the stop, and in
  /// `awaitInitial` the device's number instead of its place.
  /// - Parameters:
  ///   - bytes: the whole packet.
  ///   - descriptors: how many came with it; they are the caller's.
  public static func message(_ bytes: Span<UInt8>, descriptors: Int) throws(HelperPacketError) -> HelperMessage {
    let (number, type) = head(of: bytes)
    do throws(HelperFailure) {
      try checkHead(bytes, descriptors: descriptors)
      if type == UInt32(VFIO_FERRY_ERROR) {
        let packet: vfio_ferry_error = try structure(bytes)
        try checkDescriptors(descriptors, 0)
        return .reply(number: number, to: packet.request, .failure(try HelperFailure(packet)))
      }
      let reply = UInt32(VFIO_FERRY_REPLY)
      if type & ~(reply - 1) == reply {
        if number == 0 { throw WireField.layout("the reply's number is 0") }
        let request = type - reply
        let reply = try HelperReply(bytes, to: request)
        try checkDescriptors(descriptors, reply.descriptors(to: request))
        return .reply(number: number, to: request, reply)
      }
      let event = try HelperEvent(bytes, type: type)
      if number != 0 { throw WireField.layout("the event's number is not 0") }
      try checkDescriptors(descriptors, 0)
      return .event(event)
    } catch {
      throw HelperPacketError(number: number, type: type, error)
    }
  }

  private static func checkDescriptors(_ count: Int, _ needed: Int) throws(HelperFailure) {
    if count != needed { throw WireField.layout("\(count) descriptors came, and \(needed) belong") }
  }
}

extension HelperReply {
  fileprivate init(_ bytes: Span<UInt8>, to request: UInt32) throws(HelperFailure) {
    switch Int(request) {
    case VFIO_FERRY_HELLO: self = try .init(HelperPacket.structure(bytes) as vfio_ferry_hello)
    case VFIO_FERRY_DEVICE_ADD, VFIO_FERRY_DEVICE_DESCRIBE, VFIO_FERRY_DEVICE_ARC, VFIO_FERRY_DEVICE_RESET:
      self = .device(try HelperDeviceInfo(HelperPacket.structure(bytes)))
    case VFIO_FERRY_TRACKING_START, VFIO_FERRY_TRACKING_READ:
      let packet: vfio_ferry_bitmap = try HelperPacket.structure(bytes)
      self = .bitmap(
        pageSize: try WireField.pageSize(packet.page_size), words: packet.words, dirty: packet.dirty)
    case VFIO_FERRY_STEP, VFIO_FERRY_ESTIMATE, VFIO_FERRY_QUIESCE:
      self = .estimate(try HelperEstimate(HelperPacket.structure(bytes)))
    case VFIO_FERRY_BLOB_READ:
      let packet: vfio_ferry_blob = try HelperPacket.structure(bytes)
      try WireField.isZero(packet.offset, "offset")
      if Int(packet.size) > VFIO_FERRY_MAX_BLOB { throw WireField.argument("a blob of \(packet.size) bytes") }
      self = .blob(device: try WireField.device(packet.device), size: packet.size)
    case VFIO_FERRY_STATUS: self = .status(try HelperStatus(HelperPacket.structure(bytes)))
    case VFIO_FERRY_DEVICE_REMOVE, VFIO_FERRY_DEVICE_LINK, VFIO_FERRY_DEVICE_BLOB, VFIO_FERRY_DEVICE_DEAD,
      VFIO_FERRY_DEVICE_TAG, VFIO_FERRY_MEMORY_ADD, VFIO_FERRY_MAP_ADD, VFIO_FERRY_MAP_REMOVE, VFIO_FERRY_TRACKING_ADD,
      VFIO_FERRY_TRACKING_STOP,
      VFIO_FERRY_SAVE_BEGIN, VFIO_FERRY_VCPUS_STOPPED, VFIO_FERRY_COMPLETE, VFIO_FERRY_COMMIT,
      VFIO_FERRY_LOAD_BEGIN, VFIO_FERRY_RESUME, VFIO_FERRY_ABORT:
      let _: vfio_ferry_done = try HelperPacket.structure(bytes)
      self = .done
    default: throw HelperFailure(.unknownRequest, "a reply to request \(request), which is not known")
    }
  }

  private init(_ packet: vfio_ferry_hello) throws(HelperFailure) {
    if packet.major != UInt32(VFIO_FERRY_VERSION_MAJOR) {
      throw HelperFailure(.version, "the helper speaks version \(packet.major) of the protocol")
    }
    var limits = HelperLimits()
    limits.devices = Int(packet.max_devices)
    limits.memory = Int(packet.max_memory)
    limits.mappings = Int(packet.max_mappings)
    limits.blob = Int(packet.max_blob)
    self = .hello(
      minor: packet.minor, features: HelperFeatures(rawValue: packet.features), limits,
      version: try WireField.text(packet.version, "version"))
  }
}

extension HelperFailure {
  fileprivate init(_ packet: vfio_ferry_error) throws(HelperFailure) {
    guard let code = HelperCode(rawValue: packet.code) else {
      throw WireField.argument("code \(packet.code) is not known")
    }
    self.init(
      code, device: packet.device, errno: packet.error == 0 ? nil : ErrorNumber(rawValue: packet.error),
      try WireField.text(packet.text, "text"))
  }
}

extension HelperDeviceInfo {
  fileprivate init(_ packet: vfio_ferry_device_info) throws(HelperFailure) {
    try WireField.reserved(packet.reserved)
    device = try WireField.device(packet.device)
    state = try WireField.optionalState(packet.state)
    features = MigrationFeatures(rawValue: UInt64(packet.features))
    can = Possibilities(rawValue: packet.can)
    if features.unknown != 0 { throw WireField.argument("features has unknown bits") }
    if !Possibilities([.save, .load, .resume, .needsReset, .isHung]).isSuperset(of: can) {
      throw WireField.argument("can has unknown bits")
    }
    tracker = try WireField.choice(packet.tracker, "tracker", TrackerKind.wireNumbers)
    stopCopyBytes = WireField.known(packet.stop_copy_bytes)
    driver = try WireField.text(packet.driver, "driver")
    reason = try WireField.text(packet.reason, "reason")
  }
}

extension HelperEstimate {
  fileprivate init(_ packet: vfio_ferry_estimate) throws(HelperFailure) {
    isLast = try WireField.flag(packet.is_last, "is_last")
    awaited = try WireField.optionalDevice(packet.device)
    dirty = packet.dirty
    inboundLimit = WireField.known(packet.inbound_limit)
    if packet.round == 0 {
      try WireField.isZero(packet.verdict, "verdict")
      decision = nil
      return
    }
    var forecast = PreCopyForecast()
    forecast.pageBytes = packet.page_bytes
    forecast.deviceBytes = packet.device_bytes
    forecast.bandwidth = packet.bandwidth
    forecast.dirtyRate = packet.dirty_rate
    forecast.deviceMicroseconds = packet.device_us
    forecast.reading = packet.reading_us
    forecast.quiescing = packet.quiescing_us
    forecast.loading = packet.loading_us
    let verdicts: [(Int, PreCopyDecision.Verdict)] = [
      (VFIO_FERRY_VERDICT_GO_ON, .goOn), (VFIO_FERRY_VERDICT_AWAIT_INITIAL, .awaitInitial(device: Int(awaited))),
      (VFIO_FERRY_VERDICT_THROTTLE, .throttle(bytesPerSecond: packet.inbound_limit)),
      (VFIO_FERRY_VERDICT_STOP, .stop), (VFIO_FERRY_VERDICT_FORCE, .force), (VFIO_FERRY_VERDICT_GIVE_UP, .giveUp),
    ]
    if isLast { try WireField.isZero(packet.verdict, "verdict") }
    let verdict = isLast ? .stop : try WireField.choice(packet.verdict, "verdict", verdicts)
    decision = PreCopyDecision(round: Int(packet.round), forecast: forecast, limit: 0, verdict: verdict)
  }
}

extension HelperStatus {
  fileprivate init(_ packet: vfio_ferry_status) throws(HelperFailure) {
    phase = try HelperPhase(number: packet.phase)
    devices = Int(packet.devices)
    hung = Int(packet.hung)
    vcpusAreStopped = try WireField.flag(packet.vcpus_stopped, "vcpus_stopped")
    bytes = packet.bytes
    expectedBytes = WireField.known(packet.expected)
    memoryBytes = packet.memory_bytes
  }
}

extension HelperPhase {
  fileprivate init(number: UInt32) throws(HelperFailure) {
    guard let phase = HelperPhase(rawValue: number) else {
      throw WireField.argument("phase \(number) is not known")
    }
    self = phase
  }
}

extension HelperEvent {
  fileprivate init(_ bytes: Span<UInt8>, type: UInt32) throws(HelperFailure) {
    switch Int(type) {
    case VFIO_FERRY_EVENT_PROGRESS:
      let packet: vfio_ferry_progress = try HelperPacket.structure(bytes)
      let progress = DeviceProgress(
        state: try WireField.optionalState(packet.state), bytes: packet.bytes, preCopyBytes: packet.pre_copy,
        expectedBytes: WireField.known(packet.expected))
      self = .progress(device: try WireField.device(packet.device), progress)
    case VFIO_FERRY_EVENT_ARC:
      let packet: vfio_ferry_arc = try HelperPacket.structure(bytes)
      self = .arc(
        device: try WireField.device(packet.device), from: try WireField.optionalState(packet.from, "from"),
        to: try WireField.state(packet.to, "to"),
        error: packet.error == 0 ? nil : ErrorNumber(rawValue: packet.error), microseconds: packet.microseconds)
    case VFIO_FERRY_EVENT_DECISION: self = .decision(try HelperEstimate(HelperPacket.structure(bytes)))
    case VFIO_FERRY_EVENT_READY: self = .ready(try HelperEstimate(HelperPacket.structure(bytes)))
    case VFIO_FERRY_EVENT_FAILED:
      let packet: vfio_ferry_error = try HelperPacket.structure(bytes)
      try WireField.isZero(packet.request, "request")
      self = .failed(try HelperFailure(packet))
    case VFIO_FERRY_EVENT_PHASE, VFIO_FERRY_EVENT_HUNG, VFIO_FERRY_EVENT_SLOW, VFIO_FERRY_EVENT_RESET,
      VFIO_FERRY_EVENT_THROTTLE, VFIO_FERRY_EVENT_TRACKER, VFIO_FERRY_EVENT_LINK_LOST, VFIO_FERRY_EVENT_LOADED,
      VFIO_FERRY_EVENT_TAG:
      self = try .init(HelperPacket.structure(bytes), type: Int(type))
    default: throw HelperFailure(.unknownRequest, "event 0x\(String(type, radix: 16)) is not known")
    }
  }

  /// Those that are a `struct vfio_ferry_event`. What an event has nothing to say in is empty.
  private init(_ packet: vfio_ferry_event, type: Int) throws(HelperFailure) {
    let phase = try HelperPhase(number: packet.phase)
    let device = try WireField.optionalDevice(packet.device)
    let text = try WireField.text(packet.text, "text")
    func only(device hasDevice: Bool = false, text hasText: Bool = false) throws(HelperFailure) {
      try WireField.isZero(packet.microseconds, "microseconds")
      if !hasDevice { try WireField.isZero(device, "device") }
      if !hasText, !text.isEmpty { throw WireField.argument("text is not empty") }
    }
    switch type {
    case VFIO_FERRY_EVENT_PHASE:
      try only()
      self = .phase(phase)
    case VFIO_FERRY_EVENT_HUNG:
      self = .hung(device: try WireField.device(device), phase, microseconds: packet.microseconds, text)
    case VFIO_FERRY_EVENT_SLOW: self = .slow(device: device, phase, microseconds: packet.microseconds, text)
    case VFIO_FERRY_EVENT_RESET:
      try only(device: true, text: true)
      self = .reset(device: try WireField.device(device), phase, text)
    case VFIO_FERRY_EVENT_THROTTLE:
      try only(text: true)
      self = .throttle(phase, text)
    case VFIO_FERRY_EVENT_TRACKER:
      try only(device: true, text: true)
      self = .tracker(device: device, phase, text)
    case VFIO_FERRY_EVENT_TAG:
      try only(device: true, text: true)
      self = .tag(device: try WireField.device(device), phase, text)
    case VFIO_FERRY_EVENT_LINK_LOST:
      try only(text: true)
      self = .linkLost(phase, text)
    default:
      try only()
      if phase != .loaded { throw WireField.argument("everything is loaded in another phase") }
      self = .loaded
    }
  }
}
