// SPDX-License-Identifier: Apache-2.0
import Migration

@testable import Simulation

/// Drives a GPU alone: what it sends, and when.
struct GPUDriver {
  struct Access: Hashable {
    let time: UInt64
    let address: UInt64
    let words: [UInt64]
  }

  var gpu: GPU
  var random: SeededGenerator
  var queue = EventQueue<GPU.Input>()
  var accesses: [Access] = []
  var replies: [FabricPacket.Body] = []
  /// The commands that were answered, and when.
  var answered: [(number: UInt64, time: UInt64)] = []
  /// What arrived where it must not.
  var violations: [FabricPacket] = []
  var now: UInt64 = 0
  var steps = 0

  init(_ gpu: GPU, seed: UInt64 = 1) {
    self.gpu = gpu
    random = SeededGenerator(seed: seed)
  }

  mutating func put(_ input: GPU.Input, at time: UInt64) {
    queue.put(input, at: MonotonicTime(microseconds: time))
  }

  mutating func write(_ address: UInt64, _ words: [UInt64], at time: UInt64) {
    put(.packet(FabricPacket(from: 0, to: 1, .write(address: address, words: words))), at: time)
  }

  /// Puts a kernel into the ring. - Parameter number: how many there were before.
  mutating func launch(_ kernel: GPUKernel, _ number: UInt64, at time: UInt64) {
    write(gpu.ringAddress(number), kernel.words, at: time)
    write(gpu.doorbellAddress, [number + 1], at: time)
  }

  /// Runs up to and with a time, or to the end.
  mutating func run(until end: UInt64 = .max) {
    while let next = queue.nextTime, next.microseconds <= end, let (time, input) = queue.take() {
      now = time.microseconds
      steps += 1
      for output in gpu.handle(input, at: time, &random) {
        switch output {
        case .access(let address, let words):
          accesses.append(Access(time: now, address: address, words: words))
        case .reply(let body, _): replies.append(body)
        case .commandReply(let number): answered.append((number, now))
        case .later(let event, let time): queue.put(.event(event), at: time)
        case .arrivedWhileStopped(let packet): violations.append(packet)
        }
      }
    }
    if end != .max { now = max(now, end) }
  }

  /// Asks for a state, and waits until the driver has its answer.
  mutating func go(to state: MigrationState, at time: UInt64) {
    put(.setState(state, number: 1000 + time), at: time)
    let before = answered.count
    while answered.count == before, let next = queue.nextTime { run(until: next.microseconds) }
  }

  /// The rest of the kernels on another GPU, which gets all records of this one's image.
  mutating func move(at time: UInt64) throws -> GPUDriver {
    var other = GPUDriver(GPU(gpu.configuration), seed: random.next())
    other.go(to: .stop, at: time)
    other.go(to: .resuming, at: other.now)
    for index in (0..<gpu.recordCount).reversed() { try other.gpu.load(index, gpu.record(index)) }
    other.go(to: .stop, at: other.now)
    return other
  }
}

/// Where things are in the memory of the GPUs of these tests: the ring, then flags, inputs and outputs.
enum GPULayout {
  static let configuration = GPU.Configuration(
    memoryPages: 40, ringPage: 0, ringEntries: 4, microsecondsPerWord: 3, arcMicroseconds: 7)
  static let flag = Page.address(4)
  static let peer = Page.address(100)
  static let result = Page.address(200)

  static func input(_ number: UInt64) -> UInt64 { Page.address(8 + 4 * Int(number % 4)) }
  static func output(_ number: UInt64) -> UInt64 { Page.address(24 + 4 * Int(number % 4)) }

  /// The n-th kernel: it waits for the flag to be its number and one.
  static func kernel(_ number: UInt64, words: Int = 20, waits: Bool = true) -> GPUKernel {
    var kernel = GPUKernel()
    kernel.flag = flag
    kernel.flagValue = waits ? number + 1 : 0
    kernel.input = input(number)
    kernel.output = output(number)
    kernel.count = words
    kernel.doorbell = peer
    kernel.doorbellValue = number + 1
    kernel.result = result + 8 * (number % 8)
    return kernel
  }

  static func content(_ number: UInt64, words: Int = 20) -> [UInt64] {
    (0..<words).map { SeededGenerator.mixed(number << 32 | UInt64($0)) }
  }

  /// What a kernel makes of its input, worked out again.
  static func expected(_ input: [UInt64]) -> [UInt64] {
    input.enumerated().map { GPUKernel.transformed($1, at: $0) }
  }
}
