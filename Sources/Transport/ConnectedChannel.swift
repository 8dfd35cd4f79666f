// SPDX-License-Identifier: Apache-2.0
public import Migration

/// A channel to another process, here or on another host, that brings answers. Whatever comes by one makes one of these: a
/// socket today, later one with TLS or over RDMA.
public protocol ConnectedChannel: Channel {
  /// Says that nothing more will be sent, and drops what still comes until the other end has hung up too, so that it reads
  /// all that was sent to it: a connection that is closed with something unread in it takes back what the other end has not
  /// read yet. It also works where the channel was cancelled. Called once, when nobody reads or writes any more.
  /// - Parameter microseconds: how long to wait for the other end at most; with 0 nothing is dropped, and what was sent here
  ///   can still be read.
  func hangUp(within microseconds: UInt64)

  /// Whether a number of this process stands for the same connection.
  func isSame(as descriptor: Int32) -> Bool
}
