// SPDX-License-Identifier: Apache-2.0
public import Migration

extension PCITree {
  /// Which of these devices can start transfers to which others, and how these go.
  ///
  /// - Parameters:
  ///   - devices: their addresses; nil for what is no PCI function (mediated, synthetic). Of those nothing is known, so
  ///     they count as reaching and reached.
  ///   - mapping: what the caller knows of whether the BARs of the target (the second) are mapped in the address space
  ///     of the initiator (the first); both are positions in `devices`.
  public func reachability(
    of devices: [String?], mapping: (_ initiator: Int, _ target: Int) -> BARMapping = { _, _ in .unknown }
  ) -> Reachability {
    var ways: [String: WayUp] = [:]
    for address in devices.compactMap({ $0 }) where ways[address] == nil { ways[address] = way(up: address) }
    return Reachability(count: devices.count) { from, to in
      let known = mapping(from, to)
      guard let initiator = devices[from], let target = devices[to] else {
        let both = devices[from] == nil && devices[to] == nil
        let reason =
          both ? "neither is a PCI function" : "the \(devices[from] == nil ? "first" : "second") is no PCI function"
        return PeerRoute.notInTree(reason).link(isNotMapped: known == .notMapped)
      }
      guard let first = ways[initiator], !first.places.isEmpty else {
        return PeerRoute.notInTree("there is no PCI function \(initiator)").link(isNotMapped: known == .notMapped)
      }
      guard let second = ways[target], !second.places.isEmpty else {
        return PeerRoute.notInTree("there is no PCI function \(target)").link(isNotMapped: known == .notMapped)
      }
      return route(first, second, mapping: known).link(isNotMapped: known == .notMapped)
    }
  }

  /// The bridge or port nearest to two functions that is above both (or is one of them, where it is above the other);
  /// nil where they meet only in the root complex, or not even there.
  public func commonAncestor(_ first: String, _ second: String) -> String? {
    let others = way(up: second).places
    return way(up: first).places.first { others.contains($0) }.map { functions[$0].address }
  }

  /// How a memory request from one function to another is routed, by the PCI Express Base Specification's rules.
  ///
  /// 1. A target without a memory BAR can't be written to: peers have no way to send I/O requests.
  /// 2. A request that meets its target below the root complex is turned around there, by its bus address, and no IOMMU
  ///    sees it. So it arrives although nobody mapped the BAR, if the address that the initiator was given happens to be
  ///    in it. Where that is:
  ///    - Behind one bridge to conventional PCI: on its bus. There is no access control.
  ///    - Between functions of one device (one number, or a physical function's virtual functions): inside it.
  ///    - In a switch, when the lowest port that is above both is its upstream port.
  /// 3. Access control (ACS) may send it upwards instead. ACS P2P Request Redirect counts where the request enters what
  ///    would turn it around: at the switch's downstream port on the initiator's side, or in the initiator's own function.
  ///    The target's side has no say: a switch with it on at one port alone is open in one direction.
  /// 4. ACS Direct Translated P2P at that port excepts requests that carry a translated address, which an initiator
  ///    with ATS on can send to what is mapped for it; ACS Translation Blocking at any port on the way up refuses those.
  ///    ACS P2P Egress Control is a list of ports that are closed. It is not read, so it counts as open.
  /// 5. What is redirected goes up. Ports further up that are above both would send it back down the link on which it
  ///    came, and that they must refuse, unless ACS Upstream Forwarding is on. It is not relied on that they do refuse:
  ///    such a route counts, and its reason names the port.
  /// 6. In the root complex an IOMMU translates it, if there is one above the initiator. Then it arrives only if the BAR is
  ///    mapped. Without one it is turned around by its bus address. Whether a platform forwards between host bridges, or between root
  ///    ports at all, can't be seen: it is taken for granted. Root ports that do not redirect may turn a request around
  ///    before the IOMMU sees it. The kernel knows which do, and keeps devices in one IOMMU group that it can't keep apart:
  ///    between those nothing is taken for isolated.
  ///
  /// ACS Source Validation and Completion Redirect play no part. The first refuses requests in another's name, and a
  /// device that sends in its own is not stopped by it. The second is about answers to reads, which arrive either way.
  func route(_ initiator: WayUp, _ target: WayUp, mapping: BARMapping) -> PeerRoute {
    let (first, second) = (functions[initiator.places[0]], functions[target.places[0]])
    guard second.hasMemory else { return .nothingToWrite }
    let crossing = Crossing(functions, initiator, target)
    if let one = initiator.device, let other = target.device, one.isSameDevice(as: other),
      let device = sharedDevice(first, second)
    {
      return turn(.insideDevice(at: device), at: device, decidedBy: first, crossing, mapping)
    }
    guard let ancestor = crossing.ancestor else {
      if first.hostBridge == second.hostBridge, initiator.isOnConventionalRootBus {
        return .onConventionalBus(at: first.hostBridge)
      }
      return throughRoot(first, second, crossing: crossing, mapping: mapping)
    }
    guard let port = crossing.below, let other = crossing.belowOnOtherSide else {
      return .alongTheWay(at: ancestor.address)
    }
    switch ancestor.kind {
    case .bridge:
      return .onConventionalBus(at: ancestor.address)
    case .rootPort, .switchDownstreamPort:
      // A link ends at one device: what is below the port are its functions, of which one may be a switch.
      let device = min(port.address, other.address)
      return turn(.insideDevice(at: device), at: device, decidedBy: port, crossing, mapping)
    default:
      return turn(
        .inSwitch(at: ancestor.address, port: port.address), at: ancestor.address, decidedBy: port, crossing, mapping)
    }
  }

