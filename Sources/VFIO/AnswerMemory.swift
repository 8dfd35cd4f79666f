// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration

/// Has the kernel add its answers to bitmaps, for one tracker, with memory for those that can't be written straight into a
/// bitmap's words. It is kept from one reading to the next.
///
/// It is locked: where the kernel can't write, most of these calls say nothing, and what they had to tell is gone.
///
/// Most of an answer about a large guest is zeros. Where it is not is found out once, and only there is it added, and made
/// zero again for the next.
struct AnswerMemory: ~Copyable {
  /// For messages: whose answers these are.
  let kind: TrackerKind
  private var words: LockedWords?
  /// Where the last answer is not zero, in words; all others are.
  private var used: [Range<Int>] = []

  init(_ kind: TrackerKind) { self.kind = kind }

  /// Adds to a bitmap what the kernel says of some I/O addresses. It writes into the bitmap itself where that is possible,
  /// and otherwise here.
  /// - Parameters:
  ///   - addresses: asked for, in whole pages of that size.
  ///   - pageSize: bytes that a bit of the answer stands for.
  ///   - runs: those that have some of the addresses, in their order.
  ///   - call: asks for just these addresses. It only ever sets bits, and leaves all others as they are.
  mutating func add<Words: DirtyWords & ~Copyable>(
    _ addresses: Range<UInt64>, pageSize: UInt64, of runs: some BidirectionalCollection<MappedRun>,
    to bitmap: inout DirtyBitmap<Words>, _ call: (AnswerWords) throws(SystemError) -> Void
  ) throws(TrackerError) {
    if let first = runs.first, Self.areOneRun(runs, addresses) {
      let answer = DirtyAnswer(
        base: addresses.lowerBound, pageSize: pageSize, addresses: addresses, guest: first.guest)
      let isAdded = try kind.asking(.read) { () throws(SystemError) in
        try bitmap.add(answer) { address, words throws(SystemError) in
          try call(AnswerWords(address: address, count: words))
        }
      }
      if isAdded { return }
    }
    try ask((addresses.upperBound - addresses.lowerBound) / pageSize, call)
    for run in runs {
      let part = run.addresses.clamped(to: addresses)
      let answer = DirtyAnswer(
        base: addresses.lowerBound, pageSize: pageSize, addresses: part,
        guest: run.guest + (part.lowerBound - run.addresses.lowerBound))
      try add(answer, to: &bitmap)
    }
  }

  /// Whether the runs have just these addresses, and lie in the guest as one run would.
  private static func areOneRun(_ runs: some BidirectionalCollection<MappedRun>, _ addresses: Range<UInt64>) -> Bool {
    guard let first = runs.first, let last = runs.last, first.addresses.lowerBound == addresses.lowerBound,
      last.addresses.upperBound == addresses.upperBound
    else { return false }
    return zip(runs, runs.dropFirst()).allSatisfy { run, next in
      next.addresses.lowerBound == run.addresses.upperBound && next.guest == run.guest + run.length
    }
  }

  /// Has the kernel write an answer over zeros.
  /// - Parameters:
  ///   - pages: how many bits it has.
  ///   - call: has as many words as they take, or more.
  mutating func ask(
    _ pages: UInt64, _ call: (AnswerWords) throws(SystemError) -> Void
  ) throws(TrackerError) {
    let needed = Int((pages + 63) / 64)
    do throws(SystemError) {
      var memory: LockedWords
      if let had = words.take(), had.count >= needed {
        memory = had
        for part in used { memory.clear(part) }
      } else {
        memory = try LockedWords(count: needed)
      }
      // After an error the memory is gone, with whatever the kernel has left there.
      try call(AnswerWords(memory))
      used = memory.used(needed)
      words = consume memory
    } catch {
      throw TrackerError(kind, .read, .errno(ErrorNumber(rawValue: error.errno)))
    }
  }

  /// Adds the last answer, or a part of it, to a bitmap.
  mutating func add<Words: DirtyWords & ~Copyable>(
    _ answer: DirtyAnswer, to bitmap: inout DirtyBitmap<Words>
  ) throws(TrackerError) {
    guard let memory = words.take() else { preconditionFailure("an answer comes before it is used") }
    /// Bytes that a word stands for.
    let wordBytes = answer.pageSize * 64
    var index = firstUsed(after: (answer.addresses.lowerBound - answer.base) / wordBytes)
    do throws(DirtyBitmapError) {
      try memory.withWords { span throws(DirtyBitmapError) in
        while index < used.count {
          let low = answer.base + UInt64(used[index].lowerBound) * wordBytes
          let end = answer.addresses.upperBound
          if low >= end { break }
          // The last word may stand for more than there is, and end beyond 64 bits.
          let isLast = (end - low - 1) / wordBytes < UInt64(used[index].count)
          let high = isLast ? end : low + UInt64(used[index].count) * wordBytes
          let part = answer.addresses.clamped(to: low..<high)
          let guest = answer.guest + (part.lowerBound - answer.addresses.lowerBound)
          try bitmap.union(
            span, DirtyAnswer(base: answer.base, pageSize: answer.pageSize, addresses: part, guest: guest))
          index += 1
        }
      }
    } catch {
      throw TrackerError(kind, .read, .bitmap(error))
    }
    words = consume memory
  }

  /// The first used words of which some are not before this one.
  private func firstUsed(after word: UInt64) -> Int {
    var low = 0
    var high = used.count
    while low < high {
      let middle = (low + high) / 2
      if UInt64(used[middle].upperBound) > word { high = middle } else { low = middle + 1 }
    }
    return low
  }
}

extension TrackerKind {
  /// Makes what the kernel answered an error of this kind of tracker.
  func asking<Result: ~Copyable>(
    _ operation: TrackerError.Operation, _ body: () throws(SystemError) -> Result
  ) throws(TrackerError) -> Result {
    do throws(SystemError) {
      return try body()
    } catch {
      throw TrackerError(self, operation, .errno(ErrorNumber(rawValue: error.errno)))
    }
  }
}
