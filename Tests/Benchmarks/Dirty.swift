// SPDX-License-Identifier: Apache-2.0
// Dirty pages of a guest with 1 TiB, in pages of 4 KiB, against C that does the same on the same memory and checks nothing.
import CBaseline
import Engine
import Glibc
import LinuxIO
import Migration

/// 1 TiB with the hole below 4 GiB that a PC has, as a layout and as the C program knows it.
private struct Guest {
  let layout: DirtyLayout

  init() throws {
    layout = try DirtyLayout(ranges: [0..<3 << 30, 4 << 30..<1025 << 30], pageSize: 4096)
    // The C program knows of whole words only.
    for part in layout.parts where part.pages % 64 != 0 { fail("a range that is not in whole words") }
  }

  /// The pages that are dirty, in random places.
  func words(percent: Int) -> PrivateWords {
    var words = PrivateWords(count: layout.wordCount)
    var seed: UInt64 = 1
    func next() -> UInt64 {
      seed ^= seed << 13
      seed ^= seed >> 7
      seed ^= seed << 17
      return seed
    }
    words.withMutableWords { words in
      switch percent {
      case 0: break
      case 50: for index in words.indices { words[index] = next() }
      case 100: for index in words.indices { words[index] = .max }
      default:
        let pages = words.count * 64
        for _ in 0..<pages / 100 * percent {
          let page = Int(next() % UInt64(pages))
          words[page / 64] |= 1 << UInt64(page % 64)
        }
      }
    }
    return words
  }
}

/// What is found when all runs are gone through.
private struct FoundRuns: Equatable {
  var runs: UInt64 = 0
  var bytes: UInt64 = 0
  var mixed: UInt64 = 0
}

/// Microseconds of processor time that this thread has had. Nothing here waits for anything, so it leaves out only what other
/// programs on the machine took.
func processorTime() -> Double {
  var time = timespec()
  if unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) != 0 { fail("no processor time") }
  return Double(time.tv_sec) * 1_000_000 + Double(time.tv_nsec) / 1000
}

/// Takes the time of both in turn. The first round only warms up.
/// - Returns: the median of what C took over what Swift took, and of what Swift took, in microseconds.
private func race(_ rounds: Int, mine: () -> Void, plain: () -> Void) -> (ratio: Double, mine: Double) {
  func time(_ work: () -> Void) -> Double {
    let begin = processorTime()
    work()
    return processorTime() - begin
  }
  var ratios: [Double] = []
  var times: [Double] = []
  for round in 0...rounds {
    // Who is second finds the caches as the first left them, so they take turns in that too.
    let early = round % 2 == 0 ? time(plain) : 0
    let own = time(mine)
    let theirs = round % 2 == 0 ? early : time(plain)
    if round == 0 { continue }
    ratios.append(theirs / own)
    times.append(own)
  }
  return (median(ratios), median(times))
}

private func gigabytes(_ bytes: Int, _ microseconds: Double) -> String {
  decimals(Double(bytes) / 1000 / microseconds, 1)
}

/// The words of a bitmap for the C program, which uses them while nobody else does.
private func plainWords(_ bitmap: inout DirtyBitmap<SharedWords>) -> UnsafeMutablePointer<UInt64> {
  unsafe bitmap.withMutableWords { words in
    unsafe words.withUnsafeMutableBufferPointer { words in words.baseAddress! }
  }
}

/// What memory gives, with as many words on each side as a bitmap has.
private func benchTriad(_ words: Int) -> () -> Void {
  let to = UnsafeMutablePointer<Double>.allocate(capacity: words)
  let from = UnsafeMutablePointer<Double>.allocate(capacity: words)
  unsafe to.initialize(repeating: 1, count: words)
  unsafe from.initialize(repeating: 1, count: words)
  return { unsafe pages_triad(to, from, words) }
}

