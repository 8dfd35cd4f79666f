// SPDX-License-Identifier: Apache-2.0

/// When to ask a device for more pre-copy data, and when enough has been read ahead of the stop (DA8).
///
/// `poll` can't drive pre-copy: most drivers have none, and some save anew only when they are asked for the pre-copy
/// info. So the info is asked for on a timer. A device is ready to stop once its initial data is out and what is left
/// is small, or has stopped shrinking.
public struct PreCopyPace: Hashable, Sendable {
  /// The limits that a session keeps to.
  public struct Limits: Hashable, Sendable {
    /// Microseconds between two readings of the pre-copy info.
    public var interval: UInt64 = 10_000
    /// What is left counts as small below this many bytes.
    public var smallBytes: UInt64 = 1 << 20
    /// After this many readings in a row that found no real progress, it counts as having stopped shrinking.
    public var patience: Int = 3
    /// So often may a guest reset a device during pre-copy before the session gives up.
    public var mostRestarts: Int = 5

    /// The defaults.
    public init() {}
  }

  private let limits: Limits
  private var withoutProgress = 0
  private var least = UInt64.max
  /// The initial data has been read to its end.
  public private(set) var initialIsOut = false
  /// Enough was read ahead.
  public private(set) var isReady = false

  /// The pace of a device of which nothing was read yet.
  public init(limits: Limits) { self.limits = limits }

  /// Takes a reading of the pre-copy info.
  ///
  /// Progress is a new minimum that is lower by at least a quarter of what was read: a device that dirties its state
  /// nearly as fast as it is read, or faster, will not get ready by waiting. A reading while the device was still busy
  /// preparing data says nothing.
  /// - Parameters:
  ///   - bytesRead: how much was read since the reading before this.
  ///   - isDrained: whether all was read that the device had.
  public mutating func take(_ info: PreCopyInfo, bytesRead: UInt64, isDrained: Bool) {
    if info.restartedInitial { initialIsOut = false }
    if info.initialBytes == 0 { initialIsOut = true }
    if info.remainingBytes < least, least - info.remainingBytes >= bytesRead / 4 {
      least = info.remainingBytes
      withoutProgress = 0
    } else if bytesRead > 0 || isDrained {
      withoutProgress += 1
    }
    let isSettled = info.remainingBytes <= limits.smallBytes || withoutProgress >= limits.patience
    // A driver whose initial data never ends must not hold up the stop for ever: stopping without it is legal, and slow.
    isReady = initialIsOut && isSettled || withoutProgress >= limits.patience * 10
  }
}
