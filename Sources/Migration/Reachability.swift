// SPDX-License-Identifier: Apache-2.0

/// Which devices of a group can start transfers to which others, and by which way: a directed relation over the
/// devices' positions in the group, each link with its reason.
///
/// `Topology` makes one from the PCI tree; a VMM or an operator corrects it by what it knows
/// (``declare(from:to:exists:by:)``). What nobody knows counts as a link: a link too many costs a group its order at
/// worst, a link too few costs a guest its data.
public struct Reachability: Hashable, Sendable {
  /// The way that a transfer takes.
  public enum Path: Hashable, Sendable {
    /// There is none.
    case none
    /// It is turned around below the root complex, by the switch, the bridge or the device named here. No IOMMU sees
    /// it, unless the address was translated before (ATS).
    case direct(at: String)
    /// It goes up to the root complex and down again, and through the IOMMU where that is on. Named is the host bridge,
    /// or both of them.
    case redirected(through: String)
    /// Nobody knows: neither device is a PCI function, for example. Counts as a link.
    case unknown
  }

  /// Who says so.
  public enum Origin: Hashable, Sendable {
    /// The PCI tree and what is mapped in the address spaces.
    case observed
    /// Nothing is known, so it is taken for granted.
    case assumed
    /// Somebody who knows the devices' guests: the text says who.
    case declared(by: String)
  }

  /// What is known of one ordered pair.
  public struct Link: Hashable, Sendable {
    /// The way that transfers from the first to the second take.
    public var path: Path
    /// Why, in words for a person; no full stop at its end.
    public var reason: String
    /// Who says so.
    public var origin: Origin

    /// A link, or the absence of one; see the properties.
    public init(path: Path, reason: String, origin: Origin) {
      self.path = path
      self.reason = reason
      self.origin = origin
    }

    /// Whether transfers can be started at all.
    public var exists: Bool { path != .none }
  }

  /// How many devices the relation is about.
  public let count: Int
  private var links: [Link]

  /// - Parameter link: what is known of each ordered pair of different devices.
  public init(count: Int, link: (_ from: Int, _ to: Int) -> Link) {
    self.count = count
    let itself = Link(path: .none, reason: "a device is no peer of itself", origin: .observed)
    links = (0..<count * count).map { $0 / count == $0 % count ? itself : link($0 / count, $0 % count) }
  }

  /// Of devices of which nothing is known, each can start transfers to each other.
  public static func assumed(count: Int) -> Reachability {
    Reachability(count: count) { _, _ in
      Link(path: .unknown, reason: "nothing is known of how they are connected", origin: .assumed)
    }
  }

  /// What is known of transfers from one device to another; a device is no peer of itself.
  public subscript(from: Int, to: Int) -> Link {
    precondition((0..<count).contains(from) && (0..<count).contains(to), "the relation has no such pair")
    return links[from * count + to]
  }

  /// Whether `from` can start transfers to `to`.
  public func reaches(_ from: Int, _ to: Int) -> Bool { self[from, to].exists }

  /// Corrects one link by what an operator or a VMM knows, for example that the guest never has one device write to the
  /// other. Ignored where both are the same device.
  /// - Parameter declarer: who says so: "the operator", "the VMM".
  public mutating func declare(from: Int, to: Int, exists: Bool, by declarer: String) {
    precondition((0..<count).contains(from) && (0..<count).contains(to), "the relation has no such pair")
    guard from != to else { return }
    let old = self[from, to].path
    let path: Path = exists ? (old == .none ? .unknown : old) : .none
    links[from * count + to] = Link(
      path: path, reason: "\(declarer) says that \(exists ? "it does" : "it never does")",
      origin: .declared(by: declarer))
  }
}

extension Reachability.Path: CustomStringConvertible {
  /// As users read it: "not at all", "direct at 0000:03:00.0", "through the root complex (pci0000:00)", "unknown".
  public var description: String {
    switch self {
    case .none: "not at all"
    case .direct(let place): "direct at \(place)"
    case .redirected(let place): "through the root complex (\(place))"
    case .unknown: "unknown"
    }
  }
}
