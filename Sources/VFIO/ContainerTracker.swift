// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxIO
public import Migration
internal import Synchronization

/// Dirty pages as a legacy container has them, for all devices in it: one tracker for a container.
///
/// It knows what emulated devices (mediated ones) have written. For what a device behind an IOMMU has written it knows
/// nothing, and says each time that all of it is dirty.
///
/// The kernel answers "nothing was written" for what is not mapped, and EINVAL where addresses begin or end within a
/// mapping. Both together tell whether a run is there: its first and its last page alone have to be refused. A run of one
/// page can't be checked so, and is believed.
public final class ContainerTracker: DirtyTracker {
  private struct State: ~Copyable {
    /// What a bit stands for, in bytes; nil while tracking is off.
    var pageSize: UInt64?
    /// The kernel writes over it all, so an answer has to come here first and never straight into a bitmap.
    var answer = AnswerMemory(.container)
    /// For questions that the kernel should refuse; there at least while tracking is on.
    var word: LockedWords?
  }

  /// What it reads.
  public let container: Container
  private let state = Mutex(State())

  /// A tracker for a container that has groups in it. Nothing is turned on yet.
  public init(_ container: Container) { self.container = container }

  public var kind: TrackerKind { .container }

  /// Turns the container's dirty bitmap on. The corresponding C constant is `VFIO_IOMMU_DIRTY_PAGES_FLAG_START`.
  public func start(_ map: MappedMemory) throws(TrackerError) {
    try state.withLock { state throws(TrackerError) in
      guard state.pageSize == nil else { throw TrackerError(.container, .start, .alreadyTracking) }
      let pageSize = try kind.asking(.start) { () throws(SystemError) in
        guard let pageSize = try container.trackingPageSize() else {
          throw SystemError("tracking in", container.descriptor.subject, errno: EOPNOTSUPP)
        }
        return pageSize
      }
      state.word = try kind.asking(.start) { () throws(SystemError) in try LockedWords(count: 1) }
      try kind.asking(.start) { () throws(SystemError) in try container.setTracking(true) }
      do throws(TrackerError) {
        // While it is off the kernel refuses every range.
        for run in map.runs { try check(run, pageSize, &state) }
      } catch {
        try? container.setTracking(false)
        throw error
      }
      state.pageSize = pageSize
    }
  }

  /// Reads the dirty bits; the container forgets them, whatever the purpose.
  /// The corresponding C constant is `VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP`.
  public func read<Words: DirtyWords & ~Copyable>(
    _ runs: [MappedRun], for purpose: ReadingPurpose, into bitmap: inout DirtyBitmap<Words>
  ) throws(TrackerError) {
    try state.withLock { state throws(TrackerError) in
      guard let pageSize = state.pageSize else { throw TrackerError(.container, .read, .notTracking) }
      // One by one: the kernel joins the bits of several mappings by shifting its own, and leaves them shifted where it fails.
      for run in runs {
        try state.answer.ask(run.length / pageSize) { words throws(SystemError) in
          try container.readDirty(run.addresses, pageSize: pageSize, to: words)
        }
        let answer = DirtyAnswer(
          base: run.addresses.lowerBound, pageSize: pageSize, addresses: run.addresses, guest: run.guest)
        try state.answer.add(answer, to: &bitmap)
        try check(run, pageSize, &state)
      }
    }
  }

  /// Nothing has to be done for what is mapped while the bitmap is on, but to see that it is mapped.
  public func add(_ run: MappedRun, to map: MappedMemory) throws(TrackerError) -> TrackerContinuity {
    try state.withLock { state throws(TrackerError) in
      guard let pageSize = state.pageSize else { throw TrackerError(.container, .add, .notTracking) }
      try check(run, pageSize, &state)
    }
    return .kept
  }

  /// Turns the bitmap off, if it was turned on here. The corresponding C constant is `VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP`.
  public func stop() throws(TrackerError) {
    try state.withLock { state throws(TrackerError) in
      guard state.pageSize != nil else { throw TrackerError(.container, .stop, .notTracking) }
      state.pageSize = nil
      state.word = nil
      state.answer = AnswerMemory(.container)
      try kind.asking(.stop) { () throws(SystemError) in try container.setTracking(false) }
    }
  }

  /// Throws where the run is not one mapping, as far as the kernel lets that be seen.
  private func check(_ run: MappedRun, _ pageSize: UInt64, _ state: inout State) throws(TrackerError) {
    guard let address = state.word?.address else { throw TrackerError(.container, .check, .notTracking) }
    let word = AnswerWords(address: address, count: 1)
    let (low, high) = (run.addresses.lowerBound, run.addresses.upperBound)
    guard (low | high) % pageSize == 0 else { throw TrackerError(.container, .check, .notMapped(run.addresses)) }
    if run.length == pageSize { return }
    for part in [low..<low + pageSize, high - pageSize..<high] {
      do throws(SystemError) {
        try container.readDirty(part, pageSize: pageSize, to: word)
      } catch {
        if error.errno == EINVAL { continue }
        throw TrackerError(.container, .check, .errno(ErrorNumber(rawValue: error.errno)))
      }
      throw TrackerError(.container, .check, .notMapped(run.addresses))
    }
  }
}
