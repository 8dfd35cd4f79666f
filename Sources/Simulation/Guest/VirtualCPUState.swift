// SPDX-License-Identifier: Apache-2.0

/// The CPUs' state as the VMM moves it: the number of CPUs, then for each its program counter, whether it is halted, the
/// microseconds that it still pauses, the words of a transform that are done, and its registers.
///
/// What a CPU waits for is not in it: its program counter is at the instruction that polls.
extension VirtualCPUs {
  /// Why a state can't be loaded.
  enum StateError: Error, Hashable, Sendable {
    /// The CPUs run.
    case running
    /// It is longer or shorter than that of so many CPUs.
    case wrongLength(words: Int)
    /// It says what can't be of this CPU.
    case nonsense(cpu: Int)
  }

  private static let wordsPerCPU = 4 + GuestProgram.registers

  /// The state; nil while they run.
  var state: [UInt64]? {
    guard !areRunning else { return nil }
    return cpus.reduce(into: [UInt64(cpus.count)]) { words, cpu in
      words += [UInt64(cpu.counter), cpu.isHalted ? 1 : 0, cpu.wake, UInt64(cpu.done)] + cpu.registers
    }
  }

  /// Loads a state. Where that fails, nothing has changed.
  mutating func load(_ words: [UInt64]) throws(StateError) {
    guard !areRunning else { throw .running }
    guard words.count == 1 + cpus.count * Self.wordsPerCPU, words[0] == UInt64(cpus.count) else {
      throw .wrongLength(words: words.count)
    }
    var loaded: [CPU] = []
    for (number, program) in programs.enumerated() {
      let start = 1 + number * Self.wordsPerCPU
      guard words[start] <= UInt64(program.instructions.count), words[start + 1] <= 1,
        let done = Int(exactly: words[start + 3]), done < Int.max
      else { throw .nonsense(cpu: number) }
      var cpu = CPU()
      cpu.turn = cpus[number].turn
      cpu.counter = Int(words[start])
      cpu.isHalted = words[start + 1] == 1
      cpu.wake = words[start + 2]
      cpu.done = done
      cpu.registers = Array(words[start + 4..<start + Self.wordsPerCPU])
      loaded.append(cpu)
    }
    cpus = loaded
  }
}
