// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Migration

extension HelperRequest {
  /// The packet that asks for it: what a VMM sends.
  /// - Parameter number: not 0.
  /// - Returns: its bytes; ``descriptors`` go with them.
  public func packet(number: UInt32) -> [UInt8] {
    func packet(_ structure: some BitwiseCopyable) -> [UInt8] {
      HelperPacket.bytes(structure, type: type, number: number, descriptors: descriptors)
    }
    switch self {
    case .hello(let major, let minor, let features, let version):
      var hello = vfio_ferry_hello()
      hello.major = major
      hello.minor = minor
      hello.features = features.rawValue
      hello.version = WireField.characters(version)
      return packet(hello)
    case .addDevice(let device): return packet(device.structure)
    case .describe(let device), .removeDevice(let device), .reset(let device), .declareDead(let device),
      .readBlob(let device):
      return packet(vfio_ferry_device(header: vfio_ferry_header(), device: device, reserved: 0))
    case .arc(let device, let state):
      return packet(
        vfio_ferry_device_arc(header: vfio_ferry_header(), device: device, state: WireField.number(state)))
    case .link(let from, let to, let isThere):
      let link = UInt32(isThere ? VFIO_FERRY_LINK_THERE : VFIO_FERRY_LINK_NOT)
      return packet(
        vfio_ferry_device_link(header: vfio_ferry_header(), from: from, to: to, link: link, reserved: 0))
    case .blob(let device, let offset, let size):
      return packet(vfio_ferry_blob(header: vfio_ferry_header(), device: device, size: size, offset: offset))
    case .tag(let device, let offset, let size):
      return packet(vfio_ferry_tag(header: vfio_ferry_header(), device: device, size: size, offset: offset))
    case .addMemory(let memory): return packet(memory.structure)
    case .addMapping(let mapping), .removeMapping(let mapping): return packet(mapping.structure)
    case .startTracking(let pageSize):
      return packet(vfio_ferry_tracking(header: vfio_ferry_header(), page_size: pageSize))
    case .beginSave(let save): return packet(save.structure)
    case .beginLoad(let load): return packet(load.structure)
    case .step(let bytes), .quiesce(let bytes), .complete(let bytes):
      return packet(vfio_ferry_sent(header: vfio_ferry_header(), bytes: bytes))
    case .readTracking, .stopTracking, .addDirtyPages, .estimate, .vcpusStopped, .commit, .resume, .abort, .status:
      return packet(vfio_ferry_header())
    }
  }

  /// How many descriptors belong to it.
  public var descriptors: Int {
    switch self {
    case .addDevice(let device): device.support == .none ? 1 : 2
    case .blob, .tag, .addDirtyPages: 1
    case .addMemory(let memory): memory.fileOffset == nil ? 0 : 1
    case .beginSave(let save): save.pages == .byHelper ? 2 : 1
    case .beginLoad(let load): load.pages ? 2 : 1
    default: 0
    }
  }

  /// The corresponding C constants are `VFIO_FERRY_HELLO` and those after it.
  public var type: UInt32 {
    let type =
      switch self {
      case .hello: VFIO_FERRY_HELLO
      case .addDevice: VFIO_FERRY_DEVICE_ADD
      case .describe: VFIO_FERRY_DEVICE_DESCRIBE
      case .removeDevice: VFIO_FERRY_DEVICE_REMOVE
      case .arc: VFIO_FERRY_DEVICE_ARC
      case .reset: VFIO_FERRY_DEVICE_RESET
      case .link: VFIO_FERRY_DEVICE_LINK
      case .blob: VFIO_FERRY_DEVICE_BLOB
      case .declareDead: VFIO_FERRY_DEVICE_DEAD
      case .tag: VFIO_FERRY_DEVICE_TAG
      case .addMemory: VFIO_FERRY_MEMORY_ADD
      case .addMapping: VFIO_FERRY_MAP_ADD
      case .removeMapping: VFIO_FERRY_MAP_REMOVE
      case .startTracking: VFIO_FERRY_TRACKING_START
      case .readTracking: VFIO_FERRY_TRACKING_READ
      case .addDirtyPages: VFIO_FERRY_TRACKING_ADD
      case .stopTracking: VFIO_FERRY_TRACKING_STOP
      case .beginSave: VFIO_FERRY_SAVE_BEGIN
      case .step: VFIO_FERRY_STEP
      case .estimate: VFIO_FERRY_ESTIMATE
      case .vcpusStopped: VFIO_FERRY_VCPUS_STOPPED
      case .quiesce: VFIO_FERRY_QUIESCE
      case .complete: VFIO_FERRY_COMPLETE
      case .commit: VFIO_FERRY_COMMIT
      case .beginLoad: VFIO_FERRY_LOAD_BEGIN
      case .readBlob: VFIO_FERRY_BLOB_READ
      case .resume: VFIO_FERRY_RESUME
      case .abort: VFIO_FERRY_ABORT
      case .status: VFIO_FERRY_STATUS
      }
    return UInt32(type)
  }
}

