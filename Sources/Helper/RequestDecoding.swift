// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import LinuxIO
internal import Migration

extension HelperRequest {
  /// Reads a request of a type, descriptors aside.
  init(_ bytes: Span<UInt8>, type: UInt32) throws(HelperFailure) {
    switch Int(type) {
    case VFIO_FERRY_HELLO: self = try Self.hello(bytes)
    case VFIO_FERRY_DEVICE_ADD: self = .addDevice(try HelperDevice(HelperPacket.structure(bytes)))
    case VFIO_FERRY_DEVICE_DESCRIBE: self = .describe(device: try Self.device(bytes))
    case VFIO_FERRY_DEVICE_REMOVE: self = .removeDevice(try Self.device(bytes))
    case VFIO_FERRY_DEVICE_ARC:
      let arc: vfio_ferry_device_arc = try HelperPacket.structure(bytes)
      self = .arc(device: try WireField.device(arc.device), try WireField.state(arc.state))
    case VFIO_FERRY_DEVICE_RESET: self = .reset(device: try Self.device(bytes))
    case VFIO_FERRY_DEVICE_LINK: self = try Self.link(HelperPacket.structure(bytes))
    case VFIO_FERRY_DEVICE_BLOB: self = try Self.blob(HelperPacket.structure(bytes))
    case VFIO_FERRY_DEVICE_DEAD: self = .declareDead(device: try Self.device(bytes))
    case VFIO_FERRY_DEVICE_TAG: self = try Self.tag(HelperPacket.structure(bytes))
    case VFIO_FERRY_MEMORY_ADD: self = .addMemory(try HelperMemory(HelperPacket.structure(bytes)))
    case VFIO_FERRY_MAP_ADD: self = .addMapping(try HelperMapping(HelperPacket.structure(bytes)))
    case VFIO_FERRY_MAP_REMOVE: self = .removeMapping(try HelperMapping(HelperPacket.structure(bytes)))
    case VFIO_FERRY_TRACKING_START:
      let tracking: vfio_ferry_tracking = try HelperPacket.structure(bytes)
      self = .startTracking(pageSize: try WireField.pageSize(tracking.page_size))
    case VFIO_FERRY_TRACKING_READ: self = try .readTracking.bare(bytes)
    case VFIO_FERRY_TRACKING_ADD: self = try .addDirtyPages.bare(bytes)
    case VFIO_FERRY_TRACKING_STOP: self = try .stopTracking.bare(bytes)
    case VFIO_FERRY_SAVE_BEGIN: self = .beginSave(try HelperSave(HelperPacket.structure(bytes)))
    case VFIO_FERRY_STEP: self = .step(bytesSent: try Self.sent(bytes))
    case VFIO_FERRY_ESTIMATE: self = try .estimate.bare(bytes)
    case VFIO_FERRY_VCPUS_STOPPED: self = try .vcpusStopped.bare(bytes)
    case VFIO_FERRY_QUIESCE: self = .quiesce(bytesSent: try Self.sent(bytes))
    case VFIO_FERRY_COMPLETE: self = .complete(bytesSent: try Self.sent(bytes))
    case VFIO_FERRY_COMMIT: self = try .commit.bare(bytes)
    case VFIO_FERRY_LOAD_BEGIN: self = .beginLoad(try HelperLoad(HelperPacket.structure(bytes)))
    case VFIO_FERRY_BLOB_READ: self = .readBlob(device: try Self.device(bytes))
    case VFIO_FERRY_RESUME: self = try .resume.bare(bytes)
    case VFIO_FERRY_ABORT: self = try .abort.bare(bytes)
    case VFIO_FERRY_STATUS: self = try .status.bare(bytes)
    default: throw HelperFailure(.unknownRequest, "request \(type) is not known")
    }
  }

  /// Itself, for a packet that is nothing but a header.
  private func bare(_ bytes: Span<UInt8>) throws(HelperFailure) -> HelperRequest {
    let _: vfio_ferry_header = try HelperPacket.structure(bytes)
    return self
  }

  private static func device(_ bytes: Span<UInt8>) throws(HelperFailure) -> UInt32 {
    let packet: vfio_ferry_device = try HelperPacket.structure(bytes)
    try WireField.reserved(packet.reserved)
    return try WireField.device(packet.device)
  }

  private static func sent(_ bytes: Span<UInt8>) throws(HelperFailure) -> UInt64 {
    let packet: vfio_ferry_sent = try HelperPacket.structure(bytes)
    return packet.bytes
  }

