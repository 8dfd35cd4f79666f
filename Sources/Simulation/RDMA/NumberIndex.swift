// SPDX-License-Identifier: Apache-2.0

/// Finds small indices by sparse numbers, in a time that does not grow with their count.
///
/// A table with open addressing that is never iterated, so that its layout decides nothing.
struct NumberIndex: Sendable {
  /// A number, and one more than its index in the low half; 0 where the place is empty.
  private var places: [UInt64] = Array(repeating: 0, count: 16)
  /// How many numbers it knows.
  private(set) var count = 0

  /// The place of a number, or the empty place where it would be.
  private func place(of number: UInt32) -> Int {
    let mask = places.count - 1
    var place = Int(truncatingIfNeeded: SeededGenerator.mixed(UInt64(number))) & mask
    while places[place] != 0, places[place] >> 32 != UInt64(number) { place = (place + 1) & mask }
    return place
  }

  /// The index of a number; nil where it is unknown.
  subscript(number: UInt32) -> Int? {
    let found = UInt32(truncatingIfNeeded: places[place(of: number)])
    return found == 0 ? nil : Int(found) - 1
  }

  /// Gives a number an index, or another one.
  mutating func set(_ number: UInt32, to index: Int) {
    if 2 * (count + 1) > places.count { grow() }
    let place = place(of: number)
    if places[place] == 0 { count += 1 }
    places[place] = UInt64(number) << 32 | UInt64(index + 1)
  }

  private mutating func grow() {
    let old = places
    places = Array(repeating: 0, count: 2 * old.count)
    for entry in old where entry != 0 { places[place(of: UInt32(entry >> 32))] = entry }
  }
}
