// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

/// Drives virtual CPUs alone, on memory of their own.
struct CPUDriver {
  var cpus: VirtualCPUs
  var memory: GuestMemory
  var random: SeededGenerator
  var queue = EventQueue<VirtualCPUs.Input>()
  /// What they put out, but for what is to be handed back.
  var outputs: [VirtualCPUs.Output] = []
  var now: UInt64 = 0
  var steps = 0

  init(
    _ programs: [GuestProgram], pages: Int = 16, seed: UInt64 = 1, _ configuration: VirtualCPUs.Configuration = .init()
  ) {
    cpus = VirtualCPUs(programs, configuration)
    memory = GuestMemory(pages: pages)
    random = SeededGenerator(seed: seed)
  }

  mutating func handle(_ input: VirtualCPUs.Input, at time: UInt64) {
    now = time
    steps += 1
    for output in cpus.handle(input, &memory, at: MonotonicTime(microseconds: time), &random) {
      if case .later(let event, let time) = output {
        queue.put(.event(event), at: time)
      } else {
        outputs.append(output)
      }
    }
    for page in memory.takeTouched() { handle(.touched(page: page), at: time) }
  }

  /// A device writes.
  mutating func write(_ address: UInt64, _ word: UInt64, at time: UInt64) {
    guard let index = Page.wordIndex(address) else { return }
    memory.writeByDevice(wordAt: index, word)
    memory.note(page: Page.number(address))
    for page in memory.takeTouched() { handle(.touched(page: page), at: time) }
  }

  mutating func run(until end: UInt64 = .max) {
    while let next = queue.nextTime, next.microseconds <= end, let (time, input) = queue.take() {
      handle(input, at: time.microseconds)
    }
    if end != .max { now = max(now, end) }
  }
}

@Suite("Virtual CPUs and the guest's software")
struct VirtualCPUTests {
  typealias Address = GuestProgram.Address

  /// Ten times: wait for a completion, transform what came, put a request together, ring. Pages: 0 completions, 1 to 4 what
  /// came, 5 to 8 results, 10 to 13 requests.
  static let service = GuestProgram([
    .set(0, 0),
    .set(2, 0),
    .wait(0, atLeast: .register(0)),
    .transform(from: Address(Page.address(1), index: 2), to: Address(Page.address(5), index: 2), words: 8),
    .load(3, Address(Page.address(5), index: 2)),
    .mix(3, .register(0)),
    .store(Address(Page.address(10), index: 2), .register(3)),
    .pause(microseconds: 3),
    .store(Address(Page.address(10) + 8, index: 2), .register(0)),
    .write(node: 7, 4096, [.register(0), .register(3)]),
    .add(0, 1),
    .set(2, .register(0)),
    .remainder(2, 4),
    .jumpIfLess(0, 10, to: 2),
    .halt,
  ])

  /// A device answers each doorbell with new content and a completion, a little later.
  static func serve(_ driver: inout CPUDriver, stop: UInt64? = nil, until end: UInt64 = 5000) -> [[UInt64]] {
    var doorbells: [[UInt64]] = []
    var answers: [(time: UInt64, value: UInt64)] = []
    while driver.now < end {
      driver.run(until: driver.now)
      if let stop, driver.now == stop { return doorbells }
      for case .write(7, 4096, let words) in driver.outputs {
        doorbells.append(words)
        answers.append((driver.now + 6, words[0]))
      }
      driver.outputs.removeAll { if case .write = $0 { true } else { false } }
      for answer in answers where answer.time == driver.now {
        for word in 0..<UInt64(8) {
          driver.write(
            Page.address(1 + Int((answer.value + 1) % 4)) + 8 * word, answer.value &* 77 &+ word, at: driver.now)
        }
        driver.write(0, answer.value + 1, at: driver.now)
      }
      answers.removeAll { $0.time <= driver.now }
      driver.run(until: driver.now + 1)
    }
    return doorbells
  }

