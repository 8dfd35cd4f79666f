// SPDX-License-Identifier: Apache-2.0

/// An RDMA device of the host, and what it means for migration.
public struct RDMADevice: Hashable, Sendable {
  /// What kind of function is behind it.
  public enum Kind: Hashable, Sendable {
    /// A physical function. Passed through, it can't be migrated: its state is the whole card's.
    case physicalFunction
    /// An SR-IOV virtual function: what a variant driver such as mlx5_vfio_pci migrates.
    case virtualFunction
    /// A part of a physical function without a PCI function of its own (mlx5's scalable functions), which VFIO can't
    /// have.
    case subfunction
    /// No hardware behind it, as rxe and siw: nothing that VFIO could move.
    case software
  }

  /// A port.
  public struct Port: Hashable, Sendable {
    /// From 1.
    public var number: Int
    /// "active", "down", "init", "armed"; "unknown" where nobody says.
    public var state: String
    /// "ethernet" or "infiniband"; "unknown" where nobody says.
    public var linkLayer: String
    /// Its addresses that are not zero, in the order of its table.
    public var gids: [String]

    /// A port; see the properties.
    public init(number: Int, state: String, linkLayer: String, gids: [String]) {
      self.number = number
      self.state = state
      self.linkLayer = linkLayer
      self.gids = gids
    }
  }

  /// As verbs name it: "mlx5_0".
  public var name: String
  /// What is behind it.
  public var kind: Kind
  /// The address of its PCI function, or of the one that it is a part of; nil for software.
  public var function: String?
  /// nil where nobody says.
  public var firmware: String?
  /// Its ports, by number.
  public var ports: [Port]

  /// A device; see the properties.
  public init(name: String, kind: Kind, function: String? = nil, firmware: String? = nil, ports: [Port] = []) {
    self.name = name
    self.kind = kind
    self.function = function
    self.firmware = firmware
    self.ports = ports
  }

  /// What its kind means for migration: one sentence for a person.
  public var meaning: String {
    switch kind {
    case .physicalFunction:
      "a physical function: not migratable when passed through; give the VM a virtual function of it"
    case .virtualFunction:
      "a virtual function: migratable where it was made so and a variant driver has it"
    case .subfunction:
      "a part of a physical function: VFIO can't have it; give the VM a virtual function"
    case .software:
      "software: no device state that VFIO could move"
    }
  }
}
