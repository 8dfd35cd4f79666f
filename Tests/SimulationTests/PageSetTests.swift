// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Simulation

@Suite("A set of pages")
struct PageSetTests {
  @Test("it holds what a set holds, whatever is put in and taken out", arguments: [1, 63, 64, 65, 4096, 9001])
  func model(capacity: Int) {
    var random = SeededGenerator(seed: UInt64(capacity))
    var pages = PageSet(capacity: capacity)
    var model: Set<Int> = []
    for _ in 0..<400 {
      let start = random.next(below: capacity)
      let range = start..<start + random.next(below: capacity - start + 1)
      switch random.next(below: 8) {
      case 0:
        pages.insert(range)
        model.formUnion(range)
      case 1:
        pages.remove(range)
        model.subtract(range)
      case 2:
        var other = PageSet(capacity: capacity)
        other.insert(range)
        other.insert(random.next(below: capacity))
        pages.formUnion(other)
        model.formUnion(other)
      case 3 where random.next(below: 8) == 0:
        pages.removeAll()
        model = []
      case 4:
        #expect(pages.first(from: start) == model.filter { $0 >= start }.min())
      case 5:
        let first = pages.takeFirst(from: start)
        #expect(first == model.filter { $0 >= start }.min())
        if let first { model.remove(first) }
      default:
        pages.insert(start)
        model.insert(start)
      }
      #expect(pages.count == model.count)
    }
    #expect(Array(pages) == model.sorted())
  }
}
