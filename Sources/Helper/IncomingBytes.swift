// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration

/// What has come in by a channel and was not used yet: many small frames are read with one call.
struct IncomingBytes: ~Copyable {
  private let channel: any Channel
  private let buffer: TransferBuffer
  private var low = 0
  private var high = 0

  init(_ channel: any Channel, _ buffer: TransferBuffer) {
    self.channel = channel
    self.buffer = buffer
  }

  /// Whether all that has come was used.
  var isEmpty: Bool { low == high }

  /// Reads until there are so many bytes.
  /// - Parameter count: as many as half of the buffer at most.
  /// - Returns: false where the other end closed before.
  mutating func fill(_ count: Int) throws(GuestMemoryError) -> Bool {
    if buffer.count - low < count {
      buffer.move(low..<high, to: 0)
      high -= low
      low = 0
    }
    while high - low < count {
      let got: Int
      do throws(ChannelError) {
        got = try buffer.withMutableSpan(high..<buffer.count) {
          (bytes: inout MutableSpan<UInt8>) throws(ChannelError) in try channel.read(into: &bytes)
        }
      } catch {
        throw .channel(error)
      }
      if got == 0 { return false }
      high += got
    }
    return true
  }

  /// Uses the next bytes, which are there.
  mutating func withNext<Result>(
    _ count: Int, _ body: (Span<UInt8>) throws(GuestMemoryError) -> Result
  ) throws(GuestMemoryError) -> Result {
    let place = low..<low + count
    low += count
    if low == high {
      low = 0
      high = 0
    }
    return try buffer.withSpan(place, body)
  }
}
