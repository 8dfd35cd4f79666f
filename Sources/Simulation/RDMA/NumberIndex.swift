// SPDX-License-Identifier: Apache-2.0

/// Finds small indices by sparse numbers, in a time that does not grow with their count.
///
/// A table with open addressing that is never iterated, so that its layout decides nothing.
struct NumberIndex: Sendable {
  private var numbers: [UInt32] = Array(repeating: 0, count: 16)
  /// One more than the index; 0 where the place is empty.
  private var places: [UInt32] = Array(repeating: 0, count: 16)
  /// How many numbers it knows.
  private(set) var count = 0

  /// The place of a number, or the empty place where it would be.
  private func place(of number: UInt32) -> Int {
    let mask = numbers.count - 1
    var place = Int(truncatingIfNeeded: SeededGenerator.mixed(UInt64(number))) & mask
    while places[place] != 0, numbers[place] != number { place = (place + 1) & mask }
    return place
  }

  /// The index of a number; nil where it is unknown.
  subscript(number: UInt32) -> Int? {
    let found = places[place(of: number)]
    return found == 0 ? nil : Int(found) - 1
  }

  /// Gives a number an index, or another one.
  mutating func set(_ number: UInt32, to index: Int) {
    if 2 * (count + 1) > numbers.count { grow() }
    let place = place(of: number)
    if places[place] == 0 { count += 1 }
    numbers[place] = number
    places[place] = UInt32(index + 1)
  }

  private mutating func grow() {
    let (oldNumbers, oldPlaces) = (numbers, places)
    numbers = Array(repeating: 0, count: 2 * oldNumbers.count)
    places = Array(repeating: 0, count: 2 * oldNumbers.count)
    for old in oldNumbers.indices where oldPlaces[old] != 0 {
      let place = place(of: oldNumbers[old])
      numbers[place] = oldNumbers[old]
      places[place] = oldPlaces[old]
    }
  }
}
