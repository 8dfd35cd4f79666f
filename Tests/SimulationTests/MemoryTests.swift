// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Simulation

@Suite("Memory and the IOMMU")
struct MemoryTests {
  @Test("a set of pages is what a set of numbers is, in ascending order", arguments: [1, 64, 65, 4096, 10_000])
  func pageSet(capacity: Int) {
    var random = SeededGenerator(seed: UInt64(capacity))
    var set = PageSet(capacity: capacity)
    var shadow: Set<Int> = []
    for _ in 0..<2000 {
      let number = random.next(below: capacity)
      switch random.next(below: 8) {
      case 0:
        let range = number..<min(capacity, number + random.next(below: 200))
        set.remove(range)
        shadow.subtract(range)
      case 1:
        let taken = set.takeFirst(from: number)
        let least = shadow.filter { $0 >= number }.min()
        #expect(taken == least)
        if let least { shadow.remove(least) }
      case 2, 3:
        set.remove(number)
        shadow.remove(number)
      default:
        set.insert(number)
        shadow.insert(number)
      }
      #expect(set.count == shadow.count && set.contains(number) == shadow.contains(number))
    }
    #expect(Array(set) == shadow.sorted())
    var other = PageSet(capacity: capacity)
    other.insert(0..<capacity)
    other.removeAll()
    other.formUnion(set)
    #expect(other == set)
  }