  @Test("a program waits for completions, works, posts requests and rings, and halts")
  func service() {
    var driver = CPUDriver([Self.service])
    driver.handle(.start, at: 0)
    let doorbells = Self.serve(&driver)
    #expect(doorbells.map(\.first) == Array(0..<10))
    #expect(driver.outputs == [.halted(cpu: 0)] && driver.cpus.areHalted && driver.cpus.faults == 0)
    // What came with the eighth completion, on page 1 + 8 % 4.
    let came = (0..<UInt64(8)).map { 7 &* 77 &+ $0 }
    let worked = came.enumerated().map { GuestProgram.mixed($1, UInt64($0)) }
    #expect(driver.memory.content.read(Page.address(5), 8) == worked)
    #expect(driver.memory.content.read(Page.address(10), 2) == [GuestProgram.mixed(worked[0], 8), 8])
    #expect(doorbells[8][1] == GuestProgram.mixed(worked[0], 8))
    #expect(Array(driver.memory.processorDirty) == [5, 6, 7, 8, 10, 11, 12, 13])
  }

  @Test(
    "stopped at any moment, and moved with registers and memory, it ends in the same memory, with the same doorbells")
  func everyMoment() throws {
    // What a device would bring is there from the start, and a second CPU passes on what it is rung for.
    let device = GuestProgram([
      .set(0, 0), .wait(Address(Page.address(10) + 8, index: nil), atLeast: 0), .add(0, 1), .pause(microseconds: 5),
      .store(0, .register(0)), .jumpIfLess(0, 10, to: 1), .halt,
    ])
    func prepared() -> CPUDriver {
      var driver = CPUDriver([Self.service, device], .init(instructionsPerMicrosecond: 2, pollMicroseconds: 0))
      for word in 8..<40 { driver.memory.writeByDevice(wordAt: word, SeededGenerator.mixed(UInt64(word))) }
      return driver
    }
    var plain = prepared()
    plain.handle(.start, at: 0)
    plain.run()
    #expect(plain.cpus.areHalted)
    for moment in 0...plain.now {
      var driver = prepared()
      driver.handle(.start, at: 0)
      driver.run(until: moment)
      driver.handle(.stop, at: moment)
      let memory = driver.memory
      driver.run(until: moment + 1000)
      #expect(driver.memory == memory)
      var other = CPUDriver([Self.service, device], .init(instructionsPerMicrosecond: 2, pollMicroseconds: 0))
      for page in 0..<16 { other.memory[page: page] = driver.memory[page: page] }
      try other.cpus.load(#require(driver.cpus.state))
      other.handle(.start, at: 5000)
      other.run()
      #expect(other.memory.content == plain.memory.content && other.cpus.areHalted, "moment \(moment)")
      #expect(driver.outputs.filter(isWrite) + other.outputs.filter(isWrite) == plain.outputs.filter(isWrite))
    }
  }

  private func isWrite(_ output: VirtualCPUs.Output) -> Bool { if case .write = output { true } else { false } }

  @Test("a CPU that waits takes no events, and goes on when its page is written and the word is enough")
  func waiting() {
    let program = GuestProgram([.wait(Address(Page.address(3) + 8), atLeast: 5), .store(0, 1), .halt])
    var driver = CPUDriver([program, program])
    driver.handle(.start, at: 0)
    driver.run()
    let steps = driver.steps
    driver.write(Page.address(2), 9, at: 10)
    driver.write(Page.address(3) + 8, 4, at: 20)
    driver.write(Page.address(3), 9, at: 30)
    #expect(driver.queue.isEmpty && driver.steps == steps + 2)
    driver.write(Page.address(3) + 8, 5, at: 40)
    driver.run()
    #expect(driver.cpus.areHalted && driver.memory.content.word(0) == 1)
    driver.write(Page.address(3) + 8, 6, at: 60)
    #expect(driver.memory.touched.isEmpty && driver.queue.isEmpty)
  }

  @Test("what was written while it was stopped is seen at the start")
  func writtenWhileStopped() {
    var driver = CPUDriver([GuestProgram([.wait(0, atLeast: 1), .halt])])
    driver.handle(.start, at: 0)
    driver.run()
    driver.handle(.stop, at: 5)
    driver.write(0, 1, at: 6)
    #expect(driver.queue.isEmpty)
    driver.handle(.start, at: 7)
    driver.run()
    #expect(driver.cpus.areHalted)
  }

  @Test("of two CPUs that wait for one page, the one that has what it wants goes on, and the other still waits")
  func onePageForTwo() {
    var driver = CPUDriver([GuestProgram([.wait(0, atLeast: 1), .halt]), GuestProgram([.wait(8, atLeast: 1), .halt])])
    driver.handle(.start, at: 0)
    driver.run()
    driver.write(0, 1, at: 10)
    driver.run()
    #expect(driver.outputs == [.halted(cpu: 0)])
    driver.write(8, 1, at: 20)
    driver.run()
    #expect(driver.outputs == [.halted(cpu: 0), .halted(cpu: 1)])
  }

  @Test("stopping and starting makes a CPU neither faster nor slower, and a pause goes on where it was")
  func time() {
    let program = GuestProgram(Array(repeating: .add(0, 1), count: 20) + [.pause(microseconds: 100), .store(0, 1)])
    var driver = CPUDriver([program], .init(instructionsPerMicrosecond: 1))
    driver.handle(.start, at: 0)
    for _ in 0..<5 {
      driver.run(until: driver.now + 2)
      driver.handle(.stop, at: driver.now)
      driver.handle(.start, at: driver.now)
    }
    driver.run(until: 60)
    driver.handle(.stop, at: 60)
    driver.handle(.start, at: 1000)
    driver.run()
    // Twenty microseconds of work, a hundred of pause, and one for the store.
    #expect(driver.now == 1000 - 60 + 121 && driver.memory.content.word(0) == 1)
  }

  @Test("the guest may map, unmap and reset, and what reaches beyond memory halts the CPU")
  func others() {
    let program = GuestProgram([
      .map(domain: 1, pages: 3..<5, to: 2), .unmap(domain: 1, pages: 3..<4), .reset(node: 6), .jump(to: 4),
      .store(Address(Page.address(16)), 1),
    ])
    var driver = CPUDriver([program, GuestProgram([.set(1, 5), .add(1, .register(1)), .store(8, .register(1))])])
    driver.handle(.start, at: 0)
    driver.run()
    #expect(
      driver.outputs == [
        .map(domain: 1, pages: 3..<5, to: 2), .unmap(domain: 1, pages: 3..<4), .reset(node: 6), .halted(cpu: 0),
        .halted(cpu: 1),
      ])
    #expect(driver.cpus.faults == 1 && driver.memory.content.word(8) == 10)
  }

