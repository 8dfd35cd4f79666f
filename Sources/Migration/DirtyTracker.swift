// SPDX-License-Identifier: Apache-2.0

/// Who can tell which guest pages a device has written to.
public enum TrackerKind: String, CaseIterable, Hashable, Sendable {
  /// The IOMMU's page table: `IOMMU_HWPT_GET_DIRTY_BITMAP`. It sees what every device behind the table writes.
  case iommu
  /// The device's own log: `VFIO_DEVICE_FEATURE_DMA_LOGGING_START` and `_REPORT`.
  case device
  /// The legacy container: `VFIO_IOMMU_DIRTY_PAGES`. For a PCI device it reports all that is mapped.
  case container
  /// Nobody: whatever the device may write to counts as written, each time.
  case everything
}

extension TrackerKind: CustomStringConvertible {
  public var description: String { rawValue }
}

/// What follows after a reading.
public enum ReadingPurpose: Hashable, Sendable {
  /// The memory stays mapped, and the tracker forgets what it has told.
  case next
  /// The memory is about to be unmapped, so there is no need to forget. What is told again later does no harm.
  case beforeUnmap
}

/// What a tracker knows after its addresses were changed.
public enum TrackerContinuity: Hashable, Sendable {
  /// Everything that it knew before, and every write to what is new since it was mapped.
  case kept
  /// Nothing of before: it tracks from now on, and all that it watches must count as dirty.
  case restarted
}

/// Something that knows which memory devices have written to, as everything above the kernel sees it.
///
/// Every call blocks until the kernel has answered. One thread at a time makes calls on a tracker. After a call that threw
/// its knowledge is worth nothing: ``TrackedMemory`` makes everything dirty then, and goes on with another.
public protocol DirtyTracker: AnyObject, Sendable {
  /// What it is.
  var kind: TrackerKind { get }

  /// Begins to track writes to these addresses. What was written before it returns is not known.
  func start(_ map: MappedMemory) throws(TrackerError)

  /// Marks the guest pages that were written to since the last reading of the same runs, or since the start.
  ///
  /// It throws ``TrackerError/Cause/notTracking`` where it was not started: the kernel would answer that nothing is dirty.
  /// - Parameters:
  ///   - runs: mapped, as ``start(_:)`` and ``add(_:to:)`` were told, until the call returns.
  ///   - purpose: whether the tracker has to forget what it tells.
  ///   - bitmap: bits are only ever set, also where this throws.
  func read<Words: DirtyWords & ~Copyable>(
    _ runs: [MappedRun], for purpose: ReadingPurpose, into bitmap: inout DirtyBitmap<Words>
  ) throws(TrackerError)

  /// Tracks a run that has been mapped.
  /// - Parameter map: all that is mapped, with the new run.
  func add(_ run: MappedRun, to map: MappedMemory) throws(TrackerError) -> TrackerContinuity

  /// Stops tracking. What was not read is lost.
  func stop() throws(TrackerError)
}

/// No tracker at all: every reading marks all that can be written. It never fails.
public final class EverythingTracker: DirtyTracker {
  /// One for any number of devices and address spaces: it keeps nothing.
  public init() {}

  public var kind: TrackerKind { .everything }

  public func start(_ map: MappedMemory) {}

  /// Marks all pages of the runs; and all pages there are, if one of them should not be in the bitmap.
  public func read<Words: DirtyWords & ~Copyable>(
    _ runs: [MappedRun], for purpose: ReadingPurpose, into bitmap: inout DirtyBitmap<Words>
  ) {
    bitmap.mark(runs)
  }

  public func add(_ run: MappedRun, to map: MappedMemory) -> TrackerContinuity { .kept }

  public func stop() {}
}

extension DirtyBitmap where Words: ~Copyable {
  /// Marks all pages of some runs. Where one of them is not in the bitmap, marks all pages there are.
  mutating func mark(_ runs: [MappedRun]) {
    for run in runs {
      do throws(DirtyBitmapError) {
        try mark(run.guestAddresses)
      } catch {
        markAll()
        return
      }
    }
  }
}
