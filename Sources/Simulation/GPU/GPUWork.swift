// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// How kernels run: one after the other, each from its flag to its doorbell.
extension GPU {
  /// Does the work of the time that has passed.
  mutating func catchUp(to now: MonotonicTime) {
    let elapsed = min(now.microseconds(since: time), .max / 2)
    time = now
    guard state.mayWriteMemory, var work = current, work.hasStarted, work.done < work.kernel.count,
      let input = memory.range(work.kernel.input, work.kernel.count),
      let output = memory.range(work.kernel.output, work.kernel.count)
    else { return }
    let total = work.worked + elapsed
    let left = work.kernel.count - work.done
    let count = min(left, Int(clamping: total / configuration.microsecondsPerWord))
    for index in work.done..<work.done + count {
      let word = GPUKernel.transformed(memory[input.lowerBound + index], at: index)
      store(output.lowerBound + index, word)
      work.digest = GPUKernel.extended(work.digest, with: word)
    }
    work.done += count
    work.worked = count == left ? 0 : total - UInt64(count) * configuration.microsecondsPerWord
    current = work
    dirty.insert(GPU.registersRecord)
  }

  /// Goes as far as it can without time: ends a kernel, rings, begins the next.
  mutating func proceed(at now: MonotonicTime, _ outputs: inout [Output]) {
    guard state.mayWriteMemory else { return }
    if state.mayStartPeerTransfers, !keptDoorbells.isEmpty {
      for doorbell in keptDoorbells { outputs.append(.access(address: doorbell.address, words: [doorbell.value])) }
      keptDoorbells = []
      dirty.insert(GPU.doorbellsRecord)
    }
    while current != nil || fetch() {
      guard var work = current else { return }
      if !work.hasStarted {
        guard let flag = memory.word(work.kernel.flag), flag >= work.kernel.flagValue else { return }
        work.hasStarted = true
        current = work
        dirty.insert(GPU.registersRecord)
      }
      if work.done < work.kernel.count {
        if isScheduled { return }
        isScheduled = true
        let left = UInt64(work.kernel.count - work.done) * configuration.microsecondsPerWord - work.worked
        outputs.append(.later(.kernel, at: now.adding(microseconds: left)))
        return
      }
      finish(work, &outputs)
    }
  }

  /// Takes the next kernel from the ring. - Returns: whether there is one that can be run.
  private mutating func fetch() -> Bool {
    // Each kernel may leave a doorbell to be kept: no more than the image has room for.
    while head < tail, keptDoorbells.count < configuration.ringEntries {
      dirty.insert(GPU.registersRecord)
      let start = Int(ringAddress(head) / Page.bytes) * Page.words
      if let kernel = GPUKernel(words: memory.words[start..<start + Page.words], memory: memory) {
        current = Current(kernel: kernel)
        return true
      }
      head += 1
      refused &+= 1
    }
    return false
  }

  private mutating func finish(_ work: Current, _ outputs: inout [Output]) {
    if work.kernel.result != 0 { outputs.append(.access(address: work.kernel.result, words: [work.digest])) }
    if work.kernel.doorbell != 0 {
      if state.mayStartPeerTransfers {
        outputs.append(.access(address: work.kernel.doorbell, words: [work.kernel.doorbellValue]))
      } else {
        keptDoorbells.append(Doorbell(address: work.kernel.doorbell, value: work.kernel.doorbellValue))
        dirty.insert(GPU.doorbellsRecord)
      }
    }
    current = nil
    isScheduled = false
    head += 1
    finished &+= 1
    dirty.insert(GPU.registersRecord)
  }
}
