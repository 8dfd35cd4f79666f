// SPDX-License-Identifier: Apache-2.0

/// What each function is: its port type says so where it can be read, and the shape of the tree where not.
enum PCIKinds {
  /// Sets every function's kind. What is above comes before what is below, since bus numbers grow downwards.
  static func assign(_ found: inout [PCIScanner.Found]) {
    let hasExpress = found.contains { $0.isExpress }
    var conventionalBelow: Set<String> = []
    for item in found where !item.isExpress { item.function.parent.map { _ = conventionalBelow.insert($0) } }
    var kinds: [String: PCIFunction.Kind] = [:]
    // Bus numbers that a broken firmware gave in another order must not decide: so by depth, not by number.
    var pending = Array(found.indices)
    while !pending.isEmpty {
      let ready = pending.filter { index in
        let parent = found[index].function.parent
        return parent == nil || kinds[parent!] != nil || !found.contains { $0.function.address == parent }
      }
      // A ring of parents, which no file system has.
      guard !ready.isEmpty else { return }
      for index in ready {
        let item = found[index]
        let kind = kind(
          of: item, below: item.function.parent.flatMap { kinds[$0] },
          inExpressSystem: hasExpress,
          hasConventionalBelow: conventionalBelow.contains(item.function.address))
        kinds[item.function.address] = kind
        found[index].function.kind = kind
      }
      let done = Set(ready)
      pending.removeAll { done.contains($0) }
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
