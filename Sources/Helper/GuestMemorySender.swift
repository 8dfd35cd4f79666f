// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxIO
public import Migration
internal import Synchronization

/// Guest memory that this process sends by itself, over a connection of its own: docs/memory-format.md.
///
/// A page's bit is cleared before the page is copied, and both after the reading that told of it. What a device writes
/// after that reading is in the next one, whether the copy has it or not, because trackers tell of each write once, and
/// only when they are read: so no bit that matters can be set between the clearing and the copying. Were a bit cleared
/// after the copying, what another thread had marked in between would be lost.
public final class GuestMemorySender: MovingMemory {
  private struct Link: ~Copyable {
    var batch: PageBatch
    var answers: MemoryReader
    /// What was taken from the bitmap and not answered for.
    var inFlight: DirtyBitmap<PrivateWords>
    var failure: MovingMemoryError?
    var isEnded = false
  }

  private let tracking: GuestTracking
  private let devices: [UInt32]
  private let files: GuestMemoryFiles
  private let layout: DirtyLayout
  private let channel: any Channel
  private let isCancelled = Atomic(false)
  private let sent = Atomic<UInt64>(0)
  private let link: Mutex<Link>
  /// Runs that are taken from the bitmap at a time.
  private static let runs = 4096

  /// - Parameters:
  ///   - tracking: is on; the bitmap is nobody else's from now on.
  ///   - devices: what it calls the session's devices, in the session's order.
  ///   - files: over the same guest ranges.
  ///   - channel: two-way; nobody else uses it.
  /// - Throws: where nothing is tracked, a guest range has no file, or there is no memory for a buffer.
  public init(
    _ tracking: GuestTracking, devices: [UInt32], files: GuestMemoryFiles, channel: any Channel,
    checksum: StreamChecksum
  ) throws(MovingMemoryError) {
    guard channel.isTwoWay else {
      throw MovingMemoryError(
        "preparing to send guest memory by \(channel.name), which goes one way only,", errno: .invalidArgument)
    }
    guard let layout = tracking.layout, layout.parts.map(\.range) == files.ranges else {
      throw MovingMemoryError(
        "preparing to send guest memory that is not tracked, or has no file,", errno: .invalidArgument)
    }
    self.tracking = tracking
    self.devices = devices
    self.files = files
    self.layout = layout
    self.channel = channel
    do throws(SystemError) {
      let batch = try PageBatch(files.ranges, checksum: checksum)
      link = Mutex(
        Link(
          batch: batch, answers: MemoryReader(.answers, checksum: checksum), inFlight: DirtyBitmap(layout: layout)))
    } catch {
      throw MovingMemoryError("\(error.operation) \(error.subject)", errno: ErrorNumber(rawValue: error.errno))
    }
  }

  /// Bytes that have gone out so far, headers included. Asked from any thread.
  public var bytesSent: UInt64 { sent.load(ordering: .relaxed) }

  public func read(_ moment: DirtyMoment) -> DirtyReading { tracking.read(moment) }

  public func restartTracking(device: Int) {
    if devices.indices.contains(device) { tracking.restart(device: devices[device]) }
  }

  /// Sends what the last reading found, and returns when the destination has it in memory. After a failure all of it is
  /// dirty again with the next reading, and the connection is good for nothing more.
  public func send() throws(MovingMemoryError) -> UInt64 {
    try attempt { link throws(MovingMemoryError) in
      let before = link.batch.bytes
      try sendPages(&link)
      let number = try act { () throws(PageBatch.Failure) in try link.batch.sync(channel) }
      sent.store(link.batch.bytes, ordering: .relaxed)
      try awaitAnswer(number, &link.answers)
      link.inFlight.clearAll()
      return link.batch.bytes - before
    }
  }

  /// Tells the destination that all memory was sent. Without it what was sent is worth nothing there. Called once,
  /// after the last ``send()``.
  public func finish() throws(MovingMemoryError) {
    _ = try attempt { link throws(MovingMemoryError) in
      if link.isEnded { return 0 }
      link.isEnded = true
      try act { () throws(PageBatch.Failure) in try link.batch.end(channel) }
      sent.store(link.batch.bytes, ordering: .relaxed)
      return 0
    }
  }

