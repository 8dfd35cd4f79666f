// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// Guest memory of which only one thing is known: which pages were written since they were sent, and which of these writes
/// a tracker has noted. So a guest of 100 GB costs a few MiB.
public struct SimulatedMemory: Sendable {
  /// Somebody who writes to it.
  public struct Writer: Hashable, Sendable {
    /// The device of the source whose peers do, until it is stopped; nil is the vCPUs, until they are.
    public var device: Int?
    /// The pages that it writes to, each as likely as any other.
    public var pages: Range<Int>
    /// Bytes that it writes in a second. For a device that is what comes in, and what a limit limits.
    public var bytesPerSecond: UInt64

    /// Writes to these pages, so fast.
    public init(device: Int?, pages: Range<Int>, bytesPerSecond: UInt64) {
      self.device = device
      self.pages = pages
      self.bytesPerSecond = bytesPerSecond
    }
  }

  /// What it is like.
  public struct Configuration: Hashable, Sendable {
    /// Pages of the guest.
    public var pages: Int
    /// Bytes of a page.
    public var pageBytes = 4096
    /// Who writes to it.
    public var writers: [Writer]

    /// Memory of so many pages of 4 KiB.
    public init(pages: Int, writers: [Writer]) {
      self.pages = pages
      self.writers = writers
    }
  }

  let configuration: Configuration
  /// Pages whose content the destination does not have.
  private(set) var unsent: PageSet
  private var noted: PageSet
  private var isNoting = true
  private var generator: SeededGenerator
  private var time = MonotonicTime(microseconds: 0)
  /// By writer: what was written of a page that is not full yet, in millionths of bytes.
  private var remainders: [UInt64]

  init(_ configuration: Configuration, seed: UInt64) {
    self.configuration = configuration
    unsent = PageSet(capacity: configuration.pages)
    unsent.insert(0..<configuration.pages)
    noted = PageSet(capacity: configuration.pages)
    generator = SeededGenerator(seed: seed ^ 0x6d65_6d6f_7279)
    remainders = configuration.writers.map { _ in 0 }
  }

  /// Lets time pass.
  /// - Parameters:
  ///   - canWrite: whether a device can, or the vCPUs.
  ///   - limits: by device.
  mutating func run(until now: MonotonicTime, canWrite: (Int?) -> Bool, limits: [UInt64?]) {
    let elapsed = now.microseconds(since: time)
    time = now
    for (index, writer) in configuration.writers.enumerated() where canWrite(writer.device) {
      let limit = writer.device.flatMap { limits[$0] } ?? .max
      let page = UInt64(configuration.pageBytes) * 1_000_000
      let written = elapsed * min(writer.bytesPerSecond, limit) + remainders[index]
      remainders[index] = written % page
      for _ in 0..<written / page {
        let number = writer.pages.lowerBound + generator.next(below: writer.pages.count)
        unsent.insert(number)
        if isNoting { noted.insert(number) }
      }
    }
  }

  mutating func beginTracking() {
    noted.removeAll()
    isNoting = true
  }

  /// What was noted is gone, and nothing more is noted until ``noteAll()``.
  mutating func loseLog() {
    noted.removeAll()
    isNoting = false
  }

  /// The log begins anew: anything may have been written.
  mutating func noteAll() {
    noted.insert(0..<configuration.pages)
    isNoting = true
  }

  /// Puts what the tracker has noted among these pages, and forgets it.
  mutating func takeNoted(into pages: inout PageSet) {
    pages.formUnion(noted)
    noted.removeAll()
  }

  /// A page's content as it is now is on its way.
  mutating func send(_ page: Int) { unsent.remove(page) }
}