  /// The major version stands where it does in every version, so that one is told from a mistake.
  private static func hello(_ bytes: Span<UInt8>) throws(HelperFailure) -> HelperRequest {
    do throws(HelperFailure) {
      return try hello(HelperPacket.structure(bytes))
    } catch {
      let header = MemoryLayout<vfio_ferry_header>.size
      guard bytes.count >= header + MemoryLayout<UInt32>.size else { throw error }
      let major = bytes.extracting(header...).load(as: UInt32.self)
      if major == UInt32(VFIO_FERRY_VERSION_MAJOR) { throw error }
      throw HelperFailure(
        .version, "this helper speaks version \(VFIO_FERRY_VERSION_MAJOR) of the protocol, not \(major)")
    }
  }

  private static func hello(_ packet: vfio_ferry_hello) throws(HelperFailure) -> HelperRequest {
    try WireField.isZero(packet.max_devices, "max_devices")
    try WireField.isZero(packet.max_memory, "max_memory")
    try WireField.isZero(packet.max_mappings, "max_mappings")
    try WireField.isZero(packet.max_blob, "max_blob")
    return .hello(
      major: packet.major, minor: packet.minor, features: HelperFeatures(rawValue: packet.features),
      version: try WireField.text(packet.version, "version"))
  }

  private static func link(_ packet: vfio_ferry_device_link) throws(HelperFailure) -> HelperRequest {
    try WireField.reserved(packet.reserved)
    let (from, to) = (try WireField.device(packet.from, "from"), try WireField.device(packet.to, "to"))
    if from == to { throw WireField.argument("from and to are both device \(from)") }
    let links = [(VFIO_FERRY_LINK_THERE, true), (VFIO_FERRY_LINK_NOT, false)]
    return .link(from: from, to: to, isThere: try WireField.choice(packet.link, "link", links))
  }

  private static func blob(_ packet: vfio_ferry_blob) throws(HelperFailure) -> HelperRequest {
    let device = try WireField.device(packet.device)
    if Int(packet.size) > VFIO_FERRY_MAX_BLOB {
      throw HelperFailure(
        .limit, device: device, "a blob of \(packet.size) bytes, where \(VFIO_FERRY_MAX_BLOB) are allowed")
    }
    let offset = try WireField.offset(packet.offset, size: UInt64(packet.size))
    return .blob(device: device, offset: offset, size: packet.size)
  }

  private static func tag(_ packet: vfio_ferry_tag) throws(HelperFailure) -> HelperRequest {
    let device = try WireField.device(packet.device)
    if Int(packet.size) > VFIO_FERRY_MAX_TAG {
      throw HelperFailure(
        .limit, device: device, "a tag of \(packet.size) bytes, where \(VFIO_FERRY_MAX_TAG) are allowed")
    }
    let offset = try WireField.offset(packet.offset, size: UInt64(packet.size))
    return .tag(device: device, offset: offset, size: packet.size)
  }
}

extension HelperDevice {
  init(_ packet: vfio_ferry_device_add) throws(HelperFailure) {
    var flags = WireFlags(packet.flags)
    let hasIommufd = flags.take(VFIO_FERRY_DEVICE_HAS_IOMMUFD)
    let hasContainer = flags.take(VFIO_FERRY_DEVICE_HAS_CONTAINER)
    let hasNumber = flags.take(VFIO_FERRY_DEVICE_HAS_NUMBER)
    let hasPageTable = flags.take(VFIO_FERRY_DEVICE_HAS_PAGE_TABLE)
    try flags.end()
    if hasIommufd, hasContainer { throw WireField.argument("HAS_IOMMUFD and HAS_CONTAINER exclude each other") }
    if hasNumber || hasPageTable, !hasIommufd {
      throw WireField.argument("HAS_NUMBER and HAS_PAGE_TABLE mean nothing without HAS_IOMMUFD")
    }
    if !hasNumber { try WireField.isZero(packet.number, "number") }
    if !hasPageTable { try WireField.isZero(packet.page_table, "page_table") }
    support = hasIommufd ? .iommufd : hasContainer ? .container : .none
    iommufdNumber = hasNumber ? packet.number : nil
    pageTable = hasPageTable ? packet.page_table : nil
    device = try WireField.device(packet.device)
    space = try WireField.space(packet.space)
    tracker = try WireField.choice(packet.tracker, "tracker", Self.trackers)
    if packet.log_first == 0, packet.log_last == 0 {
      logLimits = nil
    } else {
      let isWhole = packet.log_first % 4096 == 0 && packet.log_last & 4095 == 4095
      if packet.log_first >= packet.log_last || !isWhole {
        throw WireField.argument("log_first and log_last are not the ends of whole pages of 4096")
      }
      // A range has no address behind the last of all, and nothing is mapped there.
      logLimits = packet.log_first..<(packet.log_last == .max ? .max : packet.log_last + 1)
    }
    let text = try WireField.text(packet.name, "name")
    guard let name = DeviceName(text), name.description == text else {
      throw WireField.argument("\"\(text)\" is neither a PCI address as in sysfs nor a UUID in lower case, nor a node")
    }
    self.name = name
  }