  public func cancel() {
    isCancelled.store(true, ordering: .relaxed)
    channel.cancel()
  }

  private func attempt(
    _ body: (inout Link) throws(MovingMemoryError) -> UInt64
  ) throws(MovingMemoryError) -> UInt64 {
    try link.withLock { link throws(MovingMemoryError) in
      if let failure = link.failure { throw failure }
      do throws(MovingMemoryError) {
        return try body(&link)
      } catch {
        link.failure = error
        tracking.putBack(&link.inFlight)
        throw error
      }
    }
  }

  private func sendPages(_ link: inout Link) throws(MovingMemoryError) {
    for part in files.parts {
      var next = part.guest.lowerBound
      while next < part.guest.upperBound {
        guard let runs = tracking.take(next..<part.guest.upperBound, most: Self.runs, of: layout) else {
          throw MovingMemoryError("sending guest memory that is tracked no longer", errno: .invalidArgument)
        }
        for run in runs {
          do throws(DirtyBitmapError) {
            try link.inFlight.mark(run)
          } catch {
            preconditionFailure("\(error)")
          }
        }
        for run in runs { try send(run, from: part, &link.batch) }
        guard runs.count == Self.runs, let last = runs.last else { break }
        next = last.upperBound
      }
      try act { () throws(PageBatch.Failure) in try link.batch.endRange(channel) }
    }
  }

  private func send(
    _ run: Range<UInt64>, from part: GuestMemoryFiles.Part, _ batch: inout PageBatch
  ) throws(MovingMemoryError) {
    var next = run.lowerBound
    while next < run.upperBound {
      // A long run of zeros sends nothing that a cancelled channel could refuse.
      if isCancelled.load(ordering: .relaxed) {
        throw MovingMemoryError("sending guest memory", errno: ErrorNumber(rawValue: ECANCELED))
      }
      next = try act { () throws(PageBatch.Failure) in try batch.add(next..<run.upperBound, from: part, channel) }
      sent.store(batch.bytes, ordering: .relaxed)
    }
  }

  private func act<Result>(_ body: () throws(PageBatch.Failure) -> Result) throws(MovingMemoryError) -> Result {
    do throws(PageBatch.Failure) {
      return try body()
    } catch {
      switch error {
      case .channel(let error):
        throw MovingMemoryError("sending guest memory: \(error.operation) \(error.channel)", errno: error.errno)
      case .file(let error):
        throw MovingMemoryError("reading guest memory: \(error), which", errno: ErrorNumber(rawValue: error.errno))
      }
    }
  }

  /// Reads until the destination says that it has everything before this number.
  private func awaitAnswer(_ number: UInt64, _ answers: inout MemoryReader) throws(MovingMemoryError) {
    var buffer = [UInt8](repeating: 0, count: MemoryFormat.headerSize)
    while true {
      let wanted = answers.wanted
      // What may be skipped may have a payload.
      if buffer.count < wanted { buffer = [UInt8](repeating: 0, count: wanted) }
      try fill(&buffer, wanted)
      do throws(StreamError) {
        if case .synced(let answered) = try answers.take(buffer.span.extracting(0..<wanted)), answered == number {
          return
        }
      } catch {
        throw MovingMemoryError(
          "reading what the destination of guest memory answers: \(error), which", errno: ErrorNumber(rawValue: EPROTO))
      }
    }
  }

  private func fill(_ buffer: inout [UInt8], _ count: Int) throws(MovingMemoryError) {
    var piece = [UInt8](repeating: 0, count: count)
    var taken = 0
    while taken < count {
      let got: Int
      do throws(ChannelError) {
        var span = piece.mutableSpan
        got = try channel.read(into: &span)
      } catch {
        throw MovingMemoryError(
          "waiting for the destination of guest memory: reading \(error.channel)", errno: error.errno)
      }
      if got == 0 {
        throw MovingMemoryError(
          "sending guest memory to a destination that has closed \(channel.name)",
          errno: ErrorNumber(rawValue: ECONNRESET))
      }
      buffer.replaceSubrange(taken..<taken + got, with: piece[..<got])
      taken += got
      piece.removeLast(got)
    }
  }
}
