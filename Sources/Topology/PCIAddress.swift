// SPDX-License-Identifier: Apache-2.0

/// A PCI address in its parts.
struct PCIAddress: Hashable {
  var segment: Int
  var bus: Int
  var device: Int
  var function: Int

  /// The parts of `ssss:bb:dd.f`, a segment may have more digits; nil where it is no such thing.
  init?(_ text: some StringProtocol) {
    let bytes = Array(text.utf8)
    // What follows the segment has one form: ":bb:dd.f".
    let tail = bytes.count - 8
    guard (4...8).contains(tail), bytes[tail] == UInt8(ascii: ":"), bytes[tail + 3] == UInt8(ascii: ":"),
      bytes[tail + 6] == UInt8(ascii: "."),
      let segment = Self.number(bytes[..<tail]), segment <= Int(Int32.max),
      let bus = Self.number(bytes[(tail + 1)..<(tail + 3)]),
      let device = Self.number(bytes[(tail + 4)..<(tail + 6)]), device < 32,
      let function = Self.number(bytes[(tail + 7)...]), function < 8
    else { return nil }
    self.segment = segment
    self.bus = bus
    self.device = device
    self.function = function
  }

  /// Hexadecimal digits, of which there are eight at most; nil where one is none. Swift's own numbers may have a sign.
  private static func number(_ digits: ArraySlice<UInt8>) -> Int? {
    var value = 0
    for digit in digits {
      switch digit {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value << 4 | Int(digit - UInt8(ascii: "0"))
      case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 | Int(digit - UInt8(ascii: "a") + 10)
      case UInt8(ascii: "A")...UInt8(ascii: "F"): value = value << 4 | Int(digit - UInt8(ascii: "A") + 10)
      default: return nil
      }
    }
    return value
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