  /// What the enumerators stand for.
  static let trackers: [(Int, TrackerWish)] =
    [(VFIO_FERRY_TRACKER_AUTO, .auto)] + TrackerKind.wireNumbers.map { ($0.0, .only($0.1)) }
}

extension TrackerKind {
  /// What the enumerators stand for.
  static let wireNumbers: [(Int, TrackerKind)] = [
    (VFIO_FERRY_TRACKER_IOMMU, .iommu), (VFIO_FERRY_TRACKER_DEVICE, .device),
    (VFIO_FERRY_TRACKER_CONTAINER, .container), (VFIO_FERRY_TRACKER_EVERYTHING, .everything),
  ]
}

extension HelperMemory {
  init(_ packet: vfio_ferry_memory) throws(HelperFailure) {
    var flags = WireFlags(packet.flags)
    let hasFile = flags.take(VFIO_FERRY_MEMORY_HAS_FILE)
    let isMapped = flags.take(VFIO_FERRY_MEMORY_IS_MAPPED)
    try flags.end()
    guest = try WireField.range(packet.guest, packet.size, "guest memory")
    if hasFile {
      if packet.offset % 4096 != 0 { throw WireField.argument("offset \(packet.offset) is no multiple of 4096") }
      fileOffset = try WireField.offset(packet.offset, size: packet.size)
    } else {
      try WireField.isZero(packet.offset, "offset")
      fileOffset = nil
    }
    if isMapped {
      mapping = HelperMapping(
        space: try WireField.space(packet.space),
        addresses: try WireField.range(packet.address, packet.size, "I/O addresses"), guest: packet.guest)
    } else {
      try WireField.isZero(packet.space, "space")
      try WireField.isZero(packet.address, "address")
      mapping = nil
    }
  }
}

extension HelperMapping {
  init(_ packet: vfio_ferry_mapping) throws(HelperFailure) {
    try WireField.reserved(packet.reserved)
    space = try WireField.space(packet.space)
    addresses = try WireField.range(packet.address, packet.size, "I/O addresses")
    guest = try WireField.range(packet.guest, packet.size, "guest memory").lowerBound
  }
}

extension HelperSave {
  init(_ packet: vfio_ferry_save) throws(HelperFailure) {
    var flags = WireFlags(packet.flags)
    preCopy = flags.take(VFIO_FERRY_SAVE_PRE_COPY)
    let byHelper = flags.take(VFIO_FERRY_SAVE_PAGES_BY_HELPER)
    let byVMM = flags.take(VFIO_FERRY_SAVE_PAGES_BY_VMM)
    resetAllowed = flags.take(VFIO_FERRY_SAVE_RESET)
    flushes = flags.take(VFIO_FERRY_SAVE_FLUSH)
    try flags.end()
    if byHelper, byVMM { throw WireField.argument("PAGES_BY_HELPER and PAGES_BY_VMM exclude each other") }
    pages = byHelper ? .byHelper : byVMM ? .byVMM : .none
    lastResort = try WireField.choice(packet.last_resort, "last_resort", Self.lastResorts)
    downtime = try WireField.microseconds(packet.downtime_us, "downtime_us")
    interval = try WireField.microseconds(packet.interval_us, "interval_us")
    quiescing = try WireField.optionalMicroseconds(packet.quiescing_us, "quiescing_us")
    loading = try WireField.optionalMicroseconds(packet.loading_us, "loading_us")
    stepLimit = packet.step_us == 0 ? nil : try WireField.microseconds(packet.step_us, "step_us")
  }

  /// What the enumerators stand for.
  static let lastResorts: [(Int, PreCopyConfiguration.LastResort)] = [
    (VFIO_FERRY_RESORT_GIVE_UP, .giveUp), (VFIO_FERRY_RESORT_FORCE, .force),
  ]
}

extension HelperLoad {
  init(_ packet: vfio_ferry_load) throws(HelperFailure) {
    try WireField.reserved(packet.reserved)
    var flags = WireFlags(packet.flags)
    pages = flags.take(VFIO_FERRY_LOAD_PAGES)
    resetAllowed = flags.take(VFIO_FERRY_LOAD_RESET)
    try flags.end()
    stepLimit = packet.step_us == 0 ? nil : try WireField.microseconds(packet.step_us, "step_us")
  }
}
