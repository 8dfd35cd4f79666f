// SPDX-License-Identifier: Apache-2.0

/// I/O addresses that a device may write to, and the guest memory behind them: what one call mapped.
///
/// Behind a virtual IOMMU the two are different numbers, and two runs may lead to the same guest memory.
///
/// A run is a whole mapping, never a part of one. Kernels read dirty bits in the pages of the IOMMU, which may be as large
/// as the mapping: reading a part may clear what stands for the rest, or pass over it. The container refuses parts.
public struct MappedRun: Hashable, Sendable {
  /// The I/O addresses in bytes, in units of ``DirtyLayout/unit``; at least one unit.
  public let addresses: Range<UInt64>
  /// The guest address of the first byte. The others follow it.
  public let guest: UInt64

  /// - Throws: ``MappedMemoryError/range(_:guest:)`` where it is empty, not in whole units, or its end does not fit into
  ///   64 bits.
  public init(_ addresses: Range<UInt64>, guest: UInt64) throws(MappedMemoryError) {
    let (_, overflow) = guest.addingReportingOverflow(addresses.upperBound - addresses.lowerBound)
    guard !addresses.isEmpty, !overflow,
      (addresses.lowerBound | addresses.upperBound | guest) % DirtyLayout.unit == 0
    else { throw .range(addresses, guest: guest) }
    self.addresses = addresses
    self.guest = guest
  }

  /// How many bytes.
  public var length: UInt64 { addresses.upperBound - addresses.lowerBound }

  /// The guest addresses in bytes.
  public var guestAddresses: Range<UInt64> { guest..<guest + length }
}

/// Why a map of I/O addresses can't be changed so. Nothing has changed then.
public enum MappedMemoryError: Error, Hashable, Sendable {
  /// Addresses that are empty, not in units of ``DirtyLayout/unit``, or that don't fit behind the guest address.
  case range(Range<UInt64>, guest: UInt64)
  /// I/O addresses of which some are mapped already.
  case overlap(Range<UInt64>)
  /// I/O addresses that are not those of one run.
  case notMapped(Range<UInt64>)
  /// Guest addresses that have no bit in the bitmap.
  case outside(Range<UInt64>)
  /// More than ``MappedMemory/maximumRuns``.
  case tooManyRuns
}

extension MappedMemoryError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .range(let range, let guest):
      "can't map the I/O addresses \(hexadecimal(range)) to the guest address 0x\(String(guest, radix: 16)): they are "
        + "empty, not in units of \(DirtyLayout.unit) bytes, or too many"
    case .overlap(let range): "some of the I/O addresses \(hexadecimal(range)) are mapped already"
    case .notMapped(let range): "the I/O addresses \(hexadecimal(range)) are not those of one mapping"
    case .outside(let range): "\(hexadecimal(range)) is not guest memory, or not all of it"
    case .tooManyRuns: "more than \(MappedMemory.maximumRuns) mappings"
    }
  }
}

/// What the devices of one address space may write to: its runs, in the order of their I/O addresses.
public struct MappedMemory: Hashable, Sendable {
  /// The most runs: as many as the kernel lets a container have, by default.
  public static let maximumRuns = 65_535

  /// Where the guest memory's bits are.
  public private(set) var layout: DirtyLayout
  /// The runs by I/O address. No two share one; any two may share guest memory.
  public private(set) var runs: [MappedRun] = []

  /// Nothing is mapped at first.
  public init(layout: DirtyLayout) { self.layout = layout }

  /// Goes on with another layout, before anything is tracked: guest memory was added, or pages have another size.
  /// - Throws: where something is mapped that has no bit in it. Nothing has changed then.
  public mutating func move(to layout: DirtyLayout) throws(MappedMemoryError) {
    for run in runs { try Self.check(run, in: layout) }
    self.layout = layout
  }

  private static func check(_ run: MappedRun, in layout: DirtyLayout) throws(MappedMemoryError) {
    do throws(DirtyBitmapError) {
      _ = try layout.parts(of: run.guestAddresses)
    } catch {
      throw .outside(run.guestAddresses)
    }
  }

  /// Where a run that begins at this I/O address is, or would have to be.
  private func index(of address: UInt64) -> Int {
    var low = 0
    var high = runs.count
    while low < high {
      let middle = (low + high) / 2
      if runs[middle].addresses.lowerBound < address { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Whether exactly this run is mapped.
  public func contains(_ run: MappedRun) -> Bool {
    let index = index(of: run.addresses.lowerBound)
    return index < runs.count && runs[index] == run
  }

  /// Takes in a run. Trackers that are on have to be told: see ``TrackedMemory/add(_:into:)``.
  public mutating func add(_ run: MappedRun) throws(MappedMemoryError) {
    try Self.check(run, in: layout)
    guard runs.count < Self.maximumRuns else { throw .tooManyRuns }
    let index = index(of: run.addresses.lowerBound)
    if index > 0, runs[index - 1].addresses.overlaps(run.addresses) { throw .overlap(run.addresses) }
    if index < runs.count, runs[index].addresses.overlaps(run.addresses) { throw .overlap(run.addresses) }
    runs.insert(run, at: index)
  }

  /// The runs that have one of these I/O addresses.
  public func runs(touching addresses: Range<UInt64>) -> ArraySlice<MappedRun> {
    var first = index(of: addresses.lowerBound)
    if first > 0, runs[first - 1].addresses.overlaps(addresses) { first -= 1 }
    return runs[first..<max(first, index(of: addresses.upperBound))]
  }

  /// The run that has these I/O addresses, all of them and no others.
  func run(at addresses: Range<UInt64>) throws(MappedMemoryError) -> MappedRun {
    let index = index(of: addresses.lowerBound)
    guard index < runs.count, runs[index].addresses == addresses else { throw .notMapped(addresses) }
    return runs[index]
  }

  /// Lets go of a run; of one that is not there, nothing.
  public mutating func remove(_ run: MappedRun) {
    let index = index(of: run.addresses.lowerBound)
    if index < runs.count, runs[index] == run { runs.remove(at: index) }
  }
}
