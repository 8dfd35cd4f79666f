// SPDX-License-Identifier: Apache-2.0

/// What each function is: its port type says so where it can be read, and the shape of the tree where not.
enum PCIKinds {
  /// Sets every function's kind, from the top down: what is above has its kind before what is below it. Bus numbers don't
  /// decide that, since a broken firmware may give them in any order.
  static func assign(_ found: inout [PCIScanner.Found]) {
    let hasExpress = found.contains { $0.isExpress }
    let addresses = Set(found.map(\.function.address))
    var below: [String: [Int]] = [:]
    var conventionalBelow: Set<String> = []
    // What is in a ring of parents, which no file system has, is never reached.
    var reached: [(index: Int, parent: PCIFunction.Kind?)] = []
    for (index, item) in found.enumerated() {
      guard let parent = item.function.parent, addresses.contains(parent) else {
        reached.append((index, nil))
        continue
      }
      below[parent, default: []].append(index)
      if !item.isExpress { conventionalBelow.insert(parent) }
    }
    var next = 0
    while next < reached.count {
      let (index, parent) = reached[next]
      let address = found[index].function.address
      let kind = kind(
        of: found[index], below: parent, inExpressSystem: hasExpress,
        hasConventionalBelow: conventionalBelow.contains(address))
      found[index].function.kind = kind
      reached += (below[address] ?? []).map { ($0, kind) }
      next += 1
    }
  }

  private static func kind(
    of item: PCIScanner.Found, below parent: PCIFunction.Kind?, inExpressSystem: Bool, hasConventionalBelow: Bool
  ) -> PCIFunction.Kind {
    let isOnRootBus = item.function.parent == nil
    // The port types of the PCI Express capabilities register, PCI_EXP_TYPE_… in C.
    switch item.portType {
    case 0x0, 0x1: return .endpoint
    case 0x4: return .rootPort
    case 0x5: return .switchUpstreamPort
    case 0x6: return .switchDownstreamPort
    case 0x7, 0x8: return .bridge
    case 0x9, 0xa: return .integrated
    default: break
    }
    if item.isExpress && item.isBridge {
      if isOnRootBus { return .rootPort }
      if parent == .switchUpstreamPort { return .switchDownstreamPort }
      return hasConventionalBelow ? .bridge : .switchUpstreamPort
    }
    if item.isBridge { return .bridge }
    if isOnRootBus {
      // Where there are links, a root bus is no bus but the inside of the root complex; and the host bridge is that
      // anywhere.
      let isHostBridge = item.function.classCode >> 8 == 0x0600
      return item.isExpress || inExpressSystem || isHostBridge ? .integrated : .conventional
    }
    return item.isExpress || parent == .rootPort || parent == .switchDownstreamPort ? .endpoint : .conventional
  }
}