  @Test("a register moves what is mapped and where to; one that is too large halts the CPU")
  func mappingByRegister() {
    let program = GuestProgram([
      .set(2, 3), .map(domain: 0, pages: 100..<102, to: 10, index: .init(register: 2, stride: 2)),
      .unmap(domain: 0, pages: 100..<101, index: .init(register: 2)), .set(2, .constant(.max)),
      .unmap(domain: 0, pages: 100..<101, index: .init(register: 2)),
    ])
    var driver = CPUDriver([program])
    driver.handle(.start, at: 0)
    driver.run()
    #expect(
      driver.outputs == [
        .map(domain: 0, pages: 106..<108, to: 16), .unmap(domain: 0, pages: 103..<104), .halted(cpu: 0),
      ])
    #expect(driver.cpus.faults == 1)
  }

  @Test("states of any length and content are errors or are taken, and CPUs that took them run on")
  func randomStates() throws {
    var random = SeededGenerator(seed: 8)
    var (taken, refused) = (0, 0)
    for _ in 0..<2000 {
      var driver = CPUDriver([Self.service, GuestProgram([.halt])])
      driver.write(0, 4, at: 0)
      var words = try #require(driver.cpus.state)
      switch random.next(below: 4) {
      case 0: words.removeLast(1 + random.next(below: words.count))
      case 1: words.append(0)
      case 2: words[random.next(below: words.count)] = random.next()
      default: words[random.next(below: words.count)] = UInt64(random.next(below: 16))
      }
      do {
        try driver.cpus.load(words)
        #expect(driver.cpus.state == words)
        taken += 1
      } catch {
        #expect(driver.cpus.cpus == CPUDriver([Self.service, GuestProgram([.halt])]).cpus.cpus)
        refused += 1
      }
      driver.handle(.start, at: 0)
      #expect(driver.cpus.state == nil)
      #expect(throws: VirtualCPUs.StateError.running) { try driver.cpus.load(words) }
      driver.run()
    }
    #expect(taken > 500 && refused > 500)
  }
}
