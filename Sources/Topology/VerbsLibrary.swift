// SPDX-License-Identifier: Apache-2.0
internal import CIBVerbs

/// libibverbs: which RDMA devices there are, and their ports. It is loaded when one of these is made.
@safe struct VerbsLibrary: ~Copyable {
  private let handle: OpaquePointer

  /// The devices as they are now; nil where this machine has no libibverbs, or its kernel no RDMA.
  init?() {
    guard let handle = unsafe vf_verbs_open() else { return nil }
    unsafe self.handle = unsafe handle
  }

  deinit { unsafe vf_verbs_close(handle) }

  /// What it says of a device.
  struct Facts {
    var firmware: String?
    var ports: [RDMADevice.Port] = []
  }

  /// The devices' names.
  var names: [String] {
    let count = unsafe vf_verbs_count(handle)
    return (0..<count).map { unsafe String(cString: vf_verbs_name(handle, $0)) }
  }

  /// What it says of the device with that name; nil where it has none, or can't open it: without permission, or without
  /// the provider's package.
  func facts(of name: String) -> Facts? {
    guard let index = names.firstIndex(of: name),
      let device = unsafe vf_verbs_open_device(handle, Int32(index))
    else { return nil }
    defer { unsafe vf_verbs_close_device(device) }
    var text = [CChar](repeating: 0, count: 64)
    var count: Int32 = 0
    let isKnown = unsafe text.withUnsafeMutableBufferPointer { buffer in
      unsafe vf_verbs_device_facts(device, buffer.baseAddress, &count)
    }
    guard isKnown else { return nil }
    let firmware = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    var facts = Facts(firmware: firmware.isEmpty ? nil : firmware)
    for number in 1...max(1, count) where number <= count {
      var (state, layer, gids) = (Int32(0), Int32(0), Int32(0))
      guard unsafe vf_verbs_port_facts(device, number, &state, &layer, &gids) else { continue }
      var port = RDMADevice.Port(
        number: Int(number), state: Self.state(state), linkLayer: Self.linkLayer(layer), gids: [])
      for index in 0..<max(0, min(gids, 4096)) {
        var bytes = [UInt8](repeating: 0, count: 16)
        let isThere = unsafe bytes.withUnsafeMutableBufferPointer { buffer in
          unsafe vf_verbs_gid(device, number, index, buffer.baseAddress)
        }
        if isThere, bytes.contains(where: { $0 != 0 }) { port.gids.append(Self.spelled(bytes)) }
      }
      facts.ports.append(port)
    }
    return facts
  }

  /// An `ibv_port_state`, as sysfs spells it.
  private static func state(_ value: Int32) -> String {
    let names: [Int32: String] = [1: "down", 2: "init", 3: "armed", 4: "active", 5: "active_defer"]
    return names[value] ?? "unknown"
  }

  /// An `IBV_LINK_LAYER_…`; what says nothing is as old as InfiniBand.
  private static func linkLayer(_ value: Int32) -> String {
    switch value {
    case 0, 1: "infiniband"
    case 2: "ethernet"
    default: "unknown"
    }
  }

  /// A GID in eight groups, as sysfs has it.
  private static func spelled(_ bytes: [UInt8]) -> String {
    stride(from: 0, to: bytes.count, by: 2).map { place in
      let text = String(UInt16(bytes[place]) << 8 | UInt16(bytes[place + 1]), radix: 16)
      return String(repeating: "0", count: 4 - text.count) + text
    }.joined(separator: ":")
  }
}