  @Test("a run of words goes on over the content of the following pages, and ends with memory")
  func words() {
    var memory = PagedMemory(pages: 3)
    #expect(Page.wordIndex(Page.address(2) + 56) == 23)
    #expect(Page.wordIndex(Page.address(2) + 64) == nil && Page.wordIndex(4) == nil)
    for index in 0..<24 { #expect(Page.wordIndex(Page.address(ofWord: index)) == index) }
    for index in memory.words.indices { memory[index] = UInt64(index) }
    #expect(memory.read(48, 4) == [6, 7, 8, 9])
    #expect(memory.read(Page.address(2) + 48, 2) == [22, 23])
    #expect(memory.read(Page.address(2) + 48, 3) == nil)
    for (address, count) in [(UInt64.max, 1), (Page.address(3), 0), (0, -1), (0, .max), (UInt64.max & ~7, .max)] {
      #expect(memory.read(address, count) == nil && memory.range(address, count) == nil)
    }
    let page = memory[page: 1]
    memory[page: 2] = page
    #expect(memory.read(Page.address(2), 8) == Array(8..<16))
    #expect(memory[page: 2].digest == page.digest && memory[page: 0].digest != page.digest)
  }

  @Test("what a processor writes is in the VMM's log and in no device's bits, and the other way about")
  func twoLogs() {
    var memory = GuestMemory(pages: 4)
    var iommu = IOMMU(domains: 1, pages: 4, nodes: 2)
    iommu.attach(node: 1, to: 0)
    iommu.map(0..<4, to: .memory(page: 0), in: 0)
    iommu.setTracking(true, in: 0)
    let answers = [memory.writeByProcessor(Page.address(1) + 8, 5), memory.writeByProcessor(Page.address(4), 5)]
    #expect(answers == [true, false])
    iommu.write(Page.address(2) + 48, [1, 2, 3], from: 1, to: &memory)
    memory[page: 0] = Page(content: .one)
    var (processors, devices) = (PageSet(capacity: 4), PageSet(capacity: 4))
    memory.takeProcessorDirty(into: &processors)
    iommu.readDirty(0..<4, in: 0, clearing: true, into: &devices)
    #expect(Array(processors) == [1] && Array(devices) == [2, 3])
    #expect(memory.processorDirty.isEmpty)
    let words = iommu.read(Page.address(1), 16, from: 1, in: memory)
    #expect(words == [0, 5, 0, 0, 0, 0, 0, 0] + [0, 0, 0, 0, 0, 0, 1, 2])
  }

  @Test("what is not mapped, or leads to a peer, is a fault, and the rest of a write arrives")
  func faults() {
    var memory = GuestMemory(pages: 4)
    var iommu = IOMMU(domains: 2, pages: 8, nodes: 3)
    iommu.map(0..<1, to: .memory(page: 3), in: 1)
    iommu.map(2..<3, to: .memory(page: 1), in: 1)
    iommu.map(4..<6, to: .peer(node: 2, page: 7), in: 1)
    iommu.write(0, [1], from: 1, to: &memory)
    #expect(iommu.faults == [0, 1, 0])
    iommu.attach(node: 1, to: 1)
    iommu.write(0, Array(1...20), from: 1, to: &memory)
    #expect(iommu.faults == [0, 2, 0])
    #expect(memory.content.read(Page.address(3), 8) == Array(1...8))
    #expect(memory.content.read(Page.address(1), 8) == Array(17...20) + [0, 0, 0, 0])
    let readings = [
      iommu.read(Page.address(4), 1, from: 1, in: memory), iommu.read(.max - 7, .max, from: 1, in: memory),
    ]
    #expect(readings == [nil, nil])
    iommu.write(100, [1], from: 1, to: &memory)
    #expect(iommu.faults == [0, 5, 0])
    #expect(iommu.destination(of: Page.address(5) + 24, from: 1) == .peer(node: 2, address: Page.address(8) + 24))
    #expect(iommu.destination(of: Page.address(5) + 24, from: 2) == .root)
    #expect(iommu.destination(of: 0, from: 1) == .root)
    #expect(iommu.destination(of: .max, from: 1).node == 0)
  }

  /// What a domain's bits should be, kept by IOVA page in a dictionary.
  struct Shadow {
    var mapping: [Int: Int] = [:]
    var dirty: Set<Int> = []
  }

  @Test("dirty bits are exact while pages are mapped, unmapped, written and read", arguments: 0..<20)
  func dirtyBits(seed: Int) {
    let pages = 40
    var random = SeededGenerator(seed: UInt64(seed))
    var memory = GuestMemory(pages: pages)
    var iommu = IOMMU(domains: 2, pages: pages, nodes: 3)
    var shadows = [Shadow(), Shadow()]
    for domain in 0..<2 {
      iommu.attach(node: domain + 1, to: domain)
      iommu.setTracking(true, in: domain)
    }
    // Every page that was ever written must be in the end among those read.
    var written: Set<Int> = []
    var read = PageSet(capacity: pages)
    for _ in 0..<3000 {
      let domain = random.next(below: 2)
      let start = random.next(below: pages)
      let range = start..<min(pages, start + 1 + random.next(below: 5))
      switch random.next(below: 10) {
      case 0:
        let target = random.next(below: pages - range.count + 1)
        iommu.readDirty(range, in: domain, clearing: false, into: &read)
        iommu.map(range, to: .memory(page: target), in: domain)
        for page in range { shadows[domain].mapping[page] = target + page - start }
        shadows[domain].dirty.subtract(range)
      case 1:
        iommu.readDirty(range, in: domain, clearing: false, into: &read)
        iommu.unmap(range, in: domain)
        for page in range { shadows[domain].mapping[page] = nil }
        shadows[domain].dirty.subtract(range)
      case 2:
        let clearing = random.next(below: 2) == 0
        var found = PageSet(capacity: pages)
        iommu.readDirty(range, in: domain, clearing: clearing, into: &found)
        let expected = range.filter(shadows[domain].dirty.contains).compactMap { shadows[domain].mapping[$0] }
        #expect(Array(found) == Set(expected).sorted())
        if clearing { shadows[domain].dirty.subtract(range) }
        read.formUnion(found)
      default:
        let word = random.next(below: Page.words)
        let count = 1 + random.next(below: 30)
        let address = Page.address(start) + UInt64(8 * word)
        iommu.write(address, Array(repeating: 1, count: count), from: domain + 1, to: &memory)
        for page in start...start + (word + count - 1) / Page.words {
          guard let guestPage = shadows[domain].mapping[page] else { continue }
          shadows[domain].dirty.insert(page)
          written.insert(guestPage)
        }
      }
    }
    for domain in 0..<2 { iommu.readDirty(0..<pages, in: domain, clearing: true, into: &read) }
    #expect(Array(read) == written.sorted())
  }

  @Test("an unmap drops the bits, and a reading just before it that does not clear keeps them")
  func unmap() {
    for readsBefore in [false, true] {
      var memory = GuestMemory(pages: 8)
      var iommu = IOMMU(domains: 1, pages: 8, nodes: 2)
      iommu.attach(node: 1, to: 0)
      iommu.map(0..<8, to: .memory(page: 0), in: 0)
      iommu.setTracking(true, in: 0)
      iommu.write(Page.address(5), [1], from: 1, to: &memory)
      var found = PageSet(capacity: 8)
      if readsBefore { iommu.readDirty(4..<6, in: 0, clearing: false, into: &found) }
      iommu.unmap(4..<6, in: 0)
      iommu.map(4..<6, to: .memory(page: 4), in: 0)
      iommu.readDirty(0..<8, in: 0, clearing: true, into: &found)
      #expect(Array(found) == (readsBefore ? [5] : []))
    }
  }

  @Test("without tracking nothing is noted")
  func tracking() {
    var memory = GuestMemory(pages: 8)
    var iommu = IOMMU(domains: 1, pages: 8, nodes: 2)
    iommu.attach(node: 1, to: 0)
    iommu.map(0..<8, to: .memory(page: 0), in: 0)
    var found = PageSet(capacity: 8)
    iommu.write(0, [1], from: 1, to: &memory)
    iommu.setTracking(true, in: 0)
    iommu.write(Page.address(1), [1], from: 1, to: &memory)
    iommu.readDirty(0..<8, in: 0, clearing: true, into: &found)
    #expect(Array(found) == [1])
  }

  @Test("who waits for a page is told when a device or a processor writes to it, and only then")
  func watched() {
    var memory = GuestMemory(pages: 8)
    var iommu = IOMMU(domains: 1, pages: 8, nodes: 2)
    iommu.attach(node: 1, to: 0)
    iommu.map(0..<8, to: .memory(page: 0), in: 0)
    memory.watch(page: 3, true)
    iommu.write(Page.address(2), Array(repeating: 1, count: 8), from: 1, to: &memory)
    #expect(memory.touched.isEmpty)
    iommu.write(Page.address(2), Array(repeating: 1, count: 9), from: 1, to: &memory)
    _ = memory.writeByProcessor(Page.address(3), 1)
    let touched = memory.takeTouched()
    #expect(touched == [3, 3])
    memory.watch(page: 3, false)
    _ = memory.writeByProcessor(Page.address(3), 1)
    #expect(memory.touched.isEmpty)
  }
}
