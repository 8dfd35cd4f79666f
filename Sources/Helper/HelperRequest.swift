// SPDX-License-Identifier: Apache-2.0
public import Migration

/// What a VMM asks of a helper, as `include/vfio_ferry.h` lays it out and docs/helper-protocol.md explains it.
///
/// Layout, caps and enumerations were checked when it was read from a packet. Whether it makes sense now is for
/// ``HelperSession`` to say. Descriptors that came with a request are with its packet, not here.
public enum HelperRequest: Hashable, Sendable {
  /// `VFIO_FERRY_HELLO`.
  case hello(major: UInt32, minor: UInt32, features: HelperFeatures, version: String)
  /// `VFIO_FERRY_DEVICE_ADD`.
  case addDevice(HelperDevice)
  /// `VFIO_FERRY_DEVICE_DESCRIBE`.
  case describe(device: UInt32)
  /// `VFIO_FERRY_DEVICE_REMOVE`.
  case removeDevice(UInt32)
  /// `VFIO_FERRY_DEVICE_ARC`.
  case arc(device: UInt32, MigrationState)
  /// `VFIO_FERRY_DEVICE_RESET`.
  case reset(device: UInt32)
  /// `VFIO_FERRY_DEVICE_LINK`.
  case link(from: UInt32, to: UInt32, isThere: Bool)
  /// `VFIO_FERRY_DEVICE_BLOB`: its bytes are in the descriptor's file.
  case blob(device: UInt32, offset: UInt64, size: UInt32)
  /// `VFIO_FERRY_DEVICE_DEAD`.
  case declareDead(device: UInt32)
  /// `VFIO_FERRY_DEVICE_TAG`: its text is in the descriptor's file.
  case tag(device: UInt32, offset: UInt64, size: UInt32)
  /// `VFIO_FERRY_MEMORY_ADD`.
  case addMemory(HelperMemory)
  /// `VFIO_FERRY_MAP_ADD`.
  case addMapping(HelperMapping)
  /// `VFIO_FERRY_MAP_REMOVE`.
  case removeMapping(HelperMapping)
  /// `VFIO_FERRY_TRACKING_START`.
  case startTracking(pageSize: UInt64)
  /// `VFIO_FERRY_TRACKING_READ`.
  case readTracking
  /// `VFIO_FERRY_TRACKING_STOP`.
  case stopTracking
  /// `VFIO_FERRY_TRACKING_ADD`: the bitmap is in the descriptor's file.
  case addDirtyPages
  /// `VFIO_FERRY_SAVE_BEGIN`.
  case beginSave(HelperSave)
  /// `VFIO_FERRY_STEP`.
  case step(bytesSent: UInt64)
  /// `VFIO_FERRY_ESTIMATE`.
  case estimate
  /// `VFIO_FERRY_VCPUS_STOPPED`.
  case vcpusStopped
  /// `VFIO_FERRY_QUIESCE`.
  case quiesce(bytesSent: UInt64)
  /// `VFIO_FERRY_COMPLETE`.
  case complete(bytesSent: UInt64)
  /// `VFIO_FERRY_COMMIT`.
  case commit
  /// `VFIO_FERRY_LOAD_BEGIN`.
  case beginLoad(HelperLoad)
  /// `VFIO_FERRY_BLOB_READ`.
  case readBlob(device: UInt32)
  /// `VFIO_FERRY_RESUME`.
  case resume
  /// `VFIO_FERRY_ABORT`.
  case abort
  /// `VFIO_FERRY_STATUS`.
  case status
}

/// What both ends of a connection can do. The corresponding C constants are `VFIO_FERRY_FEATURE_*`.
public struct HelperFeatures: OptionSet, Hashable, Sendable {
  /// `VFIO_FERRY_FEATURE_PAGES`: the helper can send guest memory itself.
  public static let pages = HelperFeatures(rawValue: 1 << 0)

