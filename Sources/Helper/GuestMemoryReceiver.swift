// SPDX-License-Identifier: Apache-2.0
internal import Glibc
public import LinuxIO
public import Migration
internal import Synchronization

/// Guest memory that comes in over a connection of its own, into the files of this side's guest: docs/memory-format.md.
///
/// A thread of its own reads, checks and writes, and answers when what was asked about is in memory.
public final class GuestMemoryReceiver: Sendable {
  private let files: GuestMemoryFiles
  private let checksum: StreamChecksum
  /// Let go of when it has ended, so that the source finds the connection closed.
  private let channel: Mutex<(any Channel)?>
  private let isCancelled = Atomic(false)
  private let received = Atomic<UInt64>(0)
  private let thread = Mutex<BlockingThread?>(nil)

  /// Begins to receive.
  /// - Parameters:
  ///   - files: open for reading and writing; over the same guest ranges as the source's.
  ///   - channel: two-way. It is let go of when this has ended, and closes if nobody else has it: so the source of memory
  ///     that is refused does not wait for ever.
  ///   - ended: told once, on the thread that received: nil where all memory has come.
  /// - Throws: where there is no thread or no memory for buffers.
  public init(
    into files: GuestMemoryFiles, channel: any Channel, checksum: StreamChecksum,
    ended: @escaping @Sendable (GuestMemoryError?) -> Void
  ) throws(SystemError) {
    self.files = files
    self.checksum = checksum
    self.channel = Mutex(channel)
    let input = try TransferBuffer(count: 2 * MemoryFormat.maximumPagesSize)
    let scratch = try TransferBuffer(count: MemoryFormat.maximumPagesSize)
    let thread = try BlockingThread(name: "memory in") { [self] in
      var failure: GuestMemoryError?
      do throws(GuestMemoryError) {
        try receive(IncomingBytes(channel, input), scratch, channel)
      } catch {
        failure = isCancelled.load(ordering: .relaxed) ? .cancelled : error
      }
      self.channel.withLock { $0 = nil }
      ended(failure)
    }
    self.thread.withLock { $0 = thread }
  }

  /// Bytes that have come in so far. Asked from any thread.
  public var bytesReceived: UInt64 { received.load(ordering: .relaxed) }

  /// Ends it soon, from any thread.
  public func cancel() {
    isCancelled.store(true, ordering: .relaxed)
    channel.withLock { $0 }?.cancel()
  }

  /// Waits until it has ended. Not called on its own thread.
  public func join() { thread.withLock { $0 }?.join() }

  private func receive(
    _ incoming: consuming IncomingBytes, _ scratch: TransferBuffer, _ channel: any Channel
  ) throws(GuestMemoryError) {
    var reader = MemoryReader(.pages, checksum: checksum)
    var writer = MemoryWriter(checksum: checksum)
    var preamble = MemoryFormat.preamble(checksum: checksum)
    while !reader.isEnded {
      let wanted = reader.wanted
      guard try incoming.fill(wanted) else { throw .stream(reader.incomplete) }
      let item = try incoming.withNext(wanted) { (bytes: Span<UInt8>) throws(GuestMemoryError) in
        try take(bytes, &reader)
      }
      received.store(reader.bytesRead, ordering: .relaxed)
      switch item {
      case .layout(let ranges):
        if ranges != files.ranges { throw .layout(theirs: ranges, ours: files.ranges) }
      case .zero(let run): try clear(run, scratch)
      case .sync(let number):
        let answer = preamble + writer.synced(number)
        preamble = []
        do throws(ChannelError) {
          try channel.write(answer.span, Span())
        } catch {
          throw .channel(error)
        }
      case .pages, .end, .skipped, .synced, nil: break
      }
    }
    if !incoming.isEmpty { throw .stream(reader.trailing) }
  }

  /// Checks bytes, and writes them to memory where they are pages.
  private func take(_ bytes: Span<UInt8>, _ reader: inout MemoryReader) throws(GuestMemoryError) -> MemoryItem? {
    let item: MemoryItem?
    do throws(StreamError) {
      item = try reader.take(bytes)
    } catch {
      throw .stream(error)
    }
    if case .pages(let address, _) = item {
      do throws(MemoryFileError) {
        try files.write(bytes, at: address)
      } catch {
        throw .file(error)
      }
    }
    return item
  }

  private func clear(_ run: Range<UInt64>, _ scratch: TransferBuffer) throws(GuestMemoryError) {
    var low = run.lowerBound
    while low < run.upperBound {
      // It may be long, and reads nothing from the channel.
      if isCancelled.load(ordering: .relaxed) { throw .cancelled }
      let high = low + min(UInt64(scratch.count), run.upperBound - low)
      do throws(MemoryFileError) {
        try files.clear(low..<high, by: scratch)
      } catch {
        throw .file(error)
      }
      low = high
    }
  }
}

/// Why guest memory did not come in. What has come is worth nothing then.
public enum GuestMemoryError: Error, Hashable, Sendable {
  /// What came is damaged, or breaks off.
  case stream(StreamError)
  /// The connection failed.
  case channel(ChannelError)
  /// This side's memory could not be written.
  case file(MemoryFileError)
  /// The source has other guest ranges.
  case layout(theirs: [Range<UInt64>], ours: [Range<UInt64>])
  /// It was cancelled.
  case cancelled
}

extension GuestMemoryError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .stream(let error): "\(error)"
    case .channel(let error): "receiving guest memory: \(error)"
    case .file(let error): "writing guest memory: \(error)"
    case .layout(let theirs, let ours):
      "the guest's memory is laid out differently on the two sides: " + Self.difference(theirs, ours)
    case .cancelled: "receiving guest memory was cancelled"
    }
  }

  /// The first range that is not the same.
  private static func difference(_ theirs: [Range<UInt64>], _ ours: [Range<UInt64>]) -> String {
    func text(_ ranges: [Range<UInt64>], _ index: Int) -> String {
      guard index < ranges.count else { return "none" }
      return "0x\(String(ranges[index].lowerBound, radix: 16))..<0x\(String(ranges[index].upperBound, radix: 16))"
    }
    let index = zip(theirs, ours).prefix { $0 == $1 }.count
    return "range \(index) is \(text(theirs, index)) on the source and \(text(ours, index)) here"
  }
}
