// SPDX-License-Identifier: Apache-2.0

/// The bytes of a function's configuration space, laid out as the PCI specifications say.
struct ConfigurationSpace {
  private(set) var bytes: [UInt8]

  /// Where the PCI Express capability is; power management comes before it in the chain.
  static let express = 0x60

  init(_ function: HostDescription.Function, in host: HostDescription) {
    bytes = [UInt8](repeating: 0, count: function.hasExpressCapability ? 4096 : 256)
    // A virtual function's own registers say neither vendor nor device.
    let isVirtual = function.physicalFunction != nil
    put(isVirtual ? 0xffff : function.vendor, at: 0x00)
    put(isVirtual ? 0xffff : function.device, at: 0x02)
    put(isVirtual ? 0x0004 : 0x0006, at: 0x04)
    put(0x0010, at: 0x06)
    for byte in 0..<3 { bytes[0x09 + byte] = UInt8(truncatingIfNeeded: function.classCode >> (8 * UInt32(byte))) }
    if function.kind.isBridge {
      bytes[0x0e] = 1
      let below = descendants(of: function, in: host).map(\.bus)
      bytes[0x18] = UInt8(function.bus)
      bytes[0x19] = UInt8(below.min() ?? function.bus)
      bytes[0x1a] = UInt8(below.max() ?? function.bus)
    }
    bytes[0x34] = 0x40
    put(0x0001 | (function.hasExpressCapability ? UInt16(Self.express) << 8 : 0), at: 0x40)
    guard function.hasExpressCapability else { return }
    put(0x0010, at: Self.express)
    put(0x0002 | function.kind.portType << 4, at: Self.express + 0x02)
    // A virtual function's controls are reserved: what its physical function has counts for it.
    put(function.isRelaxed ? 0x0010 : 0, at: Self.express + 0x08)
    put((function.hasIDORequests ? 0x0100 : 0) | (function.hasIDOCompletions ? 0x0200 : 0), at: Self.express + 0x28)
    putExtended(function, in: host)
  }

  private mutating func putExtended(_ function: HostDescription.Function, in host: HostDescription) {
    var capabilities: [(id: UInt32, body: (inout ConfigurationSpace, Int) -> Void)] = [(0x0001, { _, _ in })]
    if let enabled = function.accessControl {
      capabilities.append(
        (
          0x000d,
          { space, at in
            space.put(0x005f | enabled & 0x20, at: at + 4)
            space.put(enabled, at: at + 6)
          }
        ))
    }
    if let isOn = function.addressTranslation {
      capabilities.append((0x000f, { space, at in space.put(isOn ? 0x8000 : 0, at: at + 6) }))
    }
    if function.isSRIOV {
      let count = UInt16(host.functions.filter { $0.physicalFunction == function.address }.count)
      capabilities.append(
        (
          0x0010,
          { space, at in
            space.put(count > 0 ? 0x0009 : 0, at: at + 0x08)
            space.put(16, at: at + 0x0e)
            space.put(count, at: at + 0x10)
          }
        ))
    }
    for (number, capability) in capabilities.enumerated() {
      let at = 0x100 + 0x50 * number
      let next = number + 1 < capabilities.count ? UInt32(at + 0x50) : 0
      let header = capability.id | 1 << 16 | next << 20
      put(UInt16(truncatingIfNeeded: header), at: at)
      put(UInt16(header >> 16), at: at + 2)
      capability.body(&self, at)
    }
  }

  private func descendants(of function: HostDescription.Function, in host: HostDescription) -> [HostDescription
    .Function]
  {
    host.children(of: function.address).flatMap { [$0] + descendants(of: $0, in: host) }
  }

  mutating func put(_ value: UInt16, at offset: Int) {
    bytes[offset] = UInt8(truncatingIfNeeded: value)
    bytes[offset + 1] = UInt8(value >> 8)
  }
}