  /// The bits of `features` in `struct vfio_ferry_hello`.
  public let rawValue: UInt64

  /// Those bits; unknown ones may be among them.
  public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// A device that a VMM hands over: `struct vfio_ferry_device_add`. Its descriptor is the packet's first.
public struct HelperDevice: Hashable, Sendable {
  /// What the packet's second descriptor is.
  public enum Support: Hashable, Sendable {
    /// There is none.
    case none
    /// The iommufd that the device is bound to.
    case iommufd
    /// Its container.
    case container
  }

  /// What both sides call it; not 0.
  public var device: UInt32
  /// By its PCI address or UUID.
  public var name: DeviceName
  /// The I/O address space that it is in; not 0.
  public var space: UInt32
  /// What is to track its writes.
  public var tracker: TrackerWish
  /// What the second descriptor is.
  public var support: Support
  /// What the iommufd calls the device, where the VMM says so.
  public var iommufdNumber: UInt32?
  /// The page table that it is attached to, where the VMM says so.
  public var pageTable: UInt32?
  /// The I/O addresses that its own log can watch, where they are known.
  public var logLimits: Range<UInt64>?
}

/// What a VMM knows of two devices: `struct vfio_ferry_device_link`.
public struct HelperLink: Hashable, Sendable {
  /// The device that would write.
  public var from: UInt32
  /// The one that would be written to.
  public var to: UInt32
  /// Whether it can.
  public var isThere: Bool
}

/// A range of guest memory: `struct vfio_ferry_memory`.
public struct HelperMemory: Hashable, Sendable {
  /// Guest addresses, in multiples of 4,096.
  public var guest: Range<UInt64>
  /// Where it begins in the packet's descriptor; nil where none came.
  public var fileOffset: UInt64?
  /// Where it is mapped at the same time; nil where it is not.
  public var mapping: HelperMapping?
}

/// I/O addresses that mean guest memory: `struct vfio_ferry_mapping`.
public struct HelperMapping: Hashable, Sendable {
  /// The I/O address space; not 0.
  public var space: UInt32
  /// I/O addresses, in multiples of 4,096.
  public var addresses: Range<UInt64>
  /// The guest address that the first of them means.
  public var guest: UInt64
}

/// How a VMM wants its devices to leave: `struct vfio_ferry_save`. The stream is the packet's first descriptor, the memory's
/// channel its second.
public struct HelperSave: Hashable, Sendable {
  /// Who sends guest memory.
  public enum Pages: Hashable, Sendable {
    /// Nobody that the helper knows of.
    case none
    /// The helper, over the second descriptor.
    case byHelper
    /// The VMM, which asks for each round.
    case byVMM
  }

  /// Read device state ahead of the stop.
  public var preCopy: Bool
  /// Who sends guest memory.
  public var pages: Pages
  /// Reset a device that nothing else brings back.
  public var resetAllowed: Bool
  /// Read each PCI device's configuration space between the two phases.
  public var flushes: Bool
  /// What is left to do where the guest dirties more than can be sent.
  public var lastResort: PreCopyConfiguration.LastResort
  /// Microseconds that the guest may stand still.
  public var downtime: UInt64
  /// Microseconds between the beginnings of two rounds.
  public var interval: UInt64
  /// Microseconds that a stop took before, where that is known.
  public var quiescing: UInt64?
  /// Microseconds that the other side took before, where that is known.
  public var loading: UInt64?
  /// Microseconds after which a device is said to hang; nil for the default.
  public var stepLimit: UInt64?
}

/// How a VMM wants its devices to arrive: `struct vfio_ferry_load`. The descriptors are as for ``HelperSave``.
public struct HelperLoad: Hashable, Sendable {
  /// Guest memory comes over the second descriptor.
  public var pages: Bool
  /// Reset a device that nothing else brings back, even if it holds what it held before.
  public var resetAllowed: Bool
  /// Microseconds after which a device is said to hang; nil for the default.
  public var stepLimit: UInt64?
}
