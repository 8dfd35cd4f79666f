// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO

/// Where the kernel is to write an answer: 64-bit words that are locked in memory, and that nobody else touches meanwhile.
struct AnswerWords {
  /// The address of the first word.
  let address: UInt64
  /// How many words.
  let count: Int

  /// Words at an address, which are there for as long as this is used.
  init(address: UInt64, count: Int) {
    self.address = address
    self.count = count
  }

  /// All of these words, which are there for as long as this is used.
  init(_ words: borrowing LockedWords) {
    address = words.address
    count = words.count
  }
}
