// SPDX-License-Identifier: Apache-2.0

/// A place where a device's incoming traffic passes, and can be policed. See docs/throttling.md for which traffic passes
/// where.
public struct PolicePlace: Hashable, Sendable {
  /// The interface whose packets are looked at.
  public let interface: NetworkInterface
  /// On which side of it.
  public let hook: TrafficHook
  let match: PoliceRule.Match
  let hardwareOnly: Bool

  /// The egress of a representor: what the host's software sends to the function behind it. Every packet is limited, and
  /// what is within the rate goes on to the filters of others.
  public static func representor(_ interface: NetworkInterface) -> PolicePlace {
    PolicePlace(interface: interface, hook: .egress, match: .all, hardwareOnly: false)
  }

  /// The ingress of the uplink: what comes from the wire for a function, where the NIC's own switch takes it to the
  /// function without the host's software. The filter takes what is within the rate to the function itself (a NIC polices
  /// only where it also forwards), so filters of others would not see it; it is refused where there are any.
  /// - Parameters:
  ///   - uplink: the physical port's interface.
  ///   - address: the function's MAC address, six bytes. Packets with a VLAN tag or in a tunnel are not meant.
  ///   - representor: of the function.
  ///   - hardwareOnly: whether the kernel is to refuse the filter unless the NIC does it.
  public static func uplink(
    _ uplink: NetworkInterface, address: [UInt8], representor: NetworkInterface, hardwareOnly: Bool = true
  ) -> PolicePlace {
    precondition(address.count == 6, "a MAC address has six bytes")
    return PolicePlace(
      interface: uplink, hook: .ingress, match: .destination(address, redirect: representor.index),
      hardwareOnly: hardwareOnly)
  }

  /// Whether what is within the rate goes past the filters of others.
  var bypassesOthers: Bool { if case .destination = match { true } else { false } }
}

extension PolicePlace: CustomStringConvertible {
  public var description: String { "\(hook.rawValue) of \(interface.name)" }
}

/// What a police filter has done so far.
public struct PoliceReport: Hashable, Sendable {
  /// Where it is.
  public let place: PolicePlace
  /// The rate in force, bytes a second.
  public let rate: UInt64
  /// How many bytes came to it, in the host's software.
  public let bytes: UInt64
  /// How many packets of them it dropped; one packet of the host's stack may become several on the wire.
  public let drops: UInt32
  /// Whether hardware does it (the kernel's `in_hw`). Where not, only what passes the host's software is limited.
  public let isInHardware: Bool
  /// Whether it comes before the filters of others. Where not, they may take packets past it.
  public let comesFirst: Bool
}
