// SPDX-License-Identifier: Apache-2.0
public import LinuxIO
public import Migration

/// Guest memory as files: each guest range, and the file that holds it.
public final class GuestMemoryFiles: Sendable {
  /// A guest range and its file.
  public struct Part: Sendable {
    /// Guest addresses in bytes.
    public let guest: Range<UInt64>
    /// As many bytes.
    public let file: MemoryFile

    /// - Parameter file: has as many bytes as the range.
    public init(guest: Range<UInt64>, file: MemoryFile) {
      precondition(guest.upperBound - guest.lowerBound == file.size, "a file of another size than its guest range")
      self.guest = guest
      self.file = file
    }
  }

  /// In ascending order of their guest addresses.
  public let parts: [Part]

  /// - Parameter parts: in any order.
  /// - Throws: where they are no guest memory, for example because two overlap.
  public init(_ parts: [Part]) throws(DirtyBitmapError) {
    let parts = parts.sorted { $0.guest.lowerBound < $1.guest.lowerBound }
    _ = try DirtyLayout(ranges: parts.map(\.guest), pageSize: DirtyLayout.unit)
    self.parts = parts
  }

  /// The guest ranges, in ascending order.
  public var ranges: [Range<UInt64>] { parts.map(\.guest) }

  /// The part that a guest address is in.
  private func part(of address: UInt64) -> Part {
    var low = 0
    var high = parts.count
    while low < high {
      let middle = (low + high) / 2
      if parts[middle].guest.upperBound > address { high = middle } else { low = middle + 1 }
    }
    precondition(low < parts.count && parts[low].guest.contains(address), "an address outside of guest memory")
    return parts[low]
  }

  /// Writes to memory.
  /// - Parameter address: of the first byte; all of them are in one guest range.
  func write(_ bytes: Span<UInt8>, at address: UInt64) throws(MemoryFileError) {
    let part = part(of: address)
    try part.file.write(bytes, at: address - part.guest.lowerBound)
  }

  /// Makes memory zero. What is zero already is not written, so that memory that nobody ever used takes none.
  /// - Parameters:
  ///   - run: guest addresses in units of ``MemoryFormat/unit``, all in one guest range, as many as the buffer has at
  ///     most.
  ///   - buffer: for what is in memory now.
  func clear(_ run: Range<UInt64>, by buffer: TransferBuffer) throws(MemoryFileError) {
    let part = part(of: run.lowerBound)
    let position = run.lowerBound - part.guest.lowerBound
    let count = Int(run.upperBound - run.lowerBound)
    try buffer.withMutableSpan(0..<count) { (bytes: inout MutableSpan<UInt8>) throws(MemoryFileError) in
      try part.file.read(into: &bytes, at: position)
    }
    let unit = Int(MemoryFormat.unit)
    var low = 0
    while low < count {
      var high = low
      while high < count, !buffer.withSpan(high..<high + unit, { $0.isZero }) { high += unit }
      if high > low {
        buffer.withMutableSpan(low..<high) { bytes in bytes.update(repeating: 0) }
        try buffer.withSpan(low..<high) { (bytes: Span<UInt8>) throws(MemoryFileError) in
          try part.file.write(bytes, at: position + UInt64(low))
        }
      }
      low = high + unit
    }
  }
}