extension HelperDevice {
  fileprivate var structure: vfio_ferry_device_add {
    var packet = vfio_ferry_device_add()
    packet.device = device
    packet.flags = wireFlags(
      (VFIO_FERRY_DEVICE_HAS_IOMMUFD, support == .iommufd), (VFIO_FERRY_DEVICE_HAS_CONTAINER, support == .container),
      (VFIO_FERRY_DEVICE_HAS_NUMBER, iommufdNumber != nil), (VFIO_FERRY_DEVICE_HAS_PAGE_TABLE, pageTable != nil))
    packet.space = space
    packet.tracker = WireField.number(tracker, Self.trackers)
    packet.number = iommufdNumber ?? 0
    packet.page_table = pageTable ?? 0
    packet.log_first = logLimits?.lowerBound ?? 0
    packet.log_last = logLimits.map { $0.upperBound == .max ? .max : $0.upperBound - 1 } ?? 0
    packet.name = WireField.characters(name.description)
    return packet
  }
}

extension HelperMemory {
  fileprivate var structure: vfio_ferry_memory {
    var packet = vfio_ferry_memory()
    packet.flags = wireFlags(
      (VFIO_FERRY_MEMORY_HAS_FILE, fileOffset != nil), (VFIO_FERRY_MEMORY_IS_MAPPED, mapping != nil))
    packet.space = mapping?.space ?? 0
    packet.guest = guest.lowerBound
    packet.size = guest.upperBound - guest.lowerBound
    packet.address = mapping?.addresses.lowerBound ?? 0
    packet.offset = fileOffset ?? 0
    return packet
  }
}

extension HelperMapping {
  fileprivate var structure: vfio_ferry_mapping {
    var packet = vfio_ferry_mapping()
    packet.space = space
    packet.address = addresses.lowerBound
    packet.size = addresses.upperBound - addresses.lowerBound
    packet.guest = guest
    return packet
  }
}

extension HelperSave {
  fileprivate var structure: vfio_ferry_save {
    var packet = vfio_ferry_save()
    packet.flags = wireFlags(
      (VFIO_FERRY_SAVE_PRE_COPY, preCopy), (VFIO_FERRY_SAVE_PAGES_BY_HELPER, pages == .byHelper),
      (VFIO_FERRY_SAVE_PAGES_BY_VMM, pages == .byVMM), (VFIO_FERRY_SAVE_RESET, resetAllowed),
      (VFIO_FERRY_SAVE_FLUSH, flushes))
    packet.last_resort = WireField.number(lastResort, Self.lastResorts)
    packet.downtime_us = downtime
    packet.interval_us = interval
    packet.quiescing_us = quiescing ?? WireField.unknown
    packet.loading_us = loading ?? WireField.unknown
    packet.step_us = stepLimit ?? 0
    return packet
  }
}

extension HelperLoad {
  fileprivate var structure: vfio_ferry_load {
    var packet = vfio_ferry_load()
    packet.flags = wireFlags((VFIO_FERRY_LOAD_PAGES, pages), (VFIO_FERRY_LOAD_RESET, resetAllowed))
    packet.step_us = stepLimit ?? 0
    return packet
  }
}
