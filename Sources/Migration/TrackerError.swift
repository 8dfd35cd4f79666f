// SPDX-License-Identifier: Apache-2.0

/// A tracker of dirty pages that did not do what it was asked to.
public struct TrackerError: Error, Hashable, Sendable {
  /// What was asked.
  public enum Operation: String, Hashable, Sendable {
    /// Turning it on.
    case start = "turning it on"
    /// Reading what was written.
    case read = "reading what was written"
    /// Finding out whether the addresses are mapped as a whole, where the kernel would hide that they are not.
    case check = "checking what is mapped"
    /// Taking in addresses that were mapped.
    case add = "adding memory to it"
    /// Turning it off.
    case stop = "turning it off"
  }

  /// Why it failed.
  public enum Cause: Hashable, Sendable {
    /// The kernel answered with this error number.
    case errno(ErrorNumber)
    /// What the kernel answered does not fit the bitmap.
    case bitmap(DirtyBitmapError)
    /// It was not turned on, or has been turned off.
    case notTracking
    /// It was on already; turning it on again would forget what it knows.
    case alreadyTracking
    /// These I/O addresses are not mapped, or not all of them: the kernel would answer with a part and say that it is all.
    case notMapped(Range<UInt64>)
    /// The device chose a page size in bytes that is no power of two or not among ``DirtyLayout/pageSizes``.
    case pageSize(UInt64)
    /// The device can't watch these I/O addresses.
    case beyondLimits(Range<UInt64>)
  }

  /// Which kind of tracker.
  public let kind: TrackerKind
  /// What was asked.
  public let operation: Operation
  /// Why it failed.
  public let cause: Cause

  /// A failure and its cause.
  public init(_ kind: TrackerKind, _ operation: Operation, _ cause: Cause) {
    self.kind = kind
    self.operation = operation
    self.cause = cause
  }
}

extension TrackerError: CustomStringConvertible {
  public var description: String { "the tracker \"\(kind)\": \(operation.rawValue): \(cause)" }
}

extension TrackerError.Cause: CustomStringConvertible {
  public var description: String {
    switch self {
    case .errno(let number): "the kernel answered \(number)"
    case .bitmap(let error): "\(error)"
    case .notTracking: "it is not on"
    case .alreadyTracking: "it is on already"
    case .notMapped(let range): "the I/O addresses \(hexadecimal(range)) are not mapped, or not all of them"
    case .pageSize(let size): "the device chose pages of \(size) bytes"
    case .beyondLimits(let range): "the device can't watch the I/O addresses \(hexadecimal(range))"
    }
  }
}
