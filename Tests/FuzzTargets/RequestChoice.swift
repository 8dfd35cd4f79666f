@testable import Helper
// SPDX-License-Identifier: Apache-2.0
@testable import Migration

/// Requests that make sense often enough: few devices, little memory.
enum RequestChoice {
  static func request(_ input: inout FuzzInput) -> HelperRequest {
    let id = UInt32(1 + input.choice(3))
    let other = UInt32(1 + input.choice(3))
    switch input.choice(30) {
    case 0: return .hello(major: UInt32(input.choice(3)), minor: 1, features: .pages, version: "fuzz")
    case 1, 2: return .addDevice(device(id, named: other))
    case 3: return .describe(device: id)
    case 4: return .removeDevice(id)
    case 5: return .arc(device: id, input.one(of: MigrationState.allCases))
    case 6: return .reset(device: id)
    case 7: return .link(from: id, to: other == id ? id % 3 + 1 : other, isThere: input.flag())
    case 8:
      let (place, size) = (input.byte(), input.byte())
      if place < 128 { return .blob(device: id, offset: UInt64(place), size: UInt32(size) << 4) }
      // Mostly as long as it is.
      let length = size < 192 ? UInt32(tag(place).count) : UInt32(size)
      return .tag(device: id, offset: 0, size: length)
    case 9: return .declareDead(device: id)
    case 10: return .addMemory(memory(&input))
    case 11: return .addMapping(mapping(&input))
    case 12: return .removeMapping(mapping(&input))
    case 13: return .startTracking(pageSize: 4096 << UInt64(input.choice(3)))
    case 14: return .readTracking
    case 15: return .stopTracking
    case 16: return .addDirtyPages
    case 17, 18: return .beginSave(save(&input))
    case 19: return .step(bytesSent: UInt64(input.byte()))
    case 20: return .estimate
    case 21: return .vcpusStopped
    case 22: return .quiesce(bytesSent: UInt64(input.byte()))
    case 23: return .complete(bytesSent: UInt64(input.byte()))
    case 24: return .commit
    case 25: return .beginLoad(HelperLoad(pages: input.flag(), resetAllowed: input.flag(), stepLimit: nil))
    case 26: return .readBlob(device: id)
    case 27: return .resume
    case 28: return .abort
    default: return .status
    }
  }

  /// The text of a tag, or nearly.
  static func tag(_ choice: UInt8) -> [UInt8] {
    let texts = ["mac 02:00:00:00:00:0\(choice % 2)\n", "driver x\n", "trust on\nvlan 1\n", "trust\n"]
    return Array(("vfio-ferry-tag 1\n" + texts[Int(choice) / 2 % texts.count]).utf8)
  }

  static func device(_ id: UInt32, named: UInt32) -> HelperDevice {
    HelperDevice(
      device: id, name: DeviceName("0000:00:0\(named % 8).0") ?? .node("/dev/vfio/devices/vfio0"), space: 1,
      tracker: .auto, support: .none, iommufdNumber: nil, pageTable: nil, logLimits: nil)
  }

  private static func memory(_ input: inout FuzzInput) -> HelperMemory {
    let guest = range(&input)
    let how = input.byte()
    return HelperMemory(
      guest: guest, fileOffset: how & 1 == 0 ? UInt64(how >> 4) << 12 : nil,
      mapping: how & 2 == 0 ? HelperMapping(space: 1, addresses: guest, guest: guest.lowerBound) : nil)
  }

  private static func mapping(_ input: inout FuzzInput) -> HelperMapping {
    let addresses = range(&input)
    return HelperMapping(
      space: 1 + UInt32(input.choice(2)), addresses: addresses,
      guest: input.flag() ? UInt64(input.byte()) << 12 : addresses.lowerBound)
  }

  /// A few pages, not far from the start.
  private static func range(_ input: inout FuzzInput) -> Range<UInt64> {
    let start = UInt64(input.byte()) << 12
    return start..<start + UInt64(1 + input.byte() % 32) << 12
  }

  private static func save(_ input: inout FuzzInput) -> HelperSave {
    let how = input.byte()
    return HelperSave(
      preCopy: how & 1 == 0, pages: [.none, .byHelper, .byVMM, .none][Int(how >> 1 & 3)], resetAllowed: how & 8 != 0,
      flushes: how & 16 != 0, lastResort: how & 32 == 0 ? .giveUp : .force, downtime: 300_000, interval: 1000,
      quiescing: nil, loading: nil, stepLimit: nil)
  }
}
