// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// The virtual CPUs of a guest, with the software on them.
///
/// A CPU runs in slices of a microsecond, so that it is in the middle of something whenever it is stopped, and waits without
/// events: whoever drives it tells when a page was written that ``GuestMemory`` says is watched. All CPUs stop and start at
/// once. What they have in their registers is moved as the VMM's own blob; their programs are a part of the guest, the same on
/// both sides.
struct VirtualCPUs: Sendable {
  /// How fast they are.
  struct Configuration: Hashable, Sendable {
    /// Instructions, or words of a transform, in a microsecond; at least 1.
    var instructionsPerMicrosecond = 8
    /// A CPU that polls sees what it waits for by chance up to so many microseconds later.
    var pollMicroseconds: UInt64 = 1
  }

  /// What can happen to them.
  enum Input: Hashable, Sendable {
    /// They go on from where they are.
    case start
    /// They stop at once.
    case stop
    /// What they asked to get back.
    case event(Event)
    /// A watched page was written.
    case touched(page: Int)
  }

  /// To be handed back at its time.
  struct Event: Hashable, Sendable {
    fileprivate let cpu: Int
    fileprivate let turn: UInt64
  }

  /// What follows.
  enum Output: Hashable, Sendable {
    /// Hand this back at that time.
    case later(Event, at: MonotonicTime)
    /// A posted write to the function at a node, at an address behind its BAR.
    case write(node: Int, address: UInt64, words: [UInt64])
    /// The guest's virtual IOMMU is to be changed; who tracks dirty pages has a word in it.
    case map(domain: Int, pages: Range<Int>, to: Int)
    /// The same.
    case unmap(domain: Int, pages: Range<Int>)
    /// A function is to be reset.
    case reset(node: Int)
    /// A CPU has come to its end.
    case halted(cpu: Int)
  }

  struct CPU: Hashable, Sendable {
    /// The instruction that comes next, or is in the middle.
    var counter = 0
    var registers = [UInt64](repeating: 0, count: GuestProgram.registers)
    /// Words of a transform that are done.
    var done = 0
    var isHalted = false
    /// When it goes on; while it is stopped, microseconds from the start on.
    var wake: UInt64 = 0
    /// The page that it waits for; -1 is none.
    var awaited = -1
    /// Tells its event from older ones.
    var turn: UInt64 = 0
  }

  /// How fast they are.
  let configuration: Configuration
  /// What each runs.
  let programs: [GuestProgram]
  /// Whether they run.
  private(set) var areRunning = false
  /// CPUs that were halted because they touched memory that is not there.
  var faults = 0
  var cpus: [CPU]
  /// Which of them wait for what.
  var waiters = PageWaiters()

  /// One CPU for each program, stopped at its beginning.
  init(_ programs: [GuestProgram], _ configuration: Configuration = Configuration()) {
    precondition(configuration.instructionsPerMicrosecond > 0 && programs.allSatisfy(\.isWellFormed))
    self.programs = programs
    self.configuration = configuration
    cpus = Array(repeating: CPU(), count: programs.count)
  }

  /// Whether all have come to their end.
  var areHalted: Bool { cpus.allSatisfy(\.isHalted) }

  mutating func handle(
    _ input: Input, _ memory: inout GuestMemory, at now: MonotonicTime, _ random: inout SeededGenerator
  ) -> [Output] {
    var outputs: [Output] = []
    switch input {
    case .start: start(at: now, &outputs)
    case .stop: stop(&memory, at: now)
    case .event(let event):
      guard areRunning, cpus[event.cpu].turn == event.turn else { break }
      run(event.cpu, &memory, at: now, &outputs)
    case .touched(let page):
      var next = waiters.next(page: page, from: 0)
      while let cpu = next {
        if isSatisfied(cpu, memory) {
          release(cpu, &memory)
          let delay = UInt64(random.next(below: Int(configuration.pollMicroseconds) + 1))
          schedule(cpu, after: delay, at: now, &outputs)
        }
        next = waiters.next(page: page, from: cpu + 1)
      }
    }
    return outputs
  }

  private mutating func start(at now: MonotonicTime, _ outputs: inout [Output]) {
    guard !areRunning else { return }
    areRunning = true
    for cpu in cpus.indices where !cpus[cpu].isHalted { schedule(cpu, after: cpus[cpu].wake, at: now, &outputs) }
  }

  private mutating func stop(_ memory: inout GuestMemory, at now: MonotonicTime) {
    guard areRunning else { return }
    areRunning = false
    for cpu in cpus.indices {
      release(cpu, &memory)
      cpus[cpu].turn += 1
      cpus[cpu].wake = MonotonicTime(microseconds: cpus[cpu].wake).microseconds(since: now)
    }
  }

  mutating func schedule(
    _ cpu: Int, after microseconds: UInt64, at now: MonotonicTime, _ outputs: inout [Output]
  ) {
    let time = now.adding(microseconds: microseconds)
    cpus[cpu].turn += 1
    cpus[cpu].wake = time.microseconds
    outputs.append(.later(Event(cpu: cpu, turn: cpus[cpu].turn), at: time))
  }

  /// It waits no more.
  private mutating func release(_ cpu: Int, _ memory: inout GuestMemory) {
    let page = cpus[cpu].awaited
    guard page >= 0 else { return }
    cpus[cpu].awaited = -1
    if waiters.remove(cpu, page: page) { memory.watch(page: page, false) }
  }

  private func isSatisfied(_ cpu: Int, _ memory: GuestMemory) -> Bool {
    let program = programs[cpu].instructions
    guard program.indices.contains(cpus[cpu].counter), case .wait(let place, let value) = program[cpus[cpu].counter]
    else { return true }
    return memory.content.word(address(place, cpu)) ?? 0 >= self.value(value, cpu)
  }

  func value(_ operand: GuestProgram.Operand, _ cpu: Int) -> UInt64 {
    switch operand {
    case .constant(let value): value
    case .register(let register): cpus[cpu].registers[register]
    }
  }

  func address(_ address: GuestProgram.Address, _ cpu: Int) -> UInt64 {
    address.base &+ (address.index.map { cpus[cpu].registers[$0] &* address.stride } ?? 0)
  }
}
