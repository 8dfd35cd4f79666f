// SPDX-License-Identifier: Apache-2.0

/// Which of a session's readings of dirty pages it is.
public enum DirtyMoment: Hashable, Sendable {
  /// The first: the trackers are turned on, and all guest memory is dirty.
  case first
  /// One between two rounds.
  case next
  /// After the last device has stopped. Nothing is dirtied after it (contract 4).
  case last
}

/// How much guest memory has to be sent: what a reading found, and what was not sent before it.
public struct DirtyReading: Hashable, Sendable {
  /// Pages of the bitmap.
  public var pages: UInt64
  /// Bytes that go out for them.
  public var bytes: UInt64

  /// So many pages and bytes.
  public init(pages: UInt64, bytes: UInt64) {
    self.pages = pages
    self.bytes = bytes
  }
}

/// Guest memory that moves with the devices of a session, as whoever drives the session sees it.
///
/// A session asks for one thing at a time, and waits for the answer before it asks for the next. Calls block.
public protocol MovingMemory: AnyObject, Sendable {
  /// Reads the trackers; see ``TrackedMemory``, which turns every failure into dirty pages.
  func read(_ moment: DirtyMoment) -> DirtyReading

  /// The guest has reset this device: a log of its own has ended, and all that it may have written is dirty with the next
  /// reading.
  func restartTracking(device: Int)

  /// Sends what the last reading found, and forgets that it was dirty.
  ///
  /// What it has sent is at the destination before anything that the session sends later: where memory has a connection
  /// of its own, this waits until the other end says so.
  /// - Returns: bytes that went out.
  func send() throws(MovingMemoryError) -> UInt64

  /// Makes a call of ``send()`` that is under way fail soon, and later ones at once: the session is over. Called from any
  /// thread.
  func cancel()
}

/// Guest memory that could not be sent.
public struct MovingMemoryError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What was being done, as in "sending guest memory".
  public let operation: String
  /// The error number.
  public let errno: ErrorNumber

  /// A failure.
  public init(_ operation: String, errno: ErrorNumber) {
    self.operation = operation
    self.errno = errno
  }

  public var description: String { "\(operation) failed with \(errno)" }
}
