// SPDX-License-Identifier: Apache-2.0
public import Migration
internal import Synchronization

/// A connection whose beginning is read twice: what comes is kept until ``rewind()``, and from then on is read again first.
/// So a manifest can be compared with devices before one of them is opened. One thread reads.
public final class RewoundChannel: ConnectedChannel {
  private enum State {
    case keeping([UInt8])
    case repeating([UInt8], from: Int)
    case passing
  }

  private let channel: any ConnectedChannel
  private let state = Mutex(State.keeping([]))

  /// Begins to keep what is read. Whoever reads sees to it that this is little.
  public init(_ channel: any ConnectedChannel) { self.channel = channel }

  /// From now on what was read so far is read again, and then what follows.
  public func rewind() {
    state.withLock { state in
      if case .keeping(let bytes) = state { state = .repeating(bytes, from: 0) }
    }
  }

  public func read(into buffer: inout MutableSpan<UInt8>) throws(ChannelError) -> Int {
    let again = takeKept(at: buffer.count)
    if !again.isEmpty {
      for index in again.indices { buffer[index - again.startIndex] = again[index] }
      return again.count
    }
    let count = try channel.read(into: &buffer)
    state.withLock { state in
      guard case .keeping(var bytes) = state else { return }
      state = .passing
      for index in 0..<count { bytes.append(buffer[index]) }
      state = .keeping(bytes)
    }
    return count
  }

  private func takeKept(at most: Int) -> ArraySlice<UInt8> {
    state.withLock { state in
      guard case .repeating(let bytes, let start) = state else { return [] }
      let end = min(bytes.count, start + most)
      state = end == bytes.count ? .passing : .repeating(bytes, from: end)
      return bytes[start..<end]
    }
  }

  public var name: String { channel.name }
  public var isTwoWay: Bool { channel.isTwoWay }
  public func write(_ header: Span<UInt8>, _ payload: Span<UInt8>) throws(ChannelError) {
    try channel.write(header, payload)
  }
  public func finish() throws(ChannelError) { try channel.finish() }
  public func cancel() { channel.cancel() }
  public func hangUp(within microseconds: UInt64) { channel.hangUp(within: microseconds) }
  public func isSame(as descriptor: Int32) -> Bool { channel.isSame(as: descriptor) }
}
