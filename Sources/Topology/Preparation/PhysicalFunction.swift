// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration

/// A function that can have virtual functions: of PCI, or one of the kernel's simulated NICs (netdevsim).
public struct PhysicalFunction: Hashable, Sendable {
  /// Its bus, `pci` or `netdevsim`.
  public let bus: String
  /// Its name there, such as `0000:3b:00.0`.
  public let name: String
  /// Its folder in sysfs.
  let folder: String

  /// Finds one by what an operator calls it: a PCI address, udev's path of it (`pci-0000:3b:00.0`), one of its network
  /// interfaces, or, as devlink writes them, `pci/0000:3b:00.0` and `netdevsim/netdevsim1`.
  public init(named text: String, root: SystemRoot = SystemRoot()) throws(PreparationError) {
    let shown = Attribute.harmless(text)
    func nothing(_ reason: String) -> PreparationError { PreparationError(device: shown, cause: .nothing(reason)) }
    let handle = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    let address = text.hasPrefix("pci-") || text.hasPrefix("pci/") ? String(text.dropFirst(4)) : text
    if case .pci(let address)? = DeviceName(address) {
      (bus, name) = ("pci", address)
    } else if handle.count == 2, handle[0] == "netdevsim", ThrottleRecord.isName(handle[1], most: 64) {
      (bus, name) = ("netdevsim", handle[1])
    } else if ThrottleRecord.isName(text, most: 15), Files.exists("\(root.sys)/class/net/\(text)") {
      let port = Attribute.text("\(root.sys)/class/net/\(text)/phys_port_name") ?? ""
      guard !port.hasPrefix("pf"), !port.hasPrefix("c") else {
        throw nothing(
          "it stands for a virtual function (\(port)): name the interface of the physical one, or its address")
      }
      guard let device = Files.resolved("\(root.sys)/class/net/\(text)/device"),
        let bus = Attribute.linkedName("\(device)/subsystem"), bus == "pci" || bus == "netdevsim"
      else { throw nothing("it is the interface of no PCI device") }
      (self.bus, name) = (bus, Attribute.harmless(Files.lastComponent(device)))
    } else {
      throw nothing("there is no such device: give a PCI address (0000:3b:00.0) or a network interface")
    }
    folder = "\(root.sys)/bus/\(bus)/devices/\(name)"
    guard Files.exists(folder) else { throw nothing("there is no such device") }
    if let physical = Attribute.linkedName("\(folder)/physfn") {
      throw nothing("it is a virtual function itself, of \(physical)")
    }
    guard Files.exists("\(folder)/sriov_numvfs") else {
      throw nothing(
        "it can have no virtual functions (no sriov_numvfs): SR-IOV is off in its firmware, or its driver is not bound")
    }
  }

  /// As devlink writes it.
  var handle: String { "\(bus)/\(name)" }

  /// Its own network interface; nil where it has none.
  var interface: NetworkInterface? { NetworkInterface.ofPhysicalFunction(folder) }

  /// The PCI address of a virtual function, by its number; nil where it is not there.
  func function(_ number: Int) -> String? {
    guard bus == "pci" else { return nil }
    return Files.link("\(folder)/virtfn\(number)").map(Files.lastComponent).flatMap { PCIAddress($0) == nil ? nil : $0 }
  }

  /// The PCI address that a virtual function has or, as far as the device says before it is there, will have.
  func expectedFunction(_ number: Int) -> String? {
    if let address = function(number) { return address }
    guard bus == "pci", let own = PCIAddress(name),
      let offset = Attribute.text("\(folder)/sriov_offset").flatMap({ Int($0) }), offset >= 0,
      let stride = Attribute.text("\(folder)/sriov_stride").flatMap({ Int($0) }), stride >= 0, number < 1 << 16,
      offset < 1 << 16, stride < 1 << 16
    else { return nil }
    // Bus, device and function are one number of 16 bits, to which the standard adds.
    let routing = own.bus << 8 | own.device << 3 | own.function
    let sum = routing + offset + stride * number
    guard sum < 1 << 16 else { return nil }
    func hex(_ value: Int) -> String { (value < 16 ? "0" : "") + String(value, radix: 16) }
    let segment = name.split(separator: ":")[0]
    return "\(segment):\(hex(sum >> 8)):\(hex(sum >> 3 & 31)).\(sum & 7)"
  }
}

extension PhysicalFunction: CustomStringConvertible {
  public var description: String { bus == "pci" ? name : handle }
}
