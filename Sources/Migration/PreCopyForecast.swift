// SPDX-License-Identifier: Apache-2.0

/// For how long the guest would stand still if it were stopped now, from what was measured (DA8).
///
/// Pages that are dirty now go out while the devices are brought to a stop. What is left of the devices' states follows, over
/// the channel at its measured rate and no faster than a device gives its state away, while the trackers are read for the
/// last time; then what was written meanwhile. The destination's devices come last.
public struct PreCopyForecast: Hashable, Sendable {
  /// Bytes of guest pages that are dirty now.
  public var pageBytes: UInt64 = 0
  /// Bytes that will be left of the devices' states when they stop: what the pre-copy info says, with what changes until then
  /// at the rate at which it did so far; or the driver's estimate of STOP_COPY where a device has
  /// no pre-copy (`VFIO_DEVICE_FEATURE_MIG_DATA_SIZE`).
  public var deviceBytes: UInt64 = 0
  /// Microseconds in which the slowest device gives away what it has left.
  public var deviceMicroseconds: UInt64 = 0
  /// Bytes that go out in a second; 0 before anything was measured.
  public var bandwidth: UInt64 = 0
  /// Bytes of guest memory that are dirtied in a second.
  public var dirtyRate: UInt64 = 0
  /// Microseconds that the trackers take to be read.
  public var reading: UInt64 = 0
  /// Microseconds from the order to stop the vCPUs to the last device's stop.
  public var quiescing: UInt64 = 0
  /// Microseconds from the last byte sent to the last device's start on the other side.
  public var loading: UInt64 = 0

  /// Nothing to move, and nothing known.
  public init() {}

  /// Microseconds; nil before the bandwidth is known.
  public var downtime: UInt64? {
    guard bandwidth > 0 else { return nil }
    let written = scaled(dirtyRate, by: quiescing, over: 1_000_000)
    let sending = scaled(pageBytes, by: 1_000_000, over: bandwidth)
    let states = scaled(deviceBytes, by: 1_000_000, over: bandwidth)
    let rest = sum(max(states, reading), scaled(written, by: 1_000_000, over: bandwidth))
    let transfer = max(sum(max(quiescing, sending), rest), sum(quiescing, deviceMicroseconds))
    return sum(transfer, loading)
  }
}

/// `a * b / c`, without overflow on the way; as much as fits.
func scaled(_ a: UInt64, by b: UInt64, over c: UInt64) -> UInt64 {
  let product = a.multipliedFullWidth(by: b)
  return product.high < c ? c.dividingFullWidth(product).quotient : UInt64.max
}

/// A sum, or as much as fits.
func sum(_ a: UInt64, _ b: UInt64) -> UInt64 {
  let (sum, overflow) = a.addingReportingOverflow(b)
  return overflow ? .max : sum
}

/// A rate in bytes a second, in which a measurement weighs as much as the bytes that it is made of.
struct MeasuredRate: Hashable, Sendable {
  private var bytes: UInt64 = 0
  private var microseconds: UInt64 = 0

  /// Takes in that so many bytes took so long. What is large or took long pushes older measurements out; the rest says little.
  mutating func add(_ bytes: UInt64, microseconds: UInt64) {
    if bytes >= self.bytes / 8 || microseconds >= self.microseconds / 8 {
      self.bytes /= 2
      self.microseconds /= 2
    }
    self.bytes = sum(self.bytes, bytes)
    self.microseconds = sum(self.microseconds, microseconds)
  }

  /// 0 where nothing was measured.
  var bytesPerSecond: UInt64 { bytes == 0 ? 0 : scaled(bytes, by: 1_000_000, over: max(1, microseconds)) }
}
