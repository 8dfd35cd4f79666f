// SPDX-License-Identifier: Apache-2.0
import Glibc
import LinuxIO
import Testing

@Suite("Words that are locked in memory")
struct LockedWordsTests {
  /// Writes as the kernel does: to the address.
  private func write(_ values: [Int: UInt64], to words: borrowing LockedWords) {
    let start = unsafe UnsafeMutablePointer<UInt64>(bitPattern: UInt(words.address))
    for (index, value) in values { unsafe start?[index] = value }
  }

  @Test(
    "what is not zero lies in the places that are used, first and last word included, and clearing those clears all")
  func used() throws {
    var words = try LockedWords(count: 1000)
    #expect(words.used(1000) == [] && words.used(0) == [])
    var random = SystemRandomNumberGenerator()
    for round in 0..<200 {
      let count = round < 2 ? 1000 : Int.random(in: 1...1000, using: &random)
      var values: [Int: UInt64] = round == 0 ? [0: 1, 999: 1 << 63] : [:]
      for _ in 0..<round / 4 { values[Int.random(in: 0..<count, using: &random)] = 1 << UInt64.random(in: 0...63) }
      write(values, to: words)
      let used = words.used(count)
      for index in values.keys { #expect(used.contains { $0.contains(index) }, "\(index) of \(count)") }
      #expect(zip(used, used.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound })
      #expect(used.allSatisfy { !$0.isEmpty && $0.lowerBound >= 0 && $0.upperBound <= count })
      for part in used { words.clear(part) }
      #expect(words.used(1000) == [])
      words.withWords { span in
        for index in span.indices { #expect(span[index] == 0) }
      }
    }
  }

  @Test("no words, and more than there can be, are refused")
  func impossible() {
    for count in [0, -1, Int.max] { #expect(throws: SystemError.self) { _ = try LockedWords(count: count) } }
  }
}
