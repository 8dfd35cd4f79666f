// SPDX-License-Identifier: Apache-2.0

/// A host's PCI tree as a text says it, one function a line; see the files in Descriptions.
///
///     iommu on                                     or off
///     host pci0000:10 node=0                       a host bridge; what is indented below hangs off it
///       10:01.0 root-port acs=sv,rr link=32.0x16   two spaces for each level
///         11:00.0 endpoint id=15b3:1021 bars=0:32Mp,4:32io
///     rdma mlx5_0 at=11:00.0 firmware=28.41.1000 port1=active,ethernet,GID,GID
///     rdma rxe0 software port1=active,ethernet
///
/// Kinds: root-port, upstream, downstream, bridge, endpoint, integrated, conventional. Options: `id=`, `class=`,
/// `driver=`, `group=`, `node=`, `vfio=` (its number in /dev/vfio/devices), `bars=` (index:size with K, M, G, then p for
/// prefetchable or io), `link=` (GT/s x lanes), `acs=` (controls that are on, or off; absent: no such capability), `ats=`
/// (on, off; absent: no such capability), `vf-of=`, and the words `sriov`, `relaxed`, `ido-requests`, `ido-completions`
/// and `pcie` (an integrated function that has a PCI Express capability). A segment of 0000 may be left out.
public struct HostDescription: Sendable {
  /// A function's kind, as the text spells it.
  public enum Kind: String, Sendable {
    case rootPort = "root-port"
    case upstream, downstream, bridge, endpoint, integrated, conventional

    var isBridge: Bool { self == .rootPort || self == .upstream || self == .downstream || self == .bridge }
    /// Its number in the PCI Express capability.
    var portType: UInt16 {
      switch self {
      case .endpoint, .conventional: 0
      case .rootPort: 4
      case .upstream: 5
      case .downstream: 6
      case .bridge: 7
      case .integrated: 9
      }
    }
    /// What may be above it; nil stands for a host bridge.
    var parents: [Kind?] {
      switch self {
      case .rootPort, .integrated: [nil]
      case .upstream: [.rootPort, .downstream]
      case .downstream: [.upstream]
      case .bridge: [nil, .rootPort, .downstream]
      case .endpoint: [nil, .rootPort, .downstream]
      case .conventional: [nil, .bridge]
      }
    }
  }

  /// A base address register.
  public struct BAR: Sendable {
    var index: Int
    var size: UInt64
    var isIO: Bool
    var isPrefetchable: Bool
  }

  /// A line of the tree.
  public struct Function: Sendable {
    public var address: String
    public var kind: Kind
    public var hostBridge: String
    public var parent: String?
    var vendor: UInt16 = 0x1af4
    var device: UInt16 = 0x0001
    var classCode: UInt32 = 0
    public var driver: String?
    public var group: Int?
    public var node: Int?
    var vfio: Int?
    var bars: [BAR] = []
    var link: (speed: String, width: Int)?
    var accessControl: UInt16?
    var addressTranslation: Bool?
    public var physicalFunction: String?
    var isSRIOV = false
    var isRelaxed = false
    var hasIDORequests = false
    var hasIDOCompletions = false
    var hasExpressCapability: Bool

    var bus: Int { Int(address.dropFirst(5).prefix(2), radix: 16)! }
    var segment: Substring { address.prefix(4) }
  }

  /// An RDMA device's port.
  public struct Port: Sendable {
    var number: Int
    var state: String
    var linkLayer: String
    var gids: [String]
  }

  /// An RDMA device.
  public struct RDMA: Sendable {
    var name: String
    var function: String?
    var firmware: String?
    var ports: [Port]
  }

  /// What is wrong with a description, and where.
  public struct Mistake: Error, CustomStringConvertible {
    public var line: Int
    public var what: String
    public var description: String { "line \(line): \(what)" }
  }

  /// The functions, in the order of their lines.
  public private(set) var functions: [Function] = []
  /// The RDMA devices, in the order of their lines.
  public private(set) var rdma: [RDMA] = []
  var hasIOMMU = false
  private var hosts: Set<String> = []
  private var host: (name: String, node: Int?)?
  /// The functions above the next line, outermost first.
  private var above: [Function] = []

