// SPDX-License-Identifier: Apache-2.0
public import Migration

/// What the channel between two simulated hosts is like. A rate, a delay, and a window for what nobody took yet.
public struct SimulatedLink: Hashable, Sendable {
  /// Bytes in a microsecond, at least 1; 3,125 are 25 Gbit/s.
  public var bytesPerMicrosecond: UInt64 = 3125
  /// Microseconds from one end to the other.
  public var delayMicroseconds: UInt64 = 20
  /// No frame is sent while so many bytes are on their way or wait for the other end to take them.
  public var windowBytes = 4 << 20
  /// Microseconds that finishing takes, once everything is out.
  public var finishMicroseconds: UInt64 = 50
  /// Whether the destination can answer.
  public var isTwoWay = true
  /// The connection breaks after so many bytes from source to destination.
  public var breaksAfter: UInt64?
  /// The connection breaks at this time, in both directions.
  public var breaksAt: MonotonicTime?
  /// The connection breaks so many microseconds after a side hands a word of the agreement to it.
  public var breaksAfterWord: WordBreak?
  /// Bits that are flipped on the way from source to destination.
  public var flips: [Flip] = []

  /// A break around the agreement on who runs.
  public struct WordBreak: Hashable, Sendable {
    /// What the two sides say to each other, in this order.
    public enum Word: String, CaseIterable, Hashable, Sendable {
      /// The destination has everything.
      case loaded
      /// The source lets go.
      case commit
      /// The destination's devices run.
      case running
    }

    /// The word.
    public var word: Word
    /// Microseconds from when it is handed to the channel.
    public var microseconds: UInt64

    /// A break that long after that word.
    public init(_ word: Word, microseconds: UInt64) {
      self.word = word
      self.microseconds = microseconds
    }
  }

  /// One bit of the stream.
  public struct Flip: Hashable, Sendable {
    /// The byte, from the start of the stream.
    public var byte: UInt64
    /// 0 to 7.
    public var bit: Int

    /// That bit of that byte.
    public init(byte: UInt64, bit: Int) {
      self.byte = byte
      self.bit = bit
    }
  }

  /// A link of 25 Gbit/s without faults.
  public init() {}
}

/// One direction of a link: jobs of the sender, bytes under way, and the reader at the other end.
struct LinkDirection: Sendable {
  enum Job: Sendable {
    case frame(OutgoingFrame)
    case finish
    /// Guest memory. It shares the channel with the stream, and is no part of it.
    case memory(MemoryMover.Parcel)
  }

  private var jobs = RDMALine<Job>()
  /// A job is being carried out.
  var isSending = false
  /// The sending end or the connection is gone: nothing more goes in.
  var isBroken = false
  /// After what is under way nothing more comes out.
  var isClosed = false
  private(set) var sentBytes: UInt64 = 0
  /// Where each frame that was begun begins.
  private(set) var frameOffsets: [UInt64] = []
  /// Bytes that were sent and that nobody took yet.
  private(set) var untakenBytes = 0

  private var inbox: [[UInt8]] = []
  private var inboxPosition = 0
  private var inboxBytes = 0
  var reader: StreamReader
  /// The buffers that the receiving end offers, oldest first.
  var offers: [Int?] = []
  /// The reader has failed.
  var isDeaf = false

  init(checksum: StreamChecksum) { reader = StreamReader(checksum: checksum) }

  // MARK: The sending end

  mutating func put(_ job: Job) { jobs.append(job) }

  mutating func dropJobs() { jobs = RDMALine() }

  /// The job to begin now; nil where there is none or the window is full.
  mutating func beginJob(window: Int) -> Job? {
    guard !isSending, let job = jobs.first else { return nil }
    if case .frame = job, untakenBytes >= window, !isBroken { return nil }
    _ = jobs.popFirst()
    isSending = true
    return job
  }

  /// Puts chunks of bytes on the wire, with the link's faults. - Returns: what arrives, and whether the link broke.
  mutating func transmit(_ chunks: [[UInt8]], faults: SimulatedLink?) -> (arriving: [[UInt8]], breaks: Bool) {
    var arriving: [[UInt8]] = []
    frameOffsets.append(sentBytes)
    for var chunk in chunks where !chunk.isEmpty {
      let end = sentBytes + UInt64(chunk.count)
      for flip in faults?.flips ?? [] where flip.byte >= sentBytes && flip.byte < end {
        chunk[Int(flip.byte - sentBytes)] ^= 1 << UInt8(flip.bit)
      }
      if let limit = faults?.breaksAfter, end > limit {
        let rest = Int(limit - min(limit, sentBytes))
        if rest > 0 { arriving.append(Array(chunk[0..<rest])) }
        sentBytes += UInt64(rest)
        untakenBytes += rest
        return (arriving, true)
      }
      sentBytes = end
      untakenBytes += chunk.count
      arriving.append(chunk)
    }
    return (arriving, false)
  }

  // MARK: The receiving end

  mutating func arrive(_ chunk: [UInt8]) {
    inbox.append(chunk)
    inboxBytes += chunk.count
  }

  enum Reception {
    case item(StreamItem, buffer: Int?, payload: [UInt8])
    case failed(StreamError)
  }

  /// The next frame, where somebody wants it and enough of it has come.
  mutating func receive() -> Reception? {
    guard !isDeaf, !reader.isEnded, !offers.isEmpty else { return nil }
    while inboxBytes >= reader.wanted {
      let bytes = takeBytes(reader.wanted)
      do throws(StreamError) {
        guard let item = try reader.take(bytes.span) else { continue }
        return .item(item, buffer: offers.removeFirst(), payload: bytes)
      } catch {
        isDeaf = true
        return .failed(error)
      }
    }
    guard isClosed else { return nil }
    isDeaf = true
    return .failed(reader.incomplete)
  }

  private mutating func takeBytes(_ count: Int) -> [UInt8] {
    inboxBytes -= count
    untakenBytes -= count
    if let first = inbox.first, inboxPosition == 0, first.count == count { return inbox.removeFirst() }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    while bytes.count < count {
      let part = inbox[0][inboxPosition...].prefix(count - bytes.count)
      bytes += part
      inboxPosition += part.count
      if inboxPosition == inbox[0].count {
        inbox.removeFirst()
        inboxPosition = 0
      }
    }
    return bytes
  }
}