/// Adding a bitmap to one that a VMM maps, counting, and going through the runs, all with so much dirty.
private func benchOperations(_ guest: Guest, percent: Int, triad: () -> Void) throws -> Bool {
  let layout = guest.layout
  let count = layout.wordCount
  var source = try DirtyBitmap(sharing: layout)
  try source.union(DirtyBitmap(layout: layout, words: guest.words(percent: percent)))
  var target = try DirtyBitmap(sharing: layout)
  // Fresh pages cost what has nothing to do with either program.
  target.markAll()
  target.clearAll()
  let plainSource = unsafe plainWords(&source)
  let plainTarget = unsafe plainWords(&target)

  let union = race(
    21, mine: { try? target.union(source) }, plain: { unsafe pages_union(plainTarget, plainSource, count) })
  let memory = race(21, mine: { try? target.union(source) }, plain: triad)
  if target.count != source.count { fail("the union lost pages") }

  var ones = 0
  var plainOnes = 0
  let counting = race(
    21, mine: { ones = source.count }, plain: { unsafe plainOnes = pages_count(plainSource, count) })
  if ones != plainOnes { fail("\(ones) dirty pages counted, and \(plainOnes) in C") }

  var found = FoundRuns()
  var plainFound = pages_runs()
  var allocations: UInt = 0
  let running = race(
    percent == 50 ? 7 : 21,
    mine: {
      let before = pages_allocations()
      found = runs(of: source)
      allocations = pages_allocations() - before
    },
    plain: {
      plainFound = pages_runs()
      for part in layout.parts {
        unsafe pages_runs(plainSource + part.firstWord, part.words, part.range.lowerBound, &plainFound)
      }
    })
  if found != FoundRuns(runs: plainFound.runs, bytes: plainFound.bytes, mixed: plainFound.mixed) {
    fail("\(found) found, and in C \(plainFound)")
  }
  print(
    """
    \(percent) % of 1 TiB dirty, against C: union \(decimals(union.ratio)), count \(decimals(counting.ratio)), \
    \(found.runs) runs \(decimals(running.ratio)) with \(allocations) allocations; union at \(decimals(memory.ratio)) of \
    memory (\(gigabytes(24 * count, union.mine)) GB/s; count \(gigabytes(8 * count, counting.mine)) GB/s, runs \
    \(gigabytes(8 * count, running.mine)) GB/s)
    """)
  let holds = [
    promise(union.ratio >= 0.9, "union at 0.9 or more of C"),
    promise(counting.ratio >= 0.9, "count at 0.9 or more of C"),
    promise(running.ratio >= 0.9, "runs at 0.9 or more of C"),
    promise(memory.ratio >= 0.7, "union at 0.7 or more of memory bandwidth"),
    promise(allocations <= 16, "no allocation per run"),
  ]
  return !holds.contains(false)
}

/// Not inlined into the measurement, as little as the C function is.
@inline(never)
private func runs(of bitmap: borrowing DirtyBitmap<SharedWords>) -> FoundRuns {
  var found = FoundRuns()
  bitmap.forEachRun { run in
    found.runs &+= 1
    found.bytes &+= run.upperBound &- run.lowerBound
    found.mixed ^= run.lowerBound &+ 2 &* run.upperBound
    return true
  }
  return found
}

/// What is promised not to happen must be seen when it does.
private func checkAllocationsAreCounted(_ pages: Int) {
  let before = pages_allocations()
  let memory = [UInt64](repeating: 0, count: pages)
  if pages_allocations() == before || memory.count != pages { fail("allocations are not counted") }
}

func benchDirtyPages() throws -> Bool {
  checkAllocationsAreCounted(CommandLine.arguments.count + 1000)
  let guest = try Guest()
  let triad = benchTriad(guest.layout.wordCount)
  var holds = true
  for percent in [0, 1, 50, 100] where try !benchOperations(guest, percent: percent, triad: triad) { holds = false }
  return holds
}