  /// Reads a description.
  public init(_ text: String) throws {
    for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      let spaces = line.prefix { $0 == " " }.count
      let words = line.dropFirst(spaces).split(separator: " ").map(String.init)
      guard let first = words.first, !first.hasPrefix("#") else { continue }
      do {
        switch first {
        case "iommu": hasIOMMU = try Self.choice(words.dropFirst().joined(separator: " "), ["on": true, "off": false])
        case "host": try readHost(words)
        case "rdma": try readRDMA(words)
        default: try readFunction(words, indentation: spaces)
        }
      } catch let problem as Problem {
        throw Mistake(line: number + 1, what: problem.what)
      }
    }
    for physical in functions.compactMap(\.physicalFunction) {
      let index = functions.firstIndex { $0.address == physical }!
      functions[index].isSRIOV = true
    }
  }

  /// The functions whose parent that is.
  func children(of address: String) -> [Function] { functions.filter { $0.parent == address } }
}

extension HostDescription {
  struct Problem: Error { var what: String }

  private static func choice<T>(_ word: String, _ choices: [String: T]) throws -> T {
    guard let value = choices[word] else {
      throw Problem(what: "\"\(word)\" is none of \(choices.keys.sorted().joined(separator: ", "))")
    }
    return value
  }

  private static func number<T: FixedWidthInteger>(_ text: some StringProtocol, radix: Int = 10) throws -> T {
    guard let value = T(text, radix: radix) else { throw Problem(what: "\"\(text)\" is no number") }
    return value
  }

  private static func option(_ word: String) -> (name: String, value: String) {
    let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    return (String(parts[0]), parts.count == 2 ? String(parts[1]) : "")
  }

  static func address(_ text: String) throws -> String {
    let full = text.count == 7 ? "0000:" + text : text
    let shape = full.map { $0.isHexDigit && !$0.isUppercase ? "h" : $0 }
    guard String(shape) == "hhhh:hh:hh.h" else { throw Problem(what: "\"\(text)\" is no PCI address") }
    return full
  }

  private mutating func readHost(_ words: [String]) throws {
    guard words.count >= 2, words[1].hasPrefix("pci"), words[1].count == 10 else {
      throw Problem(what: "a host bridge is \"host pciSSSS:BB\"")
    }
    guard hosts.insert(words[1]).inserted else { throw Problem(what: "\(words[1]) is there already") }
    var node: Int?
    for word in words.dropFirst(2) {
      let (name, value) = Self.option(word)
      guard name == "node" else { throw Problem(what: "what is \"\(word)\"?") }
      node = try Self.number(value)
    }
    host = (words[1], node)
    above = []
  }

  private mutating func readFunction(_ words: [String], indentation: Int) throws {
    let address = try Self.address(words[0])
    guard let host else { throw Problem(what: "\(address) comes before the first host bridge") }
    guard words.count > 1, let kind = Kind(rawValue: words[1]) else {
      throw Problem(what: "\(address) is of no kind that is known")
    }
    let level = indentation / 2 - 1
    guard indentation >= 2, indentation % 2 == 0, level <= above.count else {
      throw Problem(what: "\(address) is indented by \(indentation) spaces, which is no level below the line above")
    }
    above.removeSubrange(level...)
    let parent = above.last
    guard kind.parents.contains(parent?.kind) else {
      throw Problem(
        what: "there is no \(kind.rawValue) directly below \(parent.map { "a \($0.kind.rawValue)" } ?? "a host bridge")"
      )
    }
    guard !functions.contains(where: { $0.address == address }) else {
      throw Problem(what: "\(address) is there already")
    }
    var function = Function(
      address: address, kind: kind, hostBridge: host.name, parent: parent?.address, node: host.node,
      hasExpressCapability: kind != .conventional && kind != .integrated)
    guard function.segment == host.name.dropFirst(3).prefix(4) else {
      throw Problem(what: "\(address) is not of \(host.name)'s segment")
    }
    if let parent, function.bus <= parent.bus { throw Problem(what: "\(address) has no bus below \(parent.address)'s") }
    if kind.isBridge { function.classCode = 0x060400 }
    for word in words.dropFirst(2) { try read(word, into: &function) }
    functions.append(function)
    above.append(function)
  }

