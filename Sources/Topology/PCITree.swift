// SPDX-License-Identifier: Apache-2.0

/// Every PCI function of a system and how they are connected.
public struct PCITree: Hashable, Sendable {
  /// All functions, by address.
  public var functions: [PCIFunction] { didSet { index = Index(functions) } }
  /// The RDMA devices, by name.
  public var rdmaDevices: [RDMADevice]
  /// Whether an IOMMU translates what devices write: false where the system has none, or it is off. It may be above a part
  /// of the devices only; those have a group.
  public var hasIOMMU: Bool
  /// The groups that VFIO made up for devices that no IOMMU is above (`vfio-noiommu`).
  public var groupsWithoutIOMMU: Set<Int>
  private var index: Index

  /// A tree of these parts.
  public init(
    functions: [PCIFunction], rdmaDevices: [RDMADevice] = [], hasIOMMU: Bool, groupsWithoutIOMMU: Set<Int> = []
  ) {
    self.functions = functions
    self.rdmaDevices = rdmaDevices
    self.hasIOMMU = hasIOMMU
    self.groupsWithoutIOMMU = groupsWithoutIOMMU
    index = Index(functions)
  }

  /// The function at that address.
  public subscript(address: String) -> PCIFunction? { index.places[address].map { functions[$0] } }

  /// What is directly below a bridge or port.
  public func children(of address: String) -> [PCIFunction] { (index.below[address] ?? []).map { functions[$0] } }

  /// The virtual functions of a physical function, wherever they are.
  public func virtualFunctions(of address: String) -> [PCIFunction] {
    (index.virtual[address] ?? []).map { functions[$0] }
  }

  /// The host bridges, by name.
  public var hostBridges: [String] { index.bridges.keys.sorted() }

  /// What hangs directly off a host bridge.
  public func roots(of hostBridge: String) -> [PCIFunction] {
    (index.bridges[hostBridge]?.roots ?? []).map { functions[$0] }
  }

  /// The first NUMA node that a function below a host bridge has; nil where the system says none.
  public func numaNode(of hostBridge: String) -> Int? { index.bridges[hostBridge]?.numaNode }

  /// Whether there is an IOMMU above a function.
  func isTranslated(_ function: PCIFunction) -> Bool {
    guard hasIOMMU, let group = function.group else { return false }
    return !groupsWithoutIOMMU.contains(group)
  }

  /// A function and what is above it, nearest first; empty where it is not there.
  func way(up address: String) -> WayUp {
    var places: [Int] = []
    var next: String? = address
    // Ends also where a tree that somebody made has a ring.
    while let here = next, let place = index.places[here], places.count < functions.count {
      places.append(place)
      next = functions[place].parent
    }
    guard let first = places.first.map({ functions[$0] }) else {
      return WayUp(places: [], device: nil, isOnConventionalRootBus: false)
    }
    return WayUp(
      places: places, device: PCIAddress(first.physicalFunction ?? first.address),
      isOnConventionalRootBus: index.bridges[first.hostBridge]?.isConventional ?? false)
  }

  /// A function's way to the root complex, and what else routes ask of it again and again.
  struct WayUp {
    /// Places in `functions`: its own, then those of what is above it, upwards.
    let places: [Int]
    /// The address of the function, or of the physical function that it belongs to, in parts.
    let device: PCIAddress?
    /// Whether its root bus is a conventional one.
    let isOnConventionalRootBus: Bool
  }
}

/// Where everything is in a tree's functions, so that nothing is looked for twice.
private struct Index: Hashable, Sendable {
  /// What hangs off a host bridge.
  struct Bridge: Hashable, Sendable {
    var roots: [Int] = []
    var numaNode: Int?
    /// Whether the root bus is one of conventional PCI.
    var isConventional = false
  }

  /// The place of an address.
  private(set) var places: [String: Int] = [:]
  /// What is directly below an address.
  private(set) var below: [String: [Int]] = [:]
  /// The virtual functions of an address.
  private(set) var virtual: [String: [Int]] = [:]
  private(set) var bridges: [String: Bridge] = [:]

  init(_ functions: [PCIFunction]) {
    places.reserveCapacity(functions.count)
    for (place, function) in functions.enumerated() {
      if places[function.address] == nil { places[function.address] = place }
      if let physical = function.physicalFunction { virtual[physical, default: []].append(place) }
      if let parent = function.parent { below[parent, default: []].append(place) }
      add(function, at: place, to: &bridges[function.hostBridge, default: Bridge()])
    }
  }

  private func add(_ function: PCIFunction, at place: Int, to bridge: inout Bridge) {
    if bridge.numaNode == nil { bridge.numaNode = function.numaNode }
    if function.parent == nil {
      bridge.roots.append(place)
      if function.kind == .conventional { bridge.isConventional = true }
    }
  }
}
