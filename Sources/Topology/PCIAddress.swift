// SPDX-License-Identifier: Apache-2.0

/// A PCI address in its parts.
struct PCIAddress: Hashable {
  var segment: Int
  var bus: Int
  var device: Int
  var function: Int

  /// The parts of `ssss:bb:dd.f`, a segment may have more digits; nil where it is no such thing.
  init?(_ text: some StringProtocol) {
    // Swift's numbers may have a sign.
    guard text.allSatisfy({ $0.isHexDigit || $0 == ":" || $0 == "." }) else { return nil }
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 3, (4...8).contains(parts[0].count), parts[1].count == 2, parts[2].count == 4 else {
      return nil
    }
    let last = parts[2].split(separator: ".", omittingEmptySubsequences: false)
    guard last.count == 2, last[0].count == 2,
      let segment = Int(parts[0], radix: 16), (0...Int(Int32.max)).contains(segment),
      let bus = UInt8(parts[1], radix: 16), let device = UInt8(last[0], radix: 16), device < 32,
      let function = UInt8(last[1], radix: 16), function < 8
    else { return nil }
    self.segment = segment
    self.bus = Int(bus)
    self.device = Int(device)
    self.function = Int(function)
  }

  /// Whether both are functions of one device by their numbers.
  func isSameDevice(as other: PCIAddress) -> Bool {
    segment == other.segment && bus == other.bus && device == other.device
  }
}

extension PCIAddress: Comparable {
  static func < (left: PCIAddress, right: PCIAddress) -> Bool {
    (left.segment, left.bus, left.device, left.function) < (right.segment, right.bus, right.device, right.function)
  }
}
