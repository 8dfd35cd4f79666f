// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What the instructions do.
extension VirtualCPUs {
  /// What an instruction leads to.
  private enum Next {
    /// The next instruction.
    case goOn
    /// The counter was set already.
    case stay
    /// Nothing before that time has passed.
    case pause(UInt64)
    /// Nothing before that page was written.
    case wait(page: Int)
    /// The end.
    case halt
    /// The end, because memory was named that is not there.
    case fault
  }

  /// One slice.
  mutating func run(
    _ cpu: Int, _ memory: inout GuestMemory, at now: MonotonicTime, _ outputs: inout [Output]
  ) {
    let program = programs[cpu].instructions
    for _ in 0..<configuration.instructionsPerMicrosecond {
      let counter = cpus[cpu].counter
      let next = counter < program.count ? step(program[counter], cpu, &memory, &outputs) : .halt
      switch next {
      case .goOn: cpus[cpu].counter += 1
      case .stay: break
      case .pause(let microseconds):
        cpus[cpu].counter += 1
        schedule(cpu, after: microseconds, at: now, &outputs)
        return
      case .wait(let page):
        cpus[cpu].awaited = page
        waiters.insert(cpu, page: page)
        memory.watch(page: page, true)
        return
      case .fault, .halt:
        if case .fault = next { faults += 1 }
        cpus[cpu].isHalted = true
        outputs.append(.halted(cpu: cpu))
        return
      }
    }
    schedule(cpu, after: 1, at: now, &outputs)
  }

  private mutating func step(
    _ instruction: GuestProgram.Instruction, _ cpu: Int, _ memory: inout GuestMemory, _ outputs: inout [Output]
  ) -> Next {
    switch instruction {
    case .set(let register, let operand): cpus[cpu].registers[register] = value(operand, cpu)
    case .add(let register, let operand): cpus[cpu].registers[register] &+= value(operand, cpu)
    case .remainder(let register, let operand):
      let divisor = value(operand, cpu)
      if divisor > 0 { cpus[cpu].registers[register] %= divisor }
    case .multiply(let register, let operand): cpus[cpu].registers[register] &*= value(operand, cpu)
    case .and(let register, let operand): cpus[cpu].registers[register] &= value(operand, cpu)
    case .shiftRight(let register, let operand): cpus[cpu].registers[register] >>= value(operand, cpu)
    case .mix(let register, let operand):
      cpus[cpu].registers[register] = GuestProgram.mixed(cpus[cpu].registers[register], value(operand, cpu))
    case .load(let register, let place):
      guard let word = memory.content.word(address(place, cpu)) else { return .fault }
      cpus[cpu].registers[register] = word
    case .store(let place, let operand):
      return memory.writeByProcessor(address(place, cpu), value(operand, cpu)) ? .goOn : .fault
    case .transform(let from, let to, let words):
      return transform(address(from, cpu), address(to, cpu), value(words, cpu), cpu, &memory)
    case .wait(let place, let operand):
      guard let word = memory.content.word(address(place, cpu)) else { return .fault }
      return word >= value(operand, cpu) ? .goOn : .wait(page: Page.number(address(place, cpu)))
    case .pause(let operand):
      let microseconds = value(operand, cpu)
      return microseconds == 0 ? .goOn : .pause(microseconds)
    case .write(let node, let place, let operands):
      outputs.append(
        .write(node: node, address: address(place, cpu), words: operands.map { value($0, cpu) }))
    case .jump(let target):
      cpus[cpu].counter = target
      return .stay
    case .jumpIfLess(let register, let operand, let target):
      guard cpus[cpu].registers[register] < value(operand, cpu) else { return .goOn }
      cpus[cpu].counter = target
      return .stay
    case .map(let domain, let pages, let target, let index):
      guard let step = step(index, cpu) else { return .fault }
      outputs.append(.map(domain: domain, pages: pages.shifted(by: step), to: target + step))
    case .unmap(let domain, let pages, let index):
      guard let step = step(index, cpu) else { return .fault }
      outputs.append(.unmap(domain: domain, pages: pages.shifted(by: step)))
    case .reset(let node): outputs.append(.reset(node: node))
    case .halt: return .halt
    }
    return .goOn
  }

  /// How many pages further on a register says that something is; nil where there can't be so many.
  private func step(_ index: GuestProgram.PageIndex?, _ cpu: Int) -> Int? {
    guard let index else { return 0 }
    let steps = cpus[cpu].registers[index.register]
    return steps < 1 << 40 ? Int(steps) * index.stride : nil
  }

  /// One word of a transform.
  private mutating func transform(
    _ from: UInt64, _ to: UInt64, _ words: UInt64, _ cpu: Int, _ memory: inout GuestMemory
  ) -> Next {
    let done = cpus[cpu].done
    guard done < words else {
      cpus[cpu].done = 0
      return .goOn
    }
    guard let source = memory.content.range(from, done + 1), let target = memory.content.range(to, done + 1) else {
      return .fault
    }
    let word = GuestProgram.mixed(memory.content[source.upperBound - 1], UInt64(done))
    _ = memory.writeByProcessor(Page.address(ofWord: target.upperBound - 1), word)
    cpus[cpu].done += 1
    return .stay
  }
}

extension Range<Int> {
  fileprivate func shifted(by pages: Int) -> Range<Int> { lowerBound + pages..<upperBound + pages }
}
