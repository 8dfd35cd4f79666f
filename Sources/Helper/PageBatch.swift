// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration

/// Frames of guest memory on their way out, put together in a buffer so that many small ones take one call.
///
/// Pages are copied here before anything is said of them. The guest may go on writing to them: a checksum that was
/// taken of the memory itself would be wrong as soon as it did, and a page that was found to be zero might not be. A
/// page that changes after it was copied is dirty again with the next reading.
struct PageBatch: ~Copyable {
  enum Failure: Error {
    case channel(ChannelError)
    case file(MemoryFileError)
  }

  private static let header = MemoryFormat.headerSize
  private static let unit = Int(MemoryFormat.unit)
  private let buffer: TransferBuffer
  private var writer: MemoryWriter
  /// Bytes of whole frames at the start of the buffer.
  private var used: Int
  /// Memory that is zero, of which no frame tells yet.
  private var zero: Range<UInt64>?
  /// Bytes that the channel has taken.
  private(set) var bytes: UInt64 = 0

  /// The start of a connection: preamble and layout.
  init(_ ranges: [Range<UInt64>], checksum: StreamChecksum) throws(SystemError) {
    buffer = try TransferBuffer(count: 2 * MemoryFormat.maximumPagesSize)
    writer = MemoryWriter(checksum: checksum)
    used = 0
    put(MemoryFormat.preamble(checksum: checksum) + writer.layout(ranges))
  }

  /// Adds a frame, for which there is room.
  private mutating func put(_ frame: [UInt8]) {
    buffer.withMutableSpan(used..<used + frame.count) { bytes in
      for index in frame.indices { bytes[index] = frame[index] }
    }
    used += frame.count
  }

  /// Sends what is in the buffer.
  mutating func flush(_ channel: any Channel) throws(Failure) {
    if used == 0 { return }
    let count = used
    used = 0
    do throws(ChannelError) {
      try buffer.withSpan(0..<count) { (bytes: Span<UInt8>) throws(ChannelError) in try channel.write(bytes, Span()) }
    } catch {
      throw .channel(error)
    }
    bytes += UInt64(count)
  }

  private mutating func makeRoom(_ count: Int, _ channel: any Channel) throws(Failure) {
    if buffer.count - used < count { try flush(channel) }
  }

  /// Adds what is in memory at most ``MemoryFormat/maximumPagesSize`` bytes from an address on, up to the end of a run.
  /// - Returns: the address after the last byte that was added.
  mutating func add(
    _ run: Range<UInt64>, from part: GuestMemoryFiles.Part, _ channel: any Channel
  ) throws(Failure) -> UInt64 {
    let count = Int(min(run.upperBound - run.lowerBound, UInt64(MemoryFormat.maximumPagesSize)))
    // Room for the frame of what was zero before, too.
    let headers = zero == nil ? Self.header : 2 * Self.header
    try makeRoom(headers + count, channel)
    let start = used + headers
    do throws(MemoryFileError) {
      try buffer.withMutableSpan(start..<start + count) { (bytes: inout MutableSpan<UInt8>) throws(MemoryFileError) in
        try part.file.read(into: &bytes, at: run.lowerBound - part.guest.lowerBound)
      }
    } catch {
      throw .file(error)
    }
    var low = 0
    while low < count {
      let isZero = isZero(start + low)
      var high = low + Self.unit
      while high < count, self.isZero(start + high) == isZero { high += Self.unit }
      let addresses = run.lowerBound + UInt64(low)..<run.lowerBound + UInt64(high)
      if isZero {
        if let before = zero, before.upperBound == addresses.lowerBound {
          zero = before.lowerBound..<addresses.upperBound
        } else {
          putZero()
          zero = addresses
        }
      } else {
        putZero()
        putPages(start + low..<start + high, at: addresses.lowerBound)
      }
      low = high
    }
    return run.lowerBound + UInt64(count)
  }

  private func isZero(_ place: Int) -> Bool { buffer.withSpan(place..<place + Self.unit) { $0.isZero } }

  /// Adds the frame of what was zero.
  private mutating func putZero() {
    guard let run = zero else { return }
    zero = nil
    buffer.withMutableSpan(used..<used + Self.header) { header in writer.zero(run, header: &header) }
    used += Self.header
  }

  /// Adds a frame for pages that are in the buffer already, further on or where they belong: each run of zeros between
  /// them was longer than its frame.
  private mutating func putPages(_ place: Range<Int>, at address: UInt64) {
    let payload = used + Self.header
    precondition(payload <= place.lowerBound)
    if payload < place.lowerBound { buffer.move(place, to: payload) }
    // The header is made apart, since it is of the same memory as what its checksum is of.
    var header = [UInt8](repeating: 0, count: Self.header)
    var span = header.mutableSpan
    buffer.withSpan(payload..<payload + place.count) { bytes in writer.pages(at: address, bytes, header: &span) }
    put(header)
    used = payload + place.count
  }

  /// Ends a guest range: zeros of the next are told apart, even where the two touch.
  mutating func endRange(_ channel: any Channel) throws(Failure) {
    if zero == nil { return }
    try makeRoom(Self.header, channel)
    putZero()
  }

  /// Sends all of it, and asks for an answer.
  /// - Returns: the number of the answer.
  mutating func sync(_ channel: any Channel) throws(Failure) -> UInt64 {
    let (number, frame) = writer.sync()
    try makeRoom(frame.count, channel)
    put(frame)
    try flush(channel)
    return number
  }

  /// Sends that all memory was sent.
  mutating func end(_ channel: any Channel) throws(Failure) {
    put(writer.end())
    try flush(channel)
    do throws(ChannelError) {
      try channel.finish()
    } catch {
      throw .channel(error)
    }
  }
}