  /// What becomes of a request that could be turned around below the root complex: rules 3 to 6.
  private func turn(
    _ direct: PeerRoute, at place: String, decidedBy port: PCIFunction, _ crossing: Crossing, _ mapping: BARMapping
  ) -> PeerRoute {
    guard let capabilities = port.capabilities else { return .unread(at: place, port: port.address) }
    guard capabilities.accessControlEnabled.contains(.requestRedirect) else { return direct }
    let isBlocked = crossing.wayUp.contains { port in
      port.capabilities?.accessControlEnabled.contains(.translationBlocking) == true
    }
    if capabilities.accessControlEnabled.contains(.directTranslated), mapping != .notMapped, !isBlocked,
      crossing.initiator.capabilities?.addressTranslation == true
    {
      return .translated(at: place, port: port.address)
    }
    let bridge = crossing.initiator.hostBridge
    if isTranslated(crossing.initiator), mapping == .notMapped { return .unmapped(hostBridge: bridge) }
    let blocked = crossing.aboveBoth.first { port in
      guard port.kind == .switchDownstreamPort || port.kind == .rootPort else { return false }
      return port.capabilities?.accessControlEnabled.contains(.upstreamForwarding) != true
    }
    return .redirected(hostBridge: bridge, port: port.address, blockedAt: blocked?.address)
  }

  /// What becomes of a request to a function that it meets in the root complex, or beyond it: rule 6.
  private func throughRoot(
    _ first: PCIFunction, _ second: PCIFunction, crossing: Crossing, mapping: BARMapping
  ) -> PeerRoute {
    let bridge = first.hostBridge
    if isTranslated(first), mapping == .notMapped {
      let redirects = crossing.wayUp.last?.capabilities?.accessControlEnabled.contains(.requestRedirect) == true
      guard !redirects, let group = first.group, group == second.group else { return .unmapped(hostBridge: bridge) }
      return .notIsolated(hostBridge: bridge, group: group)
    }
    return bridge == second.hostBridge
      ? .acrossRoots(hostBridge: bridge) : .acrossHostBridges(bridge, second.hostBridge)
  }

  /// The lowest physical function of the device that both are functions of by their numbers; nil where they are not.
  private func sharedDevice(_ first: PCIFunction, _ second: PCIFunction) -> String? {
    let (mine, theirs) = (first.physicalFunction ?? first.address, second.physicalFunction ?? second.address)
    // Below a conventional bridge there is a bus between functions, and root ports are no peers of each other.
    guard first.kind != .conventional, second.kind != .conventional else { return nil }
    return min(mine, theirs)
  }

  /// Where the ways up from two functions meet.
  private struct Crossing {
    let initiator: PCIFunction
    /// The lowest bridge or port above both; nil for the root complex.
    let ancestor: PCIFunction?
    /// What is directly below the ancestor on the initiator's side, and on the target's: nil where that is the ancestor.
    let below: PCIFunction?
    let belowOnOtherSide: PCIFunction?
    /// Everything above the initiator and below the ancestor, the initiator included, from it upwards.
    let wayUp: [PCIFunction]
    /// The ancestor and everything above it, upwards.
    let aboveBoth: [PCIFunction]

    init(_ functions: [PCIFunction], _ first: WayUp, _ second: WayUp) {
      let (mine, theirs) = (first.places, second.places)
      let meeting = mine.firstIndex { theirs.contains($0) }
      let theirMeeting = meeting.flatMap { theirs.firstIndex(of: mine[$0]) }
      initiator = functions[mine[0]]
      wayUp = mine[..<(meeting ?? mine.count)].map { functions[$0] }
      aboveBoth = meeting.map { mine[$0...].map { functions[$0] } } ?? []
      ancestor = aboveBoth.first
      below = wayUp.last
      belowOnOtherSide = theirs[..<(theirMeeting ?? theirs.count)].last.map { functions[$0] }
    }
  }
}
