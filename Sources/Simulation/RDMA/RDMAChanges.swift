// SPDX-License-Identifier: Apache-2.0

/// Which records of the image have changed since somebody asked, without looking at all of them.
struct RDMAChanges: Sendable {
  private var isNoted: [Bool] = []
  private var noted: [Int] = []

  mutating func note(_ record: Int) {
    while isNoted.count <= record { isNoted.append(false) }
    guard !isNoted[record] else { return }
    isNoted[record] = true
    noted.append(record)
  }

  /// The records that changed, in the order of their first change.
  mutating func take() -> [Int] {
    for record in noted { isNoted[record] = false }
    defer { noted = [] }
    return noted
  }

  /// How many have changed.
  var count: Int { noted.count }
}
