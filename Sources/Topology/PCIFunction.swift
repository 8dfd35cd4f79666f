// SPDX-License-Identifier: Apache-2.0

/// A PCI function as it is plugged in: its place in the tree and what its capabilities say. Nothing of it was bound,
/// opened or changed to find out.
public struct PCIFunction: Hashable, Sendable {
  /// What a function is in the tree, from its PCI Express capability and its header.
  public enum Kind: Hashable, Sendable {
    /// Where a link leaves the root complex.
    case rootPort
    /// A switch's port towards the root complex.
    case switchUpstreamPort
    /// A switch's port towards devices.
    case switchDownstreamPort
    /// A bridge to or between conventional PCI buses.
    case bridge
    /// A device at the end of a link.
    case endpoint
    /// A part of the root complex: a device with no link (integrated endpoint), an event collector, a host bridge.
    case integrated
    /// A device on a conventional PCI bus.
    case conventional
  }

  /// A base address register's range.
  public struct BAR: Hashable, Sendable {
    /// Its number, 0 to 5.
    public var index: Int
    /// Where it is on the bus, in bytes; 0 where it was not placed.
    public var start: UInt64
    /// Bytes.
    public var size: UInt64
    /// Whether it is I/O space, which no peer writes to.
    public var isIO: Bool
    /// Whether reading has no side effects.
    public var isPrefetchable: Bool

    /// A range; see the properties.
    public init(index: Int, start: UInt64, size: UInt64, isIO: Bool, isPrefetchable: Bool) {
      self.index = index
      self.start = start
      self.size = size
      self.isIO = isIO
      self.isPrefetchable = isPrefetchable
    }
  }

  /// A PCI Express link.
  public struct LinkStatus: Hashable, Sendable {
    /// As sysfs says it: "16.0 GT/s PCIe".
    public var speed: String
    /// Lanes.
    public var width: Int

    /// A link; see the properties.
    public init(speed: String, width: Int) {
      self.speed = speed
      self.width = width
    }
  }

  /// Access control (ACS): controls that exist, or that are on. Bits as in the ACS capability and control registers.
  public struct AccessControl: OptionSet, Hashable, Sendable {
    /// The register's bits.
    public let rawValue: UInt16
    /// The register as it was read.
    public init(rawValue: UInt16) { self.rawValue = rawValue }
    /// Requests with a foreign requester id are refused. The corresponding C constant is `PCI_ACS_SV`.
    public static let sourceValidation = AccessControl(rawValue: 0x01)
    /// Translated requests are refused. The corresponding C constant is `PCI_ACS_TB`.
    public static let translationBlocking = AccessControl(rawValue: 0x02)
    /// Requests to peers go up to the root complex. The corresponding C constant is `PCI_ACS_RR`.
    public static let requestRedirect = AccessControl(rawValue: 0x04)
    /// So do completions. The corresponding C constant is `PCI_ACS_CR`.
    public static let completionRedirect = AccessControl(rawValue: 0x08)
    /// What comes from below and belongs below goes up all the same. The corresponding C constant is `PCI_ACS_UF`.
    public static let upstreamForwarding = AccessControl(rawValue: 0x10)
    /// Which peers are reached directly is a list. The corresponding C constant is `PCI_ACS_EC`.
    public static let egressControl = AccessControl(rawValue: 0x20)
    /// Translated requests to peers go straight there. The corresponding C constant is `PCI_ACS_DT`.
    public static let directTranslated = AccessControl(rawValue: 0x40)
  }

  /// What the function's configuration space says beyond its first 64 bytes, which only root may read.
  public struct Capabilities: Hashable, Sendable {
    /// ACS controls that the function has; nil where it has no ACS capability.
    public var accessControl: AccessControl?
    /// Of these, the ones that are on.
    public var accessControlEnabled: AccessControl = []
    /// Address translation (ATS): nil where it has no such capability, else whether it is on.
    public var addressTranslation: Bool?
    /// Whether it may mark what it sends so that it may overtake other writes (Device Control).
    public var relaxedOrdering = false
    /// Whether it may mark requests so that they may overtake those of other functions (Device Control 2, IDO).
    public var idOrderedRequests = false
    /// The same for completions.
    public var idOrderedCompletions = false

    /// A function that has none of them, and nothing on.
    public init() {}
  }

  /// Its address, `ssss:bb:dd.f`.
  public var address: String
  /// The address of the bridge or port above it; nil on a root bus.
  public var parent: String?
  /// The host bridge that it hangs off, as sysfs names it: "pci0000:00".
  public var hostBridge: String
  /// What it is.
  public var kind: Kind
  /// Vendor and device as in "15b3:101e".
  public var identity: String
  /// The 24 bits of its class code.
  public var classCode: UInt32
  /// Vendor and device in words, from the PCI id list; nil where that list is absent or lacks them.
  public var title: String?
  /// The kernel driver that it is bound to; nil for none.
  public var driver: String?
  /// Its IOMMU group; nil where it has none.
  public var group: Int?
  /// The NUMA node; nil where the system says none.
  public var numaNode: Int?
  /// For a virtual function the address of its physical function (SR-IOV).
  public var physicalFunction: String?
  /// Its memory and I/O ranges, by index; the expansion ROM and bridge windows are left out.
  public var bars: [BAR]
  /// Its link as it is now; nil where it has none.
  public var link: LinkStatus?
  /// What its capabilities say; nil where they could not be read, for which root is needed.
  public var capabilities: Capabilities?

  /// A function at a place of the tree; the rest is nil until it is set.
  public init(
    address: String, parent: String?, hostBridge: String, kind: Kind, identity: String, classCode: UInt32, bars: [BAR]
  ) {
    self.address = address
    self.parent = parent
    self.hostBridge = hostBridge
    self.kind = kind
    self.identity = identity
    self.classCode = classCode
    self.bars = bars
  }

  /// Whether there is anything that a peer could write to.
  public var hasMemory: Bool { bars.contains { !$0.isIO } }
}
