// SPDX-License-Identifier: Apache-2.0

/// The I/O addresses that a device's log is told to watch: all that is mapped, in as few ranges as the device takes.
///
/// Watching more than is mapped costs nothing but the device's memory, so ranges become fewer by closing the smallest gaps
/// between them. What is unmapped later stays in, so that memory mapped there again needs no new log.
public struct WatchedRanges: Hashable, Sendable {
  /// As many as the kernel takes: those that fit into a page of its memory.
  public static let maximum = 256

  /// In ascending order; they don't touch.
  public let ranges: [Range<UInt64>]

  /// The ranges for these runs, whole pages each.
  /// - Parameters:
  ///   - runs: in the order of their I/O addresses, as in ``MappedMemory/runs``.
  ///   - pageSize: bytes that a bit of the log stands for: a power of two, 4,096 or more.
  ///   - count: the most ranges, at least 1.
  ///   - limits: what the device can watch, where that is known. Gaps that are closed lie within them if the runs do.
  /// - Throws: ``TrackerError/Cause/beyondLimits(_:)`` where a run, rounded to whole pages, is not within the limits or
  ///   ends beyond 64 bits.
  public init(
    covering runs: [MappedRun], pageSize: UInt64, atMost count: Int = maximum, within limits: Range<UInt64>? = nil
  ) throws(TrackerError) {
    var ranges: [Range<UInt64>] = []
    for run in runs {
      guard let pages = run.pages(of: pageSize), limits.map({ $0.clamped(to: pages) == pages }) ?? true else {
        throw TrackerError(.device, .start, .beyondLimits(run.addresses))
      }
      if let last = ranges.last, last.upperBound >= pages.lowerBound {
        ranges[ranges.count - 1] = last.lowerBound..<max(last.upperBound, pages.upperBound)
      } else {
        ranges.append(pages)
      }
    }
    let excess = ranges.count - max(count, 1)
    if excess > 0 {
      // By size, and of two that are alike the lower first.
      let gaps = (1..<ranges.count).sorted { one, other in
        let sizes = [one, other].map { ranges[$0].lowerBound - ranges[$0 - 1].upperBound }
        return sizes[0] == sizes[1] ? one < other : sizes[0] < sizes[1]
      }
      for index in gaps.prefix(excess).sorted(by: >) {
        ranges[index - 1] = ranges[index - 1].lowerBound..<ranges[index].upperBound
        ranges.remove(at: index)
      }
    }
    self.ranges = ranges
  }

  /// Whether all of these I/O addresses are watched.
  public func covers(_ addresses: Range<UInt64>) -> Bool {
    ranges.contains { $0.clamped(to: addresses) == addresses }
  }

  /// Whether every range begins and ends at a page of that size: a power of two.
  public func isAligned(to pageSize: UInt64) -> Bool {
    ranges.allSatisfy { ($0.lowerBound | $0.upperBound) & (pageSize - 1) == 0 }
  }
}

extension MappedRun {
  /// The I/O addresses of all pages that it touches; nil where the last one ends beyond 64 bits.
  /// - Parameter pageSize: bytes, a power of two.
  public func pages(of pageSize: UInt64) -> Range<UInt64>? {
    let (end, overflow) = addresses.upperBound.addingReportingOverflow(pageSize - 1)
    return overflow ? nil : addresses.lowerBound & ~(pageSize - 1)..<end & ~(pageSize - 1)
  }
}
