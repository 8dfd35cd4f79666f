// SPDX-License-Identifier: Apache-2.0

/// Which memory was dirty when, in as many columns as fit into a picture, however long it took: once there are too many,
/// each two become one.
public struct DirtyHistory: Hashable, Sendable {
  /// Readings that followed each other.
  public struct Column: Hashable, Sendable {
    /// Microseconds from the beginning to the column's.
    public let start: UInt64
    /// Microseconds of its readings.
    public private(set) var microseconds: UInt64
    /// Dirty pages for each row.
    public private(set) var pages: [UInt64]
    /// How many readings it has.
    fileprivate var readings: Int

    fileprivate mutating func add(_ other: Column) {
      microseconds += other.microseconds
      readings += other.readings
      for row in pages.indices { pages[row] += other.pages[row] }
    }
  }

  /// The most columns.
  public static let mostColumns = 160
  /// The most rows, where there are not more guest ranges.
  public static let mostRows = 64

  /// What the rows are.
  public let rows: DirtyBuckets
  /// In the order of time.
  public private(set) var columns: [Column] = []
  private var readingsOfColumn = 1

  /// Of memory in these pieces, or in larger ones.
  init(_ buckets: DirtyBuckets) {
    rows = DirtyBuckets(buckets.layout, atMost: Self.mostRows, smallest: buckets.size)
  }

  mutating func take(_ pages: [UInt64], microseconds: UInt64) {
    let start = columns.last.map { $0.start + $0.microseconds } ?? 0
    let column = Column(start: start, microseconds: microseconds, pages: pages, readings: 1)
    if let last = columns.last, last.readings < readingsOfColumn {
      columns[columns.count - 1].add(column)
      return
    }
    if columns.count == Self.mostColumns {
      columns = stride(from: 0, to: columns.count, by: 2).map { index in
        var both = columns[index]
        both.add(columns[index + 1])
        return both
      }
      readingsOfColumn *= 2
    }
    columns.append(column)
  }
}
