// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration

/// A network interface.
public struct NetworkInterface: Hashable, Sendable {
  /// Its name, which may change.
  public var name: String
  /// Its number, which does not while it exists.
  public var index: Int32

  /// An interface by name and number.
  public init(name: String, index: Int32) {
    self.name = name
    self.index = index
  }

  /// A physical function's own, that is no representor of a virtual one; nil where it has none.
  /// - Parameter folder: the function's in sysfs.
  static func ofPhysicalFunction(_ folder: String) -> NetworkInterface? {
    let name = Files.names(in: "\(folder)/net").first { name in
      !(Attribute.text("\(folder)/net/\(name)/phys_port_name") ?? "").hasPrefix("pf")
    }
    guard let name, let index = Attribute.text("\(folder)/net/\(name)/ifindex").flatMap({ Int32($0) }) else {
      return nil
    }
    return NetworkInterface(name: name, index: index)
  }
}

/// A request over netlink that the kernel refused.
struct NetlinkError: Error, Hashable {
  let errno: ErrorNumber
  /// What the kernel said besides; empty where it said nothing.
  let words: String
}

/// Where traffic control looks at an interface's packets.
public enum TrafficHook: String, Hashable, Sendable {
  /// Packets that come in to the host through the interface.
  case ingress
  /// Packets that the host sends out through it.
  case egress
}

/// The qdisc that holds an interface's hooks, `clsact` or `ingress`.
struct HookHolder: Hashable {
  var kind: String
  /// Whether its filters are in a block that other interfaces share.
  var isShared: Bool
}

/// Sixteen bytes on an action (`TCA_ACT_COOKIE`), of which the first eight say that vfio-ferry made it and the others are
/// random: whoever knows them all knows that the filter is its own.
struct Cookie: Hashable {
  let bytes: [UInt8]

  static let size = 16
  private static let mark = Array("vfioferr".utf8)
  /// What no filter carries.
  static let nobodys = Cookie(bytes: mark + [UInt8](repeating: 0, count: size - mark.count))!

  init?(bytes: [UInt8]) {
    guard bytes.count == Self.size else { return nil }
    self.bytes = bytes
  }

  static func random() -> Cookie {
    var generator = SystemRandomNumberGenerator()
    let rest = (mark.count..<size).map { _ in UInt8.random(in: 0...255, using: &generator) }
    return Cookie(bytes: mark + rest)!
  }
}

/// What is at a hook.
struct HookSurvey: Hashable {
  /// A filter that was found by its cookie.
  struct Own: Hashable {
    var kind: String
    var preference: UInt16
    /// `tcm_info` and `tcm_handle`, by which the kernel finds it.
    var info: UInt32
    var handle: UInt32
    var inHardware: Bool
    /// The number of its police action.
    var police: UInt32
    /// Bytes a second.
    var rate: UInt64
    /// Bytes that came to it, and packets of them that it dropped.
    var bytes: UInt64
    var drops: UInt32
  }

  var own: Own?
  /// How many filters of others there are.
  var others: Int
  /// How many there are that this program made for another limiter.
  var kin: Int
  /// The first preference that is free.
  var freePreference: UInt16
  /// The first preference that a filter of others has; nil where there is none.
  var firstOther: UInt16?
}

/// What a police action lets through.
struct PoliceRate: Hashable {
  var bytesPerSecond: UInt64
  var cookie: Cookie

  /// How much may come at once.
  ///
  /// An action only ever lets through what fits in its bucket, so the bucket has to hold the largest packet that the host's
  /// stack makes: 512 KiB and the headers of its segments, with BIG TCP. And it has to hold what comes while no packet is
  /// looked at, or the rate is never reached: twenty milliseconds reach it (docs/throttling.md has the figures), and are
  /// little beside a round of pre-copy.
  var burst: UInt64 { max(640 << 10, bytesPerSecond / 50) }
}

/// A filter with a police action that drops what is over the rate.
struct PoliceRule: Hashable {
  /// For which packets.
  enum Match: Hashable {
    /// Every packet. What is within the rate goes on to the filters after this one.
    case all
    /// Packets to a MAC address. What is within the rate leaves through that interface, and other filters don't see it.
    case destination([UInt8], redirect: Int32)
  }

  var match: Match
  /// Whether the kernel is to refuse it unless hardware does it (`TCA_CLS_FLAGS_SKIP_SW`).
  var hardwareOnly: Bool
  var rate: PoliceRate
}

/// A devlink port: a connection of a switch, behind which a function is.
public struct DevlinkPort: Hashable, Sendable {
  /// The bus of the device that devlink knows the switch by, such as `pci`.
  public var bus: String
  /// That device, such as `0000:3b:00.0`.
  public var device: String
  /// The port's number at that device.
  public var number: UInt32

  /// A port by its names, as the `devlink` tool writes them between slashes.
  public init(bus: String, device: String, number: UInt32) {
    self.bus = bus
    self.device = device
    self.number = number
  }
}

extension DevlinkPort: CustomStringConvertible {
  public var description: String { "\(bus)/\(device)/\(number)" }
}

/// What limiters ask of the kernel. Tests put a fake behind it for failures that a kernel can't be made to show.
protocol NetworkControl: Sendable {
  /// The qdisc that holds an interface's hooks; nil where it has none.
  func hooks(of interface: Int32) throws(NetlinkError) -> HookHolder?
  /// EEXIST where the interface has such a qdisc, of either kind.
  func addClsact(to interface: Int32) throws(NetlinkError)
  func removeClsact(from interface: Int32) throws(NetlinkError)
  func survey(_ hook: TrafficHook, of interface: Int32, for cookie: Cookie) throws(NetlinkError) -> HookSurvey
  /// EEXIST or EINVAL where the preference is taken.
  func add(_ rule: PoliceRule, at hook: TrafficHook, of interface: Int32, preference: UInt16) throws(NetlinkError)
  func remove(_ filter: HookSurvey.Own, at hook: TrafficHook, of interface: Int32) throws(NetlinkError)
  /// Gives a police action another rate, at one stroke.
  /// - Parameter redirects: whether what is within the rate goes on to the filter's next action, as in a rule for
  ///   ``PoliceRule/Match/destination(_:redirect:)``, or to other filters.
  func replace(police number: UInt32, with rate: PoliceRate, redirects: Bool) throws(NetlinkError)

  /// The number of the port that a virtual function of this host is behind; ENOENT where there is none.
  func port(ofFunction number: UInt16, bus: String, device: String) throws(NetlinkError) -> UInt32
  /// The most that the function behind a port may send, bytes a second; 0 is no limit.
  func rate(of port: DevlinkPort) throws(NetlinkError) -> UInt64
  func setRate(of port: DevlinkPort, _ bytesPerSecond: UInt64) throws(NetlinkError)
}
