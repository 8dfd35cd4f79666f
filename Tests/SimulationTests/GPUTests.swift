// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("A GPU and its kernels")
struct GPUTests {
  typealias Layout = GPULayout

  /// Four kernels in a ring of four, whose inputs and flags come one after the other.
  static func loaded(seed: UInt64 = 1) -> GPUDriver {
    var driver = GPUDriver(GPU(Layout.configuration), seed: seed)
    for number in 0..<UInt64(4) {
      driver.launch(Layout.kernel(number), number, at: 0)
      driver.write(Layout.input(number), Layout.content(number), at: 5)
      driver.write(Layout.flag, [number + 1], at: 10 + 30 * number)
    }
    return driver
  }

  @Test("a kernel waits for its flag, works word by word, writes its result and rings")
  func kernel() {
    var driver = GPUDriver(GPU(Layout.configuration))
    driver.launch(Layout.kernel(0), 0, at: 0)
    driver.write(Layout.input(0), Layout.content(0), at: 1)
    driver.put(.packet(FabricPacket(from: 3, to: 1, .read(address: Layout.output(0), words: 20, tag: 9))), at: 40)
    driver.run(until: 9)
    #expect(driver.queue.nextTime?.microseconds == 40 && driver.accesses.isEmpty)
    driver.write(Layout.flag, [1], at: 10)
    driver.run()
    let output = Layout.expected(Layout.content(0))
    // Thirty microseconds are ten words.
    #expect(driver.replies == [.readReply(tag: 9, words: Array(output[..<10]) + Array(repeating: 0, count: 10))])
    #expect(driver.gpu.memory.read(Layout.output(0), 20) == output)
    #expect(
      driver.accesses == [
        .init(time: 70, address: Layout.result, words: [GPUKernel.digest(output)]),
        .init(time: 70, address: Layout.peer, words: [1]),
      ])
    #expect(driver.gpu.finished == 1 && driver.gpu.refused == 0)
  }

  @Test("kernels run one after the other, in the order of the ring")
  func order() {
    var driver = Self.loaded()
    driver.run()
    #expect(driver.accesses.filter { $0.address == Layout.peer }.map(\.words) == [[1], [2], [3], [4]])
    #expect(driver.gpu.finished == 4)
    for number in 0..<UInt64(4) {
      #expect(driver.gpu.memory.read(Layout.output(number), 20) == Layout.expected(Layout.content(number)))
    }
  }

  /// A device writes data and then the flag into the GPU's memory. - Returns: whether the kernel had the data.
  static func hasData(seed: UInt64, keepsOrder: Bool) -> Bool {
    var shape = FabricShape()
    let port = shape.addSwitch(under: 0, .init(delay: 1))
    let writer = shape.addFunction(under: port, .init(delay: 1, spread: 5))
    let node = shape.addFunction(under: port, .init(delay: 1, spread: 5))
    var fabric = FabricDriver(shape, seed: seed, keepsOrder: keepsOrder)
    for (address, words) in [(Layout.input(0), Layout.content(0)), (Layout.flag, [1])] {
      fabric.send(FabricPacket(from: writer, to: node, .write(address: address, words: words)), at: 50)
    }
    fabric.run()
    var driver = GPUDriver(GPU(Layout.configuration))
    driver.launch(Layout.kernel(0), 0, at: 0)
    for delivery in fabric.deliveries { driver.put(.packet(delivery.packet), at: delivery.time) }
    driver.run()
    return driver.gpu.memory.read(Layout.output(0), 20) == Layout.expected(Layout.content(0))
  }

  @Test("what is written before the flag is there when the kernel starts; in the broken fabric it is not always")
  func dataBeforeFlag() {
    #expect((0..<1000).allSatisfy { Self.hasData(seed: $0, keepsOrder: true) })
    #expect(!(0..<100).allSatisfy { Self.hasData(seed: $0, keepsOrder: false) })
  }

  @Test("kernels that name what is not there are refused, and so are doorbells that make no sense; the next one runs")
  func refused() {
    var driver = GPUDriver(GPU(Layout.configuration))
    var kernels = (0..<UInt64(4)).map { Layout.kernel($0, waits: false) }
    kernels[0].count = .max
    kernels[1].input = .max - 7
    kernels[2].flag = driver.gpu.doorbellAddress
    for (number, kernel) in kernels.enumerated() { driver.launch(kernel, UInt64(number), at: 0) }
    driver.write(driver.gpu.doorbellAddress, [9], at: 500)
    driver.write(driver.gpu.doorbellAddress, [.max], at: 500)
    driver.write(driver.gpu.doorbellAddress, [3], at: 500)
    for (index, address) in [driver.gpu.doorbellAddress, driver.gpu.doorbellAddress + 16, .max, .max - 7].enumerated() {
      driver.put(.packet(FabricPacket(from: 3, to: 1, .read(address: address, words: 1, tag: UInt64(index)))), at: 600)
    }
    driver.put(.packet(FabricPacket(from: 3, to: 1, .read(address: 0, words: .max, tag: 4))), at: 600)
    driver.write(.max - 7, [1, 2], at: 600)
    driver.run()
    #expect(driver.gpu.finished == 1 && driver.gpu.refused == 6)
    #expect(driver.accesses.filter { $0.address == Layout.peer }.map(\.words) == [[4]])
    let words: [[UInt64]] = [[4], [6], [], [], []]
    #expect(driver.replies == words.enumerated().map { .readReply(tag: UInt64($0), words: $1) })
  }

  @Test("random descriptors in the ring trap nothing")
  func randomKernels() {
    var random = SeededGenerator(seed: 3)
    for _ in 0..<300 {
      var driver = GPUDriver(GPU(Layout.configuration))
      for number in 0..<UInt64(4) {
        let words = (0..<Page.words).map { _ in
          random.next(below: 3) == 0 ? random.next() : UInt64(random.next(below: 40)) * 512
        }
        driver.write(driver.gpu.ringAddress(number), words, at: 0)
      }
      driver.write(driver.gpu.doorbellAddress, [4], at: 1)
      driver.run()
      #expect(driver.gpu.head <= driver.gpu.tail)
    }
  }

  // MARK: States

  @Test("in a P2P state it computes and writes guest memory, and rings afterwards what it has kept")
  func peerState() {
    for active in [MigrationState.running, .preCopy] {
      let quiet: MigrationState = active == .running ? .runningP2P : .preCopyP2P
      var driver = Self.loaded()
      driver.go(to: quiet, at: 20)
      let since = driver.now
      driver.run(until: 1000)
      #expect(driver.gpu.finished == 4 && driver.violations.isEmpty)
      #expect(!driver.accesses.contains { $0.address == Layout.peer && $0.time >= since })
      #expect(driver.accesses.count { $0.address >= Layout.result } == 4)
      #expect(driver.gpu.keptDoorbells.map(\.value) == [1, 2, 3, 4])
      driver.go(to: active, at: 1000)
      #expect(driver.accesses.filter { $0.address == Layout.peer }.map(\.words) == [[1], [2], [3], [4]])
      #expect(driver.gpu.keptDoorbells.isEmpty)
    }
  }

  @Test("it keeps no more doorbells than its image has room for")
  func keptDoorbells() {
    var driver = GPUDriver(GPU(Layout.configuration))
    driver.go(to: .runningP2P, at: 0)
    for number in 0..<UInt64(8) {
      driver.launch(Layout.kernel(number, words: 1, waits: false), number, at: 100 + 10 * number)
    }
    driver.run(until: 1000)
    #expect(driver.gpu.keptDoorbells.count == 4 && driver.gpu.finished == 4)
    driver.go(to: .running, at: 1000)
    driver.run()
    #expect(driver.accesses.filter { $0.address == Layout.peer }.map { $0.words[0] } == Array(1...8))
  }

  @Test(
    "stopped, nothing moves; from the arc's beginning to the end of the one back, what arrives is reported and lost")
  func stopped() {
    for seed in 0..<50 {
      var driver = Self.loaded(seed: UInt64(seed))
      driver.run(until: 24)
      driver.put(.setState(.stop, number: 1), at: 25)
      driver.write(Layout.input(3), [0], at: 26)
      driver.run(until: 32)
      #expect(driver.violations.count == 1 && driver.answered.map(\.number) == [1] && driver.answered[0].time == 32)
      let digest = driver.gpu.memory.digest
      let sent = driver.accesses
      driver.put(.packet(FabricPacket(from: 3, to: 1, .read(address: 0, words: 1, tag: 0))), at: 100)
      driver.run(until: 5000)
      // The flags that came meanwhile, and the read.
      #expect(driver.violations.count == 5 && driver.replies.isEmpty)
      #expect(driver.gpu.memory.digest == digest && driver.accesses == sent)
      driver.put(.setState(.running, number: 2), at: 6000)
      driver.write(Layout.flag, [4], at: 6006)
      driver.run(until: 6007)
      #expect(driver.violations.count == 6)
      driver.write(Layout.flag, [4], at: 6008)
      driver.run()
      #expect(driver.gpu.finished == 4)
    }
  }

  @Test("a reset leaves nothing, and a command under way is not answered")
  func reset() {
    var driver = Self.loaded()
    driver.run(until: 100)
    driver.put(.setState(.runningP2P, number: 1), at: 100)
    driver.put(.reset, at: 101)
    driver.run(until: 110)
    #expect(driver.gpu.state == .running && driver.answered.isEmpty)
    #expect(driver.gpu.memory == PagedMemory(pages: Layout.configuration.memoryPages))
    #expect(driver.gpu.head == 0 && driver.gpu.tail == 0)
    driver.run()
    #expect(driver.accesses.count { $0.time > 101 } == 0)
    driver.launch(Layout.kernel(0, waits: false), 0, at: 1000)
    driver.run()
    #expect(driver.gpu.finished == 1)
  }

  @Test("a kernel costs as many steps on a GPU of a hundred pages as on one of a hundred thousand, long or short")
  func steps() {
    func steps(pages: Int, words: Int) -> Int {
      var configuration = Layout.configuration
      configuration.memoryPages = pages
      var driver = GPUDriver(GPU(configuration))
      driver.launch(Layout.kernel(0, words: words, waits: false), 0, at: 0)
      driver.run()
      #expect(driver.gpu.finished == 1)
      return driver.steps
    }
    #expect(steps(pages: 100, words: 1) == 3)
    #expect(steps(pages: 100_000, words: 1) == 3)
    #expect(steps(pages: 100_000, words: 500) == 3)
  }
}
