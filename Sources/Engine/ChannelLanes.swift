// SPDX-License-Identifier: Apache-2.0
public import LinuxIO
public import Migration

/// Takes frames from a channel, each checked before anything in it is used.
///
/// Not for two threads at once.
public struct FrameSource {
  private let channel: any Channel
  /// How far the stream has been read.
  public private(set) var reader: StreamReader
  /// Where the frame that ``next(buffer:)`` returned last begins, in bytes from the start.
  public private(set) var offset: UInt64 = 0

  /// A source at the start of a stream. The channel stays the caller's.
  public init(channel: any Channel, checksum: StreamChecksum) {
    self.channel = channel
    reader = StreamReader(checksum: checksum)
  }

  /// Why no frame came.
  public enum Fault: Error {
    /// What came is not a stream, or not a whole one.
    case stream(StreamError)
    /// The channel failed.
    case channel(ChannelError)
  }

  /// The next frame; not to be asked for once the reader has the end frame. The payload of a device-data frame is in the first bytes of `buffer`.
  /// - Parameter buffer: of at least ``StreamFormat/maximumDataSize`` bytes.
  public mutating func next(buffer: TransferBuffer) throws(Fault) -> StreamItem {
    while true {
      let wanted = reader.wanted
      // Only a manifest can be larger than the buffer; its length has been compared with its cap.
      let memory = wanted <= buffer.count ? buffer : try memory(wanted)
      try fill(memory, wanted)
      offset = reader.frameOffset
      let item = try memory.withSpan(first: wanted) { (span: Span<UInt8>) throws(Fault) in try take(span) }
      if let item { return item }
    }
  }

  private func memory(_ count: Int) throws(Fault) -> TransferBuffer {
    do throws(SystemError) {
      return try TransferBuffer(count: count)
    } catch {
      throw .channel(ChannelError(error.operation, channel: error.subject, errno: ErrorNumber(rawValue: error.errno)))
    }
  }

  /// Whether the channel has nothing more to give.
  public mutating func isAtEnd() throws(Fault) -> Bool {
    var byte: [UInt8] = [0]
    var span = byte.mutableSpan
    do throws(ChannelError) {
      return try channel.read(into: &span) == 0
    } catch {
      throw .channel(error)
    }
  }

  private mutating func take(_ bytes: Span<UInt8>) throws(Fault) -> StreamItem? {
    do throws(StreamError) {
      return try reader.take(bytes)
    } catch {
      throw .stream(error)
    }
  }

  private func fill(_ memory: TransferBuffer, _ count: Int) throws(Fault) {
    var filled = 0
    while filled < count {
      let got: Int
      do throws(ChannelError) {
        got = try memory.withMutableSpan(filled..<count) { (span: inout MutableSpan<UInt8>) throws(ChannelError) in
          try channel.read(into: &span)
        }
      } catch {
        throw .channel(error)
      }
      if got == 0 { throw .stream(filled == 0 ? reader.incomplete : reader.incomplete(after: filled)) }
      filled += got
    }
  }
}

/// Puts frames on a channel, with their checksums.
struct FrameSink {
  private let channel: any Channel
  private let checksum: StreamChecksum
  private var hasBegun = false

  init(channel: any Channel, checksum: StreamChecksum) {
    self.channel = channel
    self.checksum = checksum
  }

  mutating func send(_ frame: OutgoingFrame, buffers: [TransferBuffer]) throws(ChannelError) {
    if !hasBegun {
      hasBegun = true
      try channel.write(StreamFormat.preamble(checksum: checksum).span, Span())
    }
    switch frame.payload {
    case .bytes(let bytes):
      let header = frame.header.encoded(payload: bytes.span, checksum: checksum)
      try channel.write(header.span, bytes.span)
    case .buffer(let number):
      // Whoever filled the buffer has computed its checksum.
      let header = frame.header.encoded(payloadChecksum: buffers[number].checksum, checksum: checksum)
      try buffers[number].withSpan(first: frame.header.length) { (payload: Span<UInt8>) throws(ChannelError) in
        try channel.write(header.span, payload)
      }
    }
  }
}

extension Channel {
  /// Tells a source, to which nothing was said yet, that its move ends here, and why.
  public func giveUp(_ reason: StreamReason, checksum: StreamChecksum) throws(ChannelError) {
    var sink = FrameSink(channel: self, checksum: checksum)
    try sink.send(.givenUp(reason), buffers: [])
  }
}
