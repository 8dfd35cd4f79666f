// SPDX-License-Identifier: Apache-2.0

extension Page {
  /// The address of the content word that many words after the one at `address`; the largest number, which is the address
  /// of none, where there is no such word.
  static func advanced(_ address: UInt64, by words: Int) -> UInt64 {
    guard words != 0 else { return address }
    guard let index = wordIndex(address), number(.max) - number(address) > words / Page.words + 1 else { return .max }
    return self.address(ofWord: index + words)
  }
}

extension PagedMemory {
  /// Puts words at an address, and at those after it. - Returns: false where they are not all there.
  @discardableResult
  mutating func write(_ address: UInt64, _ words: [UInt64]) -> Bool {
    guard let range = range(address, words.count) else { return false }
    for (offset, word) in words.enumerated() { self[range.lowerBound + offset] = word }
    return true
  }
}
