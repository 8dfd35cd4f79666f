// SPDX-License-Identifier: Apache-2.0
public import Migration

/// Everything that the doctor judges by: what a host and its devices look like from outside. ``HostExamination`` gathers it;
/// ``Condition`` judges it, and reads nothing itself.
public struct HostFacts: Sendable {
  /// Where it was read, for messages.
  public var root: SystemRoot
  /// The kernel's release; nil where procfs does not say.
  public var release: String?
  /// What the kernel was built with; nil where no file tells.
  public var configuration: KernelConfiguration?
  /// Its modules.
  public var modules: KernelModules
  /// Whether VFIO is there, loaded or built in.
  public var hasVFIO: Bool
  /// `/dev/iommu`; nil where there is none.
  public var iommufd: NodeFacts?
  /// `/dev/vfio/vfio`; nil where there is none.
  public var container: NodeFacts?
  /// Whether any IOMMU is on.
  public var hasIOMMU: Bool
  /// The IOMMUs that sysfs shows.
  public var units: [IOMMUUnit]
  /// Whether debugfs has VFIO's folder; nil where debugfs can't be read.
  public var hasDebugfs: Bool?
  /// For whom permissions and limits are judged.
  public var process: ProcessAllowance
  /// How many huge pages are reserved for guests, or made as they are asked for, by their size in bytes.
  public var hugePages: [UInt64: UInt64]
  /// The size in bytes of huge pages that the kernel makes by itself, or where a program advises it; nil where it makes none.
  public var transparentHugePage: UInt64?
  /// The devices that are judged.
  public var devices: [DeviceFacts]
  /// Whether these are the devices of one virtual machine, which the caller named.
  public var isOneMachine: Bool
  /// Who of them can start transfers to whom.
  public var reachability: Reachability
  /// What the caller expects of a migration.
  public var expectations: Expectations

  /// What a migration has to cope with; nil is what nobody said.
  public struct Expectations: Hashable, Sendable {
    /// Bytes of guest memory.
    public var guestMemory: UInt64?
    /// Bytes of all device images.
    public var imageSize: UInt64?
    /// Nanoseconds for which devices are silent.
    public var downtime: UInt64?
    /// What the queue pairs of the guest's RDMA peers are set to.
    public var peers: RetryBudget?

    /// Nothing is expected.
    public init() {}
  }

  /// Whether devices on VFIO can be bound to an iommufd by nodes of their own; nil where nobody says. Otherwise they are opened
  /// by their groups, with a container.
  var hasDeviceWay: Bool? {
    if iommufd == nil { return false }
    let offered = devices.filter(\.record.isOnVFIO)
    if offered.contains(where: { $0.record.nodeNumber != nil }) { return true }
    return configuration.map { $0["VFIO_DEVICE_CDEV"] != .off } ?? (offered.isEmpty ? nil : false)
  }

  /// Whether the container is iommufd's imitation, which stands in where VFIO has none.
  var containerIsIOMMUFD: Bool {
    configuration.map { $0["IOMMUFD_VFIO_CONTAINER"] != .off && $0["VFIO_CONTAINER"] == .off } ?? false
  }

  /// Its version; nil where the release is none that is understood.
  var version: KernelVersion? { release.flatMap { KernelVersion(release: $0) } }
}

/// What is known of one device, without anything being opened or bound.
public struct DeviceFacts: Sendable {
  /// What the inventory says.
  public var record: DeviceRecord
  /// Its function in the tree; nil for what is no PCI function.
  public var function: PCIFunction?
  /// The functions that share its IOMMU group, itself not among them.
  public var companions: [PCIFunction] = []
  /// The drivers that VFIO has for just this device, by modules.alias.
  public var variantDrivers: [String] = []
  /// The IOMMU above it; nil where sysfs does not say.
  public var unit: IOMMUUnit?
  /// Its nodes; nil where they are not there.
  public var node: NodeFacts?
  public var groupNode: NodeFacts?
  /// What quiescing takes for granted of it.
  public var assumptions: [QuiescingAssumption] = []
  /// For a virtual function, which of which.
  public var place: VirtualFunctionPlace?
  /// How many virtual functions its physical one has.
  public var siblings = 0
  /// How many the firmware of its physical one, or its own where it is one, lets it have; nil where it has no SR-IOV.
  public var offeredFunctions: Int?
  /// The file that prepares its physical function, which says how many are wanted; nil where none does.
  public var preparation: PreparationFile?
  /// The firmware that runs; nil where nobody says.
  public var firmware: String?
  /// The link layers of its NIC's ports, as the RDMA device of the physical function has them; empty where nobody says.
  public var linkLayers: [String] = []
  /// The mode of its NIC's switch, "legacy" or "switchdev"; nil where nobody says.
  public var switchMode: String?
  /// Whether it was made migratable, as the NIC's driver says.
  public var migratability: Answer<Bool> = .unknown("")
  /// What would slow it down.
  public var limiter: Answer<Limiter> = .unknown("")

  /// Something that was asked of the kernel.
  public enum Answer<Value: Sendable & Hashable>: Hashable, Sendable {
    case known(Value)
    /// Why not, in words for a person; empty where nobody asked.
    case unknown(String)
  }

  /// What limits a device's traffic.
  public struct Limiter: Hashable, Sendable {
    /// How; nil where nothing limits it.
    public var kind: RateLimiterKind?
    /// Why it is not a better one, or why there is none.
    public var shortcomings: [String]
  }

  /// Only what the inventory says.
  init(_ record: DeviceRecord) { self.record = record }

  /// As messages call it.
  var name: String { "\(record.name)" }
  /// Its folder's name, which is a PCI function's address.
  var address: String { function?.address ?? name }
  /// The address of its physical function, or its own where it is none's virtual one: what a card's tools take.
  var card: String { place?.physicalFunction ?? address }
  /// Whether it is a function of an NVIDIA NIC, of which more is known than of others.
  var isConnectX: Bool { function.map { $0.identity.hasPrefix("15b3:") && $0.classCode >> 16 == 0x02 } ?? false }
  /// Whether it is a network controller.
  var isNIC: Bool { function.map { $0.classCode >> 16 == 0x02 } ?? false }
  /// The command that makes all virtual functions of its physical one ready to be moved, and leaves alone what is so already;
  /// nil for what is no virtual function.
  func preparing(_ options: String = "") -> String? {
    place.map { "vfio-ferry prepare \($0.physicalFunction) --vfs \(siblings)" + options }
  }
  /// That command as the end of a remedy whose beginning is for the device alone.
  func preparingAll(_ options: String = "") -> String {
    preparing(options).map { "; all VFs of \(place?.physicalFunction ?? ""): \($0)" } ?? ""
  }
  /// Whether its driver keeps a log of what the device writes; nil where that is not known of the driver.
  var hasLog: Bool? { record.driver.flatMap(DriverFacts.tracking(of:)).map { $0 == .device } }
}
