// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// Shades of a heat map: each begins at twice the rate of the one below it, and the highest goes up to the hottest there is.
enum DirtyHeat {
  /// How many, not counting "none, or next to none".
  static let shades = 8

  /// The shade of a value: 0 for none, and up to 1/256 of the most; 1 to ``shades`` above.
  static func shade(_ value: UInt64, of most: UInt64) -> Int {
    guard value > 0, most > 0 else { return 0 }
    let ratio = max(1, most / value)
    return max(0, shades - (UInt64.bitWidth - 1 - ratio.leadingZeroBitCount))
  }

  /// Letters for the shades, from none on: readable without colour.
  static let letters: [Character] = [".", ":", "-", "=", "+", "*", "#", "%", "@"]
  /// Colours of a terminal with 256 of them.
  static let terminalColours = [240, 230, 228, 221, 215, 208, 202, 196, 160]
  /// Colours of a picture.
  static let pictureColours = [
    "#f3f5f7", "#fff1c2", "#ffe08a", "#ffc857", "#fca33c", "#f57b2f", "#e04e26", "#b82a24", "#7a1022",
  ]
}
