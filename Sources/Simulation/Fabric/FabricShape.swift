// SPDX-License-Identifier: Apache-2.0

/// How a PCIe fabric is built: a tree with the root complex (processors, memory, IOMMU) as node 0.
///
/// A node's link leads to its parent, and so does the port above it: a link to node 0 is a root port's. A device of
/// several functions (a PF and its VFs) is a node of its own with its functions below, on links that take no time.
struct FabricShape: Hashable, Sendable {
  /// What a node is.
  enum Kind: Hashable, Sendable {
    /// Node 0.
    case rootComplex
    /// Packets turn here when the ports let them.
    case `switch`
    /// A device with several functions below.
    case multifunction
    /// Where packets come from and go to.
    case function
  }

  /// One link, the same in both directions.
  struct Link: Hashable, Sendable {
    /// Microseconds from one end to the other.
    var delay: UInt64
    /// A packet may be held up by so many more microseconds, by chance; those that may pass it then do.
    var spread: UInt64
    /// Words that it carries in a microsecond; 0 is without limit.
    var wordsPerMicrosecond: UInt64

    init(delay: UInt64 = 1, spread: UInt64 = 0, wordsPerMicrosecond: UInt64 = 0) {
      self.delay = delay
      self.spread = spread
      self.wordsPerMicrosecond = wordsPerMicrosecond
    }

    /// Inside a device: no time at all.
    static let inside = Link(delay: 0)

    /// Whether every packet is through at once.
    var isInside: Bool { delay == 0 && spread == 0 && wordsPerMicrosecond == 0 }
  }

  /// What the port above a node makes of packets that come up and could turn there (ACS).
  struct AccessControl: OptionSet, Hashable, Sendable {
    let rawValue: UInt8
    /// Requests go on to the root (P2P Request Redirect).
    static let requestRedirect = AccessControl(rawValue: 1 << 0)
    /// Completions go on to the root (P2P Completion Redirect).
    static let completionRedirect = AccessControl(rawValue: 1 << 1)
    /// Translated requests turn all the same (Direct Translated P2P).
    static let directTranslated = AccessControl(rawValue: 1 << 2)
    /// What Linux sets.
    static let redirect: AccessControl = [.requestRedirect, .completionRedirect]
  }

  /// What of a function's is sent with ID-based ordering (Device Control 2).
  struct IDOrdering: OptionSet, Hashable, Sendable {
    let rawValue: UInt8
    /// Its requests.
    static let requests = IDOrdering(rawValue: 1 << 0)
    /// Its completions.
    static let completions = IDOrdering(rawValue: 1 << 1)
  }

  /// One node.
  struct Node: Hashable, Sendable {
    /// What it is.
    let kind: Kind
    /// The node above; node 0 has itself.
    let parent: Int
    /// The link to the node above.
    let link: Link
    /// What the port above does.
    let accessControl: AccessControl
    /// How its own packets are ordered.
    let idOrdering: IDOrdering
    /// The node at which its driver's commands enter, and from which they are answered: its own, or its PF's.
    let control: Int
  }

  /// All nodes by number. A node's parent has a smaller number.
  private(set) var nodes = [
    Node(kind: .rootComplex, parent: 0, link: .inside, accessControl: [], idOrdering: [], control: 0)
  ]

  /// A root complex with nothing below.
  init() {}

  /// Adds a switch. - Returns: its number.
  mutating func addSwitch(under parent: Int, _ link: Link, accessControl: AccessControl = []) -> Int {
    add(.switch, under: parent, link, accessControl)
  }

  /// Adds a device that has several functions. - Returns: its number.
  mutating func addMultifunction(under parent: Int, _ link: Link, accessControl: AccessControl = []) -> Int {
    add(.multifunction, under: parent, link, accessControl)
  }

  /// Adds a function. - Parameter control: the node that its driver's commands go through; nil is its own.
  /// - Returns: its number.
  mutating func addFunction(
    under parent: Int, _ link: Link, accessControl: AccessControl = [], idOrdering: IDOrdering = [],
    control: Int? = nil
  ) -> Int {
    add(.function, under: parent, link, accessControl, idOrdering, control)
  }

  private mutating func add(
    _ kind: Kind, under parent: Int, _ link: Link, _ accessControl: AccessControl, _ idOrdering: IDOrdering = [],
    _ control: Int? = nil
  ) -> Int {
    precondition(nodes.indices.contains(parent) && nodes[parent].kind != .function)
    precondition(control.map { nodes.indices.contains($0) && nodes[$0].kind == .function } ?? true)
    let number = nodes.count
    nodes.append(
      Node(
        kind: kind, parent: parent, link: link, accessControl: accessControl, idOrdering: idOrdering,
        control: control ?? number))
    return number
  }

  /// The ways down: by node and target, the child that the target is in or is; -1 where it is not below.
  func waysDown() -> [Int32] {
    var ways = [Int32](repeating: -1, count: nodes.count * nodes.count)
    for target in nodes.indices.dropFirst() {
      var child = target
      while child != 0 {
        ways[nodes[child].parent * nodes.count + target] = Int32(child)
        child = nodes[child].parent
      }
    }
    return ways
  }
}
