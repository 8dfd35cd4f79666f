// SPDX-License-Identifier: Apache-2.0

/// Which capabilities a function has and where they are in its configuration space. Drivers keep the places.
struct PCICapabilities: Hashable {
  /// A capability: its number and its offset.
  struct Place: Hashable {
    var id: Int
    var offset: Int
  }

  /// Those of the first 256 bytes, in the order of their list.
  var standard: [Place] = []
  /// The extended ones; nil where that part can't be read, empty where there are none.
  var extended: [Place]?
  /// MSI-X vectors; nil without that capability.
  var msixVectors: Int?

  /// More than fit between the header and the end of the first 256 bytes.
  private static let mostStandard = 48
  /// More than any function has; a list that goes on is damaged.
  private static let mostExtended = 96

  /// Reads the lists; nil where a list has no end, or only the first 64 bytes are there, which is all that is shown without
  /// root. A function that is gone answers with ones.
  init?(_ bytes: [UInt8]) {
    guard bytes.count >= 256, Self.word(bytes, 0x06) != 0xffff else { return nil }
    // PCI_STATUS_CAP_LIST.
    if Self.word(bytes, 0x06) & 0x10 != 0 {
      var offset = Int(bytes[0x34] & 0xfc)
      while offset != 0 {
        guard offset >= 0x40, standard.count < Self.mostStandard else { return nil }
        let id = Int(bytes[offset])
        standard.append(Place(id: id, offset: offset))
        // PCI_CAP_ID_MSIX: the table's size less one is in the low eleven bits of its message control.
        if id == 0x11 { msixVectors = (Self.word(bytes, offset + 2) & 0x7ff) + 1 }
        offset = Int(bytes[offset + 1] & 0xfc)
      }
    }
    guard bytes.count >= 4096 else { return }
    var extended: [Place] = []
    var offset = 0x100
    while offset != 0 {
      guard offset >= 0x100, extended.count < Self.mostExtended else { return nil }
      let header = Self.word(bytes, offset) | Self.word(bytes, offset + 2) << 16
      // No list, or one that a device does not answer for.
      if header == 0 || header == 0xffff_ffff { break }
      extended.append(Place(id: header & 0xffff, offset: offset))
      offset = header >> 20 & 0xffc
    }
    self.extended = extended
  }

  private static func word(_ bytes: [UInt8], _ offset: Int) -> Int { Int(bytes[offset]) | Int(bytes[offset + 1]) << 8 }

  /// Numbers and places in hexadecimal, `10@60 11@9c`; "none" for an empty list.
  static func text(_ list: [Place], digits: Int) -> String {
    if list.isEmpty { return "none" }
    return list.map { place in
      let id = String(place.id, radix: 16)
      return String(repeating: "0", count: max(0, digits - id.count)) + id + "@" + String(place.offset, radix: 16)
    }.joined(separator: " ")
  }
}
