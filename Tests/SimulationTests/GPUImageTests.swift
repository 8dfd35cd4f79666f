// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("The image of a GPU")
struct GPUImageTests {
  typealias Layout = GPULayout

  /// All inputs and flags are there from the start, so that nothing arrives at a GPU that is stopped.
  static func loaded(seed: UInt64) -> GPUDriver {
    var driver = GPUDriver(GPU(Layout.configuration), seed: seed)
    for number in 0..<UInt64(4) { driver.write(Layout.input(number), Layout.content(number), at: 0) }
    driver.write(Layout.flag, [4], at: 0)
    for number in 0..<UInt64(4) { driver.launch(Layout.kernel(number), number, at: 0) }
    return driver
  }

  @Test(
    "stopped at any moment, with or without P2P states, and moved: the same memory, results and doorbells",
    arguments: [true, false])
  func everyMoment(hasP2P: Bool) throws {
    var plain = Self.loaded(seed: 1)
    plain.run()
    #expect(plain.gpu.finished == 4)
    for moment in stride(from: UInt64(0), to: 260, by: 1) {
      var driver = Self.loaded(seed: moment)
      driver.run(until: moment)
      if hasP2P {
        driver.go(to: .runningP2P, at: moment)
        driver.run(until: driver.now + moment % 90)
      }
      driver.go(to: .stopCopy, at: driver.now)
      var other = try driver.move(at: driver.now)
      #expect((0..<other.gpu.recordCount).allSatisfy { other.gpu.record($0) == driver.gpu.record($0) })
      if hasP2P {
        other.go(to: .runningP2P, at: other.now)
        other.run(until: other.now + moment % 50)
      }
      other.go(to: .running, at: other.now)
      other.run()
      #expect(driver.violations.isEmpty && other.violations.isEmpty)
      #expect(other.gpu.memory == plain.gpu.memory, "moment \(moment)")
      let sent = driver.accesses + other.accesses
      for address in [Layout.peer] + (0..<UInt64(4)).map({ Layout.result + 8 * $0 }) {
        #expect(
          sent.filter { $0.address == address }.map(\.words)
            == plain.accesses.filter { $0.address == address }.map(\.words), "moment \(moment)")
      }
    }
  }

  @Test("what is stopped again and again, in the middle of words too, works for exactly as long as what is not")
  func time() {
    var configuration = Layout.configuration
    configuration.arcMicroseconds = 0
    func loaded() -> GPUDriver {
      var driver = GPUDriver(GPU(configuration))
      driver.launch(Layout.kernel(0, waits: false), 0, at: 0)
      return driver
    }
    var plain = loaded()
    plain.run()
    var driver = loaded()
    for round in 0..<UInt64(30) {
      driver.put(.setState(.stop, number: 2 * round), at: 1 + 5 * round)
      driver.put(.setState(.running, number: 2 * round + 1), at: 4 + 5 * round)
    }
    driver.run()
    // It runs for two microseconds out of five, and before the first stop for one.
    let work = plain.accesses[0].time
    #expect(work == 60 && driver.accesses[0].time == 1 + 3 + (work - 1) / 2 * 5 + (work - 1) % 2)
    #expect(driver.accesses.map(\.words) == plain.accesses.map(\.words) && driver.gpu.memory == plain.gpu.memory)
  }

  @Test("the records that changed are those listed, and what was loaded is listed too")
  func changedRecords() {
    var driver = GPUDriver(GPU(Layout.configuration))
    #expect(driver.gpu.changedRecords == 42)
    var taken = driver.gpu.takeChangedRecords()
    #expect(taken == Array(0..<42))
    driver.write(Page.address(9) + 56, [1, 2], at: 1)
    driver.run()
    taken = driver.gpu.takeChangedRecords()
    #expect(taken == [11, 12])
    var before = (0..<42).map { driver.gpu.record($0) }
    var random = SeededGenerator(seed: 4)
    for number in 0..<UInt64(40) {
      driver.launch(Layout.kernel(number, words: 1 + random.next(below: 20), waits: false), number, at: 100 * number)
      if number % 4 == 3 {
        driver.put(.setState(number % 8 == 3 ? .runningP2P : .running, number: number), at: 100 * number)
      }
      driver.run(until: 100 * number + UInt64(random.next(below: 100)))
      taken = driver.gpu.takeChangedRecords()
      for index in 0..<42 {
        let record = driver.gpu.record(index)
        if record != before[index] { #expect(taken.contains(index), "record \(index)") }
        before[index] = record
      }
    }
  }

  @Test("records of any length and content are errors or are taken, and a GPU that took them runs on")
  func randomImages() {
    var random = SeededGenerator(seed: 5)
    var (taken, refused) = (0, 0)
    for _ in 0..<400 {
      var source = Self.loaded(seed: 2)
      source.run(until: UInt64(random.next(below: 250)))
      var driver = GPUDriver(GPU(Layout.configuration))
      driver.go(to: .stop, at: 0)
      driver.go(to: .resuming, at: driver.now)
      for _ in 0..<40 {
        let index = random.next(below: 5) == 0 ? random.next(below: 100) - 20 : random.next(below: 4)
        var words = (0..<42).contains(index) ? source.gpu.record(index) : []
        switch random.next(below: 5) {
        case 0: words.append(random.next())
        case 1: words = words.dropLast(1 + random.next(below: 3))
        case 2 where !words.isEmpty: words[random.next(below: words.count)] = random.next()
        case 3 where !words.isEmpty: words[random.next(below: words.count)] = UInt64(random.next(below: 9))
        default: break
        }
        let before = (0..<42).map { driver.gpu.record($0) }
        do {
          try driver.gpu.load(index, words)
          #expect(driver.gpu.record(index) == words)
          taken += 1
        } catch {
          #expect((0..<42).map { driver.gpu.record($0) } == before)
          refused += 1
        }
      }
      driver.go(to: .stop, at: driver.now)
      driver.go(to: .running, at: driver.now)
      driver.run()
      #expect(driver.gpu.head <= driver.gpu.tail)
    }
    #expect(taken > 1000 && refused > 1000)
  }

  @Test("each thing that can be wrong has its error")
  func errors() {
    var gpu = GPUDriver(GPU(Layout.configuration))
    #expect(throws: DeviceImageError.notResuming) { try gpu.gpu.load(0, gpu.gpu.record(0)) }
    gpu.go(to: .stop, at: 0)
    gpu.go(to: .resuming, at: 10)
    #expect(throws: DeviceImageError.noSuchRecord) { try gpu.gpu.load(42, []) }
    #expect(throws: DeviceImageError.noSuchRecord) { try gpu.gpu.load(-1, []) }
    #expect(throws: DeviceImageError.wrongLength) { try gpu.gpu.load(0, []) }
    #expect(throws: DeviceImageError.wrongLength) { try gpu.gpu.load(1, []) }
    #expect(throws: DeviceImageError.wrongLength) { try gpu.gpu.load(1, [1, 5]) }
    #expect(throws: DeviceImageError.wrongValue) { try gpu.gpu.load(1, [5] + Array(repeating: 0, count: 10)) }
    #expect(throws: DeviceImageError.wrongLength) {
      try gpu.gpu.load(2, Array(repeating: 0, count: 7))
    }
    var registers = gpu.gpu.record(0)
    registers[0] = 41
    #expect(throws: DeviceImageError.wrongKind) { try gpu.gpu.load(0, registers) }
    registers = gpu.gpu.record(0)
    registers[5] = 5
    #expect(throws: DeviceImageError.wrongValue) { try gpu.gpu.load(0, registers) }
  }
}