  private func read(_ word: String, into function: inout Function) throws {
    let (name, value) = Self.option(word)
    switch name {
    case "id":
      let parts = value.split(separator: ":")
      guard parts.count == 2 else { throw Problem(what: "\"\(word)\": an identity is vendor:device") }
      function.vendor = try Self.number(parts[0], radix: 16)
      function.device = try Self.number(parts[1], radix: 16)
    case "class": function.classCode = try Self.number(value.dropFirst(2), radix: 16)
    case "driver": function.driver = value
    case "group": function.group = try Self.number(value)
    case "node": function.node = try Self.number(value)
    case "vfio": function.vfio = try Self.number(value)
    case "bars": function.bars = try value.split(separator: ",").map(Self.bar)
    case "link":
      let parts = value.split(separator: "x")
      guard parts.count == 2 else { throw Problem(what: "\"\(word)\": a link is speed x lanes") }
      function.link = (String(parts[0]), try Self.number(parts[1]))
    case "acs":
      let bits: [String: UInt16] = ["sv": 1, "tb": 2, "rr": 4, "cr": 8, "uf": 16, "ec": 32, "dt": 64, "off": 0]
      function.accessControl = try value.split(separator: ",").reduce(0) { $0 | (try Self.choice(String($1), bits)) }
    case "ats": function.addressTranslation = try Self.choice(value, ["on": true, "off": false])
    case "vf-of":
      let physical = try Self.address(value)
      guard functions.contains(where: { $0.address == physical && $0.parent == function.parent }) else {
        throw Problem(what: "\(function.address)'s physical function \(physical) is not above, below the same port")
      }
      function.physicalFunction = physical
    case "sriov": function.isSRIOV = true
    case "relaxed": function.isRelaxed = true
    case "ido-requests": function.hasIDORequests = true
    case "ido-completions": function.hasIDOCompletions = true
    case "pcie": function.hasExpressCapability = true
    default: throw Problem(what: "what is \"\(word)\"?")
    }
  }

  private static func bar(_ text: Substring) throws -> BAR {
    let parts = text.split(separator: ":")
    guard parts.count == 2, let index = Int(parts[0]), (0...5).contains(index) else {
      throw Problem(what: "\"\(text)\": a BAR is index:size, with an index of 0 to 5")
    }
    let digits = parts[1].prefix { $0.isNumber }
    var rest = parts[1].dropFirst(digits.count)
    var size: UInt64 = try number(digits)
    if let unit = rest.first, let shift = ["K": 10, "M": 20, "G": 30][unit] {
      size <<= UInt64(shift)
      rest.removeFirst()
    }
    guard ["", "p", "io"].contains(rest), size.nonzeroBitCount == 1 else {
      throw Problem(what: "\"\(text)\": a BAR's size is a power of two with K, M or G, then p or io")
    }
    return BAR(index: index, size: size, isIO: rest == "io", isPrefetchable: rest == "p")
  }

  private mutating func readRDMA(_ words: [String]) throws {
    guard words.count > 2 else {
      throw Problem(what: "an RDMA device is \"rdma NAME at=ADDRESS\" or \"rdma NAME software\"")
    }
    var device = RDMA(name: words[1], ports: [])
    for word in words.dropFirst(2) {
      let (name, value) = Self.option(word)
      switch name {
      case "at":
        let address = try Self.address(value)
        guard functions.contains(where: { $0.address == address }) else {
          throw Problem(what: "there is no \(address)")
        }
        device.function = address
      case "software": device.function = nil
      case "firmware": device.firmware = value
      case _ where name.hasPrefix("port"):
        let parts = value.split(separator: ",").map(String.init)
        guard parts.count >= 2 else { throw Problem(what: "\"\(word)\": a port is state,layer,GID…") }
        device.ports.append(
          Port(
            number: try Self.number(name.dropFirst(4)),
            state: try Self.choice(parts[0], ["active": "4: ACTIVE", "down": "1: DOWN", "init": "2: INIT"]),
            linkLayer: try Self.choice(parts[1], ["ethernet": "Ethernet", "infiniband": "InfiniBand"]),
            gids: Array(parts.dropFirst(2))))
      default: throw Problem(what: "what is \"\(word)\"?")
      }
    }
    rdma.append(device)
  }
}
