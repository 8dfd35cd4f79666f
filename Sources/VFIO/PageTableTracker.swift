// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
public import Migration
internal import Synchronization

/// Dirty pages as the IOMMU's page table has them, for all devices that are attached to it: one tracker for a page table.
///
/// The kernel answers "nothing was written" where it can't tell. So:
///
/// - a hole in a range, after which all is missing: every run is checked when it is added and after each reading;
/// - tracking that is not on: it is read only between a start that succeeded and the stop. Nobody else may turn it off: a
///   VMM that lends its page table leaves its tracking alone;
/// - memory for the answer that can't be pinned: it is locked in memory before (``LinuxIO/LockedWords``), or is the
///   bitmap's own and locked (``Migration/DirtyWords/lockedAddress``).
public final class PageTableTracker: DirtyTracker {
  private struct State: ~Copyable {
    /// With no device; there while tracking is on.
    var scratch: AddressSpace?
    var answer = AnswerMemory(.iommu)
  }

  /// What it reads.
  public let table: PageTable
  private let state = Mutex(State())

  /// A tracker for a page table that was made with dirty tracking. Nothing is turned on yet.
  public init(_ table: PageTable) { self.table = table }

  public var kind: TrackerKind { .iommu }

  /// Turns tracking on, which clears the dirty bits. The corresponding C constant is `IOMMU_HWPT_SET_DIRTY_TRACKING`.
  public func start(_ map: MappedMemory) throws(TrackerError) {
    try state.withLock { state throws(TrackerError) in
      guard state.scratch == nil else { throw TrackerError(.iommu, .start, .alreadyTracking) }
      let scratch = try kind.asking(.start) { () throws(SystemError) in try AddressSpace(in: table.space.iommufd) }
      for run in map.runs { try check(run, scratch) }
      try kind.asking(.start) { () throws(SystemError) in try table.setTracking(true) }
      state.scratch = scratch
    }
  }

  /// Reads the dirty bits and clears them, or leaves them where the memory is about to be unmapped.
  /// The corresponding C constants are `IOMMU_HWPT_GET_DIRTY_BITMAP` and `IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR`.
  public func read<Words: DirtyWords & ~Copyable>(
    _ runs: [MappedRun], for purpose: ReadingPurpose, into bitmap: inout DirtyBitmap<Words>
  ) throws(TrackerError) {
    try state.withLock { state throws(TrackerError) in
      guard let scratch = state.scratch else { throw TrackerError(.iommu, .read, .notTracking) }
      let layout = bitmap.layout
      for run in runs {
        // A page in which the run has a border, or lies otherwise than in the guest, is asked for in smaller ones.
        let aligned = run.addresses.lowerBound | run.addresses.upperBound | run.guest | layout.pageSize
        let pageSize = aligned & (0 &- aligned)
        try state.answer.add(run.addresses, pageSize: pageSize, of: CollectionOfOne(run), to: &bitmap) {
          words throws(SystemError) in
          try table.addDirty(run.addresses, pageSize: pageSize, clears: purpose == .next, to: words)
        }
        try check(run, scratch)
      }
    }
  }

  /// Nothing has to be done for what is mapped while tracking is on, but to see that it is mapped.
  public func add(_ run: MappedRun, to map: MappedMemory) throws(TrackerError) -> TrackerContinuity {
    try state.withLock { state throws(TrackerError) in
      guard let scratch = state.scratch else { throw TrackerError(.iommu, .add, .notTracking) }
      try check(run, scratch)
    }
    return .kept
  }

  /// Turns tracking off, if it was turned on here: what a VMM does with its own page table is its own affair.
  public func stop() throws(TrackerError) {
    try state.withLock { state throws(TrackerError) in
      guard state.scratch != nil else { throw TrackerError(.iommu, .stop, .notTracking) }
      state.scratch = nil
      state.answer = AnswerMemory(.iommu)
      try kind.asking(.stop) { () throws(SystemError) in try table.setTracking(false) }
    }
  }

  private func check(_ run: MappedRun, _ scratch: AddressSpace) throws(TrackerError) {
    let isMapped = try kind.asking(.check) { () throws(SystemError) in
      try table.space.isMapped(run.addresses, scratch: scratch)
    }
    if !isMapped { throw TrackerError(.iommu, .check, .notMapped(run.addresses)) }
  }
}
