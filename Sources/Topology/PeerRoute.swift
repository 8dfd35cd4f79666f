// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What the caller knows of whether a target's BARs are in an initiator's address space.
public enum BARMapping: Hashable, Sendable {
  /// They are: the guest's addresses for them lead there.
  case mapped
  /// They are not: an address that is handed to the initiator does not lead there through an IOMMU.
  case notMapped
  /// Nobody says. Counts as mapped.
  case unknown
}

/// How a transfer from one PCI function to another goes, by the rules in ``PCITree/route(_:_:mapping:)``, and why.
enum PeerRoute: Hashable {
  /// One of the two is no PCI function of this tree.
  case notInTree(String)
  /// The target has no memory BAR.
  case nothingToWrite
  /// Both are functions of one device.
  case insideDevice(at: String)
  /// Both are behind one bridge to conventional PCI, or on one conventional root bus.
  case onConventionalBus(at: String)
  /// One is above the other.
  case alongTheWay(at: String)
  /// A switch turns it around, at the port that is the deciding one.
  case inSwitch(at: String, port: String)
  /// A switch or a device would turn it around, if what could not be read is off.
  case unread(at: String, port: String)
  /// Translated requests are turned around although others are redirected.
  case translated(at: String, port: String)
  /// A port, or the initiator's own function, redirects it. `blockedAt`: the port that would have to forward it upwards
  /// and is not set to.
  case redirected(hostBridge: String, port: String, blockedAt: String?)
  /// Through different ports of one host bridge.
  case acrossRoots(hostBridge: String)
  /// Through two host bridges.
  case acrossHostBridges(String, String)
  /// The IOMMU sees it and has no mapping for it.
  case unmapped(hostBridge: String)
  /// The IOMMU has no mapping, but may not see it: the ports do not redirect, and the kernel keeps both in one group.
  case notIsolated(hostBridge: String, group: Int)
}

extension PeerRoute {
  /// The route as callers see it.
  /// - Parameter isNotMapped: whether the caller said that the target's BARs are not mapped.
  func link(isNotMapped: Bool) -> Reachability.Link {
    let chance =
      isNotMapped ? "; that it is not mapped does not help, as an untranslated address may hit it by chance" : ""
    switch self {
    case .notInTree(let what):
      return .init(path: .unknown, reason: what, origin: .assumed)
    case .nothingToWrite:
      return .init(path: .none, reason: "it has no memory BAR that a peer could write to", origin: .observed)
    case .insideDevice(let place):
      return .init(
        path: .direct(at: place), reason: "both are functions of one device, which need not send it out" + chance,
        origin: .observed)
    case .onConventionalBus(let place):
      return .init(
        path: .direct(at: place),
        reason: "both are on conventional buses below \(place), where nothing controls access"
          + chance, origin: .observed)
    case .alongTheWay(let place):
      return .init(path: .direct(at: place), reason: "one is above the other" + chance, origin: .observed)
    case .inSwitch(let place, let port):
      return .init(
        path: .direct(at: place),
        reason: "\(port) has request redirect off, so the switch routes by address, past any "
          + "IOMMU" + chance, origin: .observed)
    case .unread(let place, let port):
      return .init(
        path: .direct(at: place),
        reason: "what \(port) controls could not be read (root may), so it is taken to be off"
          + chance, origin: .assumed)
    case .translated(let place, let port):
      return .init(
        path: .direct(at: place),
        reason: "\(port) redirects requests but lets translated ones through, and the "
          + "initiator has ATS on", origin: .observed)
    case .redirected(let bridge, let port, let blocked):
      guard let blocked else {
        return .init(path: .redirected(through: bridge), reason: "\(port) has request redirect on", origin: .observed)
      }
      return .init(
        path: .redirected(through: bridge),
        reason: "\(port) has request redirect on; \(blocked) above it, with "
          + "upstream forwarding off, should refuse it there, but that is not relied on", origin: .assumed)
    case .acrossRoots(let bridge):
      return .init(
        path: .redirected(through: bridge), reason: "they have nothing in common below the host bridge",
        origin: .observed)
    case .acrossHostBridges(let first, let second):
      return .init(
        path: .redirected(through: "\(first) and \(second)"),
        reason: "they are below different host bridges; software can't see whether this platform forwards between "
          + "them, so it is taken for granted", origin: .assumed)
    case .unmapped:
      return .init(
        path: .none, reason: "it goes through the IOMMU, which has no mapping for it", origin: .observed)
    case .notIsolated(let bridge, let group):
      return .init(
        path: .redirected(through: bridge),
        reason: "it is not mapped, but the kernel keeps both in IOMMU group "
          + "\(group): requests may be turned around before the IOMMU sees them", origin: .assumed)
    }
  }
}
