// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
public import Migration

/// The host's end of a virtual function's connection to the NIC's switch, as sysfs has it: a network interface, which is
/// there while the switch is in switchdev mode.
public struct Representor: Hashable, Sendable {
  /// The representor: what the host sends out of it, the function receives.
  public var interface: NetworkInterface
  /// The physical port of the same switch; nil where sysfs shows none.
  public var uplink: NetworkInterface?
}

/// A virtual function's place: which function of which physical function it is.
public struct VirtualFunctionPlace: Hashable, Sendable {
  /// The PCI address of the physical function.
  public var physicalFunction: String
  /// The function's number there, from 0.
  public var number: Int

  /// Finds the place of a function by its PCI address; nil for what is no virtual function.
  public init?(_ address: String, root: SystemRoot = SystemRoot()) {
    let devices = "\(root.sys)/bus/pci/devices"
    guard PCIAddress(address) != nil,
      let physical = Files.link("\(devices)/\(address)/physfn").map(Files.lastComponent),
      PCIAddress(physical) != nil
    else { return nil }
    let number = Files.names(in: "\(devices)/\(physical)").lazy.compactMap { name -> Int? in
      guard name.hasPrefix("virtfn"), let number = Int(name.dropFirst(6)), number >= 0, number <= Int(UInt16.max),
        Files.link("\(devices)/\(physical)/\(name)").map(Files.lastComponent) == address
      else { return nil }
      return number
    }.first
    guard let number else { return nil }
    physicalFunction = physical
    self.number = number
  }
}

extension Representor {
  /// Finds the representor of a function.
  ///
  /// Drivers name it in `phys_port_name` as `pf0vf3`. Those that hang it on the physical function (mlx5, ice) leave no
  /// doubt about whose it is; otherwise it has to be of the same switch, and the name's first number the physical
  /// function's own. A function of another host, on a NIC that several share, is named `c1pf0vf3` and is not meant.
  /// - Throws: why there is none, and what to do about it.
  public static func find(
    of address: String, root: SystemRoot = SystemRoot()
  ) throws(RateLimiterError) -> Representor {
    func refusal(_ reason: String) -> RateLimiterError {
      RateLimiterError(
        device: Attribute.harmless(address), kind: .police, operation: "finding the representor",
        subject: "\(root.sys)/class/net",
        cause: .refused(reason))
    }
    guard let place = VirtualFunctionPlace(address, root: root) else {
      throw refusal("it is no virtual function of a NIC, and only those have one")
    }
    let ports = SwitchPort.all(root: root)
    let own = ports.filter { $0.device == place.physicalFunction }
    guard let identity = own.first?.identity else {
      throw refusal(
        "the switch of \(place.physicalFunction) is not in switchdev mode: "
          + "devlink dev eswitch set pci/\(place.physicalFunction) mode switchdev")
    }
    let sameSwitch = ports.filter { $0.identity == identity }
    let function = PCIAddress(place.physicalFunction)?.function
    var found = own.filter { $0.function?.number == place.number }
    if found.isEmpty {
      found = sameSwitch.filter { $0.function?.number == place.number && $0.function?.physical == function }
    }
    guard let first = found.first else {
      throw refusal("no interface of the switch of \(place.physicalFunction) is named \"pfNvf\(place.number)\"")
    }
    guard found.count == 1 else {
      throw refusal("\(found.map(\.interface.name).joined(separator: ", ")) all claim to be it")
    }
    return Representor(interface: first.interface, uplink: own.first { $0.isPhysical }?.interface)
  }
}

/// A network interface that is a port of a switch.
private struct SwitchPort {
  var interface: NetworkInterface
  /// The PCI function that it hangs on, by its address.
  var device: String?
  /// The switch's identity, the same for all its ports.
  var identity: String
  /// The virtual function that it stands for.
  var function: (physical: Int, number: Int)?
  /// Whether it is a physical port, named `p0`.
  var isPhysical: Bool

  static func all(root: SystemRoot) -> [SwitchPort] {
    Files.names(in: "\(root.sys)/class/net").compactMap { name in
      let folder = "\(root.sys)/class/net/\(name)"
      // Reading fails for what is no port of a switch.
      guard ThrottleRecord.isName(name, most: 15), let identity = Attribute.text("\(folder)/phys_switch_id"),
        !identity.isEmpty,
        let index = Attribute.text("\(folder)/ifindex").flatMap({ Int32($0) }), index > 0
      else { return nil }
      let portName = Attribute.text("\(folder)/phys_port_name") ?? ""
      var port = SwitchPort(
        interface: NetworkInterface(name: name, index: index), device: Attribute.linkedName("\(folder)/device"),
        identity: identity, isPhysical: false)
      let parts = portName.dropFirst(2).split(separator: "v", omittingEmptySubsequences: false)
      if portName.hasPrefix("pf"), parts.count == 2, parts[1].hasPrefix("f"), let physical = decimal(parts[0]),
        let number = decimal(parts[1].dropFirst())
      {
        port.function = (physical, number)
      } else if portName.hasPrefix("p"), decimal(portName.dropFirst()) != nil {
        port.isPhysical = true
      }
      return port
    }
  }

  /// A number with no sign.
  private static func decimal(_ text: Substring) -> Int? {
    text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } ? Int(text) : nil
  }
}
