// SPDX-License-Identifier: Apache-2.0
public import Migration

/// The channel of a session that has no stream.
public final class NoChannel: Channel {
  public let name = "no channel"
  public let isTwoWay = false
  /// There is none.
  public init() {}

  public func write(_ header: Span<UInt8>, _ payload: Span<UInt8>) throws(ChannelError) { throw failure("writing") }
  public func read(into buffer: inout MutableSpan<UInt8>) throws(ChannelError) -> Int { throw failure("reading") }
  public func finish() throws(ChannelError) {}
  public func cancel() {}

  private func failure(_ operation: String) -> ChannelError {
    ChannelError(operation, channel: name, errno: .notSupported)
  }
}
