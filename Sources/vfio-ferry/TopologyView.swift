// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import Topology

/// What the outputs of `topology` show: the tree with what is left out and what is folded decided once, the devices
/// that were named, and what is known of them.
struct TopologyView: Sendable {
  /// A function and what hangs below it.
  struct Node: Sendable {
    let function: PCIFunction
    /// What is directly below it, and for a physical function its virtual functions that are shown.
    var children: [Node] = []
    /// Its virtual functions that are not shown one by one.
    var foldedVFs: [PCIFunction] = []
  }

  /// A host bridge and what hangs off it.
  struct HostBridge: Sendable {
    let name: String
    /// The NUMA node of what is below it; nil where the system says none.
    let numaNode: Int?
    let nodes: [Node]
  }

  /// More virtual functions than these are folded, but for those that were named or are on VFIO.
  static let maximumUnfoldedVFs = 4

  let tree: PCITree
  /// The devices that were named, in the order given.
  let records: [DeviceRecord]
  /// Who of them can start transfers to whom.
  let reachability: Reachability
  /// The names of the devices on VFIO.
  let onVFIO: Set<String>
  /// The host bridges that have something to show, by name.
  let hostBridges: [HostBridge]
  /// How many functions are left out because nobody would look for them here.
  let leftOut: Int
  /// The position of each named device, by name.
  private let positions: [String: Int]
  /// The RDMA devices, by the address of their function.
  private let rdmaDevices: [String: [RDMADevice]]

  /// - Parameter all: leave nothing out and fold nothing.
  init(
    tree: PCITree, records: [DeviceRecord], reachability: Reachability, onVFIO: Set<String>, all: Bool
  ) {
    self.tree = tree
    self.records = records
    self.reachability = reachability
    self.onVFIO = onVFIO
    positions = Dictionary(
      records.enumerated().map { ("\($1.name)", $0) }, uniquingKeysWith: { first, _ in first })
    rdmaDevices = Dictionary(grouping: tree.rdmaDevices) { $0.function ?? "" }
    let chooser = Chooser(tree: tree, named: Set(positions.keys), onVFIO: onVFIO, all: all)
    hostBridges = tree.hostBridges.compactMap { name in
      let nodes = chooser.nodes(tree.roots(of: name))
      return nodes.isEmpty ? nil : HostBridge(name: name, numaNode: tree.numaNode(of: name), nodes: nodes)
    }
    leftOut = tree.functions.count - hostBridges.reduce(0) { $0 + $1.nodes.reduce(0) { $0 + $1.count } }
  }

  /// Where a function stands among the named devices; nil where it was not named.
  func position(of function: PCIFunction) -> Int? { positions[function.address] }

  /// The named devices that are no PCI functions of the tree, by position.
  var outside: [Int] { records.indices.filter { records[$0].address(in: tree) == nil } }

  /// The RDMA devices of a function.
  func rdma(of function: PCIFunction) -> [RDMADevice] { rdmaDevices[function.address] ?? [] }

  /// The ordered pairs of named devices.
  var pairs: [PeerOptions.Pair] {
    records.indices.flatMap { from in
      records.indices.filter { $0 != from }.map { PeerOptions.Pair(from: from, to: $0) }
    }
  }

  /// Whether the way back is of the same kind and place as the way there: a picture then has one line for both.
  func isBothWays(_ pair: PeerOptions.Pair) -> Bool {
    switch (reachability[pair.from, pair.to].path, reachability[pair.to, pair.from].path) {
    // The host bridges are named in the transfer's order.
    case (.redirected, .redirected): true
    case (let there, let back): there == back
    }
  }

  /// Where the ways of two named devices to the root complex meet.
  func commonAncestor(_ pair: PeerOptions.Pair) -> String? {
    guard let from = records[pair.from].address(in: tree), let to = records[pair.to].address(in: tree) else {
      return nil
    }
    return tree.commonAncestor(from, to)
  }
}

extension TopologyView.Node {
  /// How many functions this shows, the folded ones included.
  var count: Int { 1 + foldedVFs.count + children.reduce(0) { $0 + $1.count } }
}

/// Decides what is shown.
private struct Chooser {
  let tree: PCITree
  let named: Set<String>
  let onVFIO: Set<String>
  let all: Bool

  func nodes(_ functions: [PCIFunction]) -> [TopologyView.Node] {
    functions.filter { !isBelowItsPF($0) }.compactMap(node)
  }

  /// Virtual functions are listed with their physical function, wherever their bus number puts them.
  private func isBelowItsPF(_ function: PCIFunction) -> Bool {
    function.physicalFunction.map { tree[$0] != nil } ?? false
  }

  private func node(_ function: PCIFunction) -> TopologyView.Node? {
    var node = TopologyView.Node(function: function, children: nodes(tree.children(of: function.address)))
    let vfs = tree.virtualFunctions(of: function.address)
    for vf in vfs {
      if all || vfs.count <= TopologyView.maximumUnfoldedVFs || isWanted(vf) {
        node.children.append(TopologyView.Node(function: vf))
      } else {
        node.foldedVFs.append(vf)
      }
    }
    return all || !node.children.isEmpty || isWanted(function) || isOfInterest(function) ? node : nil
  }

  private func isWanted(_ function: PCIFunction) -> Bool {
    named.contains(function.address) || onVFIO.contains(function.address)
  }

  /// Whether somebody who looks for devices and their peers would miss it: ports with nothing below and the chipset's
  /// own parts are not missed.
  private func isOfInterest(_ function: PCIFunction) -> Bool {
    switch function.kind {
    case .rootPort, .switchUpstreamPort, .switchDownstreamPort, .bridge: return false
    case .endpoint: return true
    case .integrated, .conventional:
      // Memory controllers, bridges, system peripherals, signal processing; SMBus and its kin among serial buses.
      let (base, sub) = (function.classCode >> 16, function.classCode >> 8 & 0xff)
      return ![0x05, 0x06, 0x08, 0x11].contains(base) && !(base == 0x0c && sub == 0x05)
    }
  }
}
