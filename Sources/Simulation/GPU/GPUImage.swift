// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// The image of a GPU, as records of words.
///
/// | record | words |
/// |---|---|
/// | 0, registers | what the GPU must be like (memory, ring, speed), the ring's two numbers, the counts, and the kernel whose turn it is: as it was read, whether it has started, words and microseconds done, digest so far |
/// | 1, doorbells | how many are kept, and the address and value of each |
/// | 2 and on | the memory, page by page; the ring is a part of it |
///
/// Not in it: the state, a command under way, and the time at which the kernel will end, which is worked out anew from what is
/// left of it. Records may come in any order, and again; the last one counts.
extension GPU {
  static let registersRecord = 0
  static let doorbellsRecord = 1
  static let firstMemoryRecord = 2
  private static let registersWords = 9 + Page.words + 4

  /// How many records an image has.
  var recordCount: Int { GPU.firstMemoryRecord + configuration.memoryPages }

  /// What its image and it must agree in.
  private var kind: [UInt64] {
    [configuration.memoryPages, configuration.ringPage, configuration.ringEntries].map { UInt64($0) }
      + [configuration.microsecondsPerWord]
  }

  /// A record, which must be one of ``recordCount``, as of the last input. Of a GPU that runs it is out of date with the next.
  func record(_ index: Int) -> [UInt64] {
    switch index {
    case GPU.registersRecord:
      let work = current ?? Current(kernel: GPUKernel())
      let progress: [UInt64] = [work.hasStarted ? 1 : 0, UInt64(work.done), work.worked, work.digest]
      return kind + [head, tail, finished, refused, current == nil ? 0 : 1] + work.kernel.words + progress
    case GPU.doorbellsRecord:
      return [UInt64(keptDoorbells.count)] + keptDoorbells.flatMap { [$0.address, $0.value] }
    default:
      let start = (index - GPU.firstMemoryRecord) * Page.words
      return Array(memory.words[start..<start + Page.words])
    }
  }

  /// The records that changed since they were last taken, from the first on. After a reset, and at the beginning, that is all
  /// of them. It costs by what changed.
  mutating func takeChangedRecords() -> [Int] {
    var records: [Int] = []
    records.reserveCapacity(dirty.count)
    while let record = dirty.takeFirst(from: records.last ?? 0) { records.append(record) }
    return records
  }

  /// How many records changed since they were last taken.
  var changedRecords: Int { dirty.count }

  /// Loads a record. Where that fails, nothing has changed.
  mutating func load(_ index: Int, _ words: [UInt64]) throws(DeviceImageError) {
    guard state == .resuming else { throw .notResuming }
    guard index >= 0, index < recordCount else { throw .noSuchRecord }
    switch index {
    case GPU.registersRecord: try loadRegisters(words)
    case GPU.doorbellsRecord: try loadDoorbells(words)
    default:
      guard words.count == Page.words else { throw .wrongLength }
      let start = (index - GPU.firstMemoryRecord) * Page.words
      for (offset, word) in words.enumerated() { memory[start + offset] = word }
    }
    dirty.insert(index)
    missing.remove(index)
  }

  /// Whether every record was loaded since it entered RESUMING.
  func checkLoaded() throws(DeviceImageError) {
    guard missing.isEmpty else { throw .incomplete }
  }

  private mutating func loadRegisters(_ words: [UInt64]) throws(DeviceImageError) {
    guard words.count == GPU.registersWords else { throw .wrongLength }
    guard Array(words[0..<4]) == kind else { throw .wrongKind }
    let (newHead, newTail) = (words[4], words[5])
    guard newHead <= newTail, newTail - newHead <= UInt64(configuration.ringEntries), words[8] <= 1 else {
      throw .wrongValue
    }
    var work: Current?
    if words[8] == 1 {
      let progress = words[17...]
      guard newHead < newTail, let kernel = GPUKernel(words: words[9..<17], memory: memory),
        progress[17] <= 1, progress[18] <= UInt64(kernel.count), progress[19] < configuration.microsecondsPerWord,
        progress[17] == 1 || progress[18] == 0 && progress[19] == 0 && progress[20] == 0
      else { throw .wrongValue }
      work = Current(
        kernel: kernel, hasStarted: progress[17] == 1, done: Int(progress[18]), worked: progress[19],
        digest: progress[20])
    } else if words[9...].contains(where: { $0 != 0 }) {
      throw .wrongValue
    }
    (head, tail, finished, refused) = (newHead, newTail, words[6], words[7])
    current = work
  }

  private mutating func loadDoorbells(_ words: [UInt64]) throws(DeviceImageError) {
    guard let count = words.first.flatMap({ Int(exactly: $0) }) else { throw .wrongLength }
    guard count <= configuration.ringEntries else { throw .wrongValue }
    guard words.count == 1 + 2 * count else { throw .wrongLength }
    keptDoorbells = (0..<count).map { Doorbell(address: words[1 + 2 * $0], value: words[2 + 2 * $0]) }
  }
}
