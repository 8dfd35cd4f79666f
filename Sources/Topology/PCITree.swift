// SPDX-License-Identifier: Apache-2.0

/// Every PCI function of a system and how they are connected.
public struct PCITree: Hashable, Sendable {
  /// All functions, by address.
  public var functions: [PCIFunction]
  /// The RDMA devices, by name.
  public var rdmaDevices: [RDMADevice]
  /// Whether an IOMMU translates what devices write: false where the system has none, or it is off.
  public var hasIOMMU: Bool

  /// A tree of these parts.
  public init(functions: [PCIFunction], rdmaDevices: [RDMADevice] = [], hasIOMMU: Bool) {
    self.functions = functions
    self.rdmaDevices = rdmaDevices
    self.hasIOMMU = hasIOMMU
  }

  /// The function at that address.
  public subscript(address: String) -> PCIFunction? { functions.first { $0.address == address } }

  /// What is directly below a bridge or port.
  public func children(of address: String) -> [PCIFunction] { functions.filter { $0.parent == address } }

  /// The host bridges, by name.
  public var hostBridges: [String] { Array(Set(functions.map(\.hostBridge))).sorted() }

  /// What hangs directly off a host bridge.
  public func roots(of hostBridge: String) -> [PCIFunction] {
    functions.filter { $0.hostBridge == hostBridge && $0.parent == nil }
  }
}
