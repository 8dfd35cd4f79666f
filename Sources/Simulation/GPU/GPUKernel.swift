// SPDX-License-Identifier: Apache-2.0

/// One piece of work for a GPU: wait for a flag, turn an input into an output, tell others.
///
/// In the ring it is a page of eight words, in the order of these properties.
struct GPUKernel: Hashable, Sendable {
  /// The address, in the GPU's memory, of the word that it waits for.
  var flag: UInt64 = 0
  /// It starts when that word is at least this; 0 is at once.
  var flagValue: UInt64 = 0
  /// Where its input begins, in the GPU's memory.
  var input: UInt64 = 0
  /// Where its output begins, in the GPU's memory.
  var output: UInt64 = 0
  /// How many words are turned.
  var count = 0
  /// The address, as the GPU's functions see others, of a doorbell at another device to ring at the end; 0 is none.
  var doorbell: UInt64 = 0
  /// What is written there.
  var doorbellValue: UInt64 = 0
  /// Where in guest memory the digest of its output is written at the end; 0 is nowhere.
  var result: UInt64 = 0

  /// A kernel in the ring: the content of its page.
  var words: [UInt64] {
    [flag, flagValue, input, output, UInt64(count), doorbell, doorbellValue, result]
  }

  init() {}

  /// A kernel from the ring. - Returns: nil where it names what is not in a memory of that kind.
  init?(words: some RandomAccessCollection<UInt64>, memory: PagedMemory) {
    guard words.count == Page.words, let first = words.first else { return nil }
    func word(_ index: Int) -> UInt64 { words[words.index(words.startIndex, offsetBy: index)] }
    guard let count = Int(exactly: word(4)), memory.word(first) != nil, memory.range(word(2), count) != nil,
      memory.range(word(3), count) != nil
    else { return nil }
    flag = first
    flagValue = word(1)
    input = word(2)
    output = word(3)
    self.count = count
    doorbell = word(5)
    doorbellValue = word(6)
    result = word(7)
  }

  /// What a kernel makes of the n-th word of its input.
  static func transformed(_ word: UInt64, at index: Int) -> UInt64 {
    SeededGenerator.mixed(word &+ UInt64(index) &* 0x9e37_79b9_7f4a_7c15)
  }

  /// The digest of an output: what is written as the result.
  static func digest(_ output: some Sequence<UInt64>) -> UInt64 {
    output.reduce(0) { extended($0, with: $1) }
  }

  /// The digest of an output with one more word.
  static func extended(_ digest: UInt64, with word: UInt64) -> UInt64 { SeededGenerator.mixed(digest &+ word) }
}
