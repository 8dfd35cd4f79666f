// SPDX-License-Identifier: Apache-2.0

/// Where an access goes that a device starts.
enum AccessDestination: Hashable, Sendable {
  /// To the root, which translates the address when the access arrives there: by then the mapping may be another.
  case root
  /// To a function, at an address behind its BAR.
  case peer(node: Int, address: UInt64)

  /// The node that the packet is sent to.
  var node: Int {
    switch self {
    case .root: 0
    case .peer(let node, _): node
    }
  }
}

extension IOMMU {
  /// Where an address leads that the function at a node uses.
  ///
  /// A peer's BAR is found at once, because it decides the way that the packet takes. Everything else goes to the root: memory,
  /// and what leads nowhere, which is a fault there. A run of words goes where its first word goes.
  func destination(of address: UInt64, from node: Int) -> AccessDestination {
    guard let domain = domain(of: node),
      case .peer(let peer, let page) = target(Page.number(address), in: domain)
    else { return .root }
    return .peer(node: peer, address: Page.address(page) + address % Page.bytes)
  }
}
