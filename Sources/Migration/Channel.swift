// SPDX-License-Identifier: Apache-2.0

/// What a stream travels on: a file, a pipe, a socket.
///
/// Calls block. One thread writes and one reads; ``cancel()`` may come from any.
public protocol Channel: AnyObject, Sendable {
  /// What messages call it, for example a file's path.
  var name: String { get }

  /// Whether what the other end answers can be read from it.
  var isTwoWay: Bool { get }

  /// Writes all of both, one after the other.
  func write(_ header: Span<UInt8>, _ payload: Span<UInt8>) throws(ChannelError)

  /// Reads at least one byte and at most the buffer's size.
  /// - Returns: how many; 0 at the end.
  func read(into buffer: inout MutableSpan<UInt8>) throws(ChannelError) -> Int

  /// Returns once everything written is as safe as this kind of channel can make it; a file is on its disk.
  func finish() throws(ChannelError)

  /// Makes calls that block, now and later, fail with ECANCELED.
  func cancel()
}

/// A channel that failed.
public struct ChannelError: Error, Hashable, Sendable {
  /// What was being done, as in "writing".
  public let operation: String
  /// The channel's name.
  public let channel: String
  /// The error number.
  public let errno: ErrorNumber

  /// A failure of the named channel.
  public init(_ operation: String, channel: String, errno: ErrorNumber) {
    self.operation = operation
    self.channel = channel
    self.errno = errno
  }
}

extension ChannelError: CustomStringConvertible {
  public var description: String { "\(operation) \(channel) failed with \(errno)" }
}
