// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxIO
public import Migration
internal import Synchronization

/// Dirty pages as a device's own log has them.
///
/// The log is told once what to watch. Memory that is mapped outside of that later needs a new one, and what the old one
/// knew is lost: everything is dirty then. Memory that is unmapped stays watched.
///
/// A driver may choose larger pages than it is asked for. Ranges are rounded to them, and where a page belongs to several
/// runs, a reading of one of these marks its part of all of them, because the log forgets the page.
public final class DeviceLogTracker: DirtyTracker {
  private struct State: ~Copyable {
    /// Nil: nothing is tracked.
    var watched: WatchedRanges?
    /// Whether a log was started here and not stopped since. It may be on also while nothing is tracked: after a stop that
    /// failed.
    var isLogOn = false
    /// What is mapped, and is not about to be unmapped.
    var map: MappedMemory?
    var pageSize: UInt64 = 0
    var answer = AnswerMemory(.device)
  }

  private let device: KernelDevice
  private let limits: Range<UInt64>?
  private let state = Mutex(State())

  /// A tracker for a device, which is bound or came from a group. Nothing is turned on yet.
  /// - Parameter limits: the I/O addresses that the device can watch, where they are known: beyond them the kernel refuses
  ///   to start the log, or (mlx5) reports errors.
  public init(_ device: KernelDevice, limits: Range<UInt64>? = nil) {
    self.device = device
    self.limits = limits
  }

  /// What to offer for a device: this tracker if the device has a log. The corresponding C constants are
  /// `VFIO_DEVICE_FEATURE_PROBE` and `VFIO_DEVICE_FEATURE_DMA_LOGGING_START`.
  /// - Parameter limits: as for ``init(_:limits:)``.
  public static func offer(_ device: KernelDevice, limits: Range<UInt64>? = nil) -> TrackerOffer {
    do throws(SystemError) {
      try device.probeLog()
      return .ready(DeviceLogTracker(device, limits: limits))
    } catch {
      return .missing(.device, error.errno == ENOTTY ? "the device has no log of its own" : "\(error)")
    }
  }

  public var kind: TrackerKind { .device }

  /// Starts the log. The corresponding C constant is `VFIO_DEVICE_FEATURE_DMA_LOGGING_START`.
  public func start(_ map: MappedMemory) throws(TrackerError) {
    try state.withLock { state throws(TrackerError) in
      guard state.watched == nil else { throw TrackerError(.device, .start, .alreadyTracking) }
      // A log that would not stop the last time is tried once more. Where it is over by now, the start says so.
      var left: TrackerError?
      do throws(TrackerError) {
        try turnOff(.start, &state)
      } catch {
        left = error
      }
      do throws(TrackerError) {
        try begin(map, &state)
      } catch {
        if case .errno = error.cause, let left { throw left }
        throw error
      }
    }
  }

  /// Reads the log, which forgets what it tells. The corresponding C constant is `VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT`.
  public func read<Words: DirtyWords & ~Copyable>(
    _ runs: [MappedRun], for purpose: ReadingPurpose, into bitmap: inout DirtyBitmap<Words>
  ) throws(TrackerError) {
    try state.withLock { state throws(TrackerError) in
      guard let watched = state.watched, let map = state.map else { throw TrackerError(.device, .read, .notTracking) }
      // Runs that share a page of the log, or touch, are read with one report.
      var pieces: [Range<UInt64>] = []
      for run in runs {
        guard map.contains(run), let pages = run.pages(of: state.pageSize), watched.covers(pages) else {
          throw TrackerError(.device, .read, .notMapped(run.addresses))
        }
        if let last = pieces.last, last.lowerBound <= pages.lowerBound, last.upperBound >= pages.lowerBound {
          pieces[pieces.count - 1] = last.lowerBound..<max(last.upperBound, pages.upperBound)
        } else {
          pieces.append(pages)
        }
      }
      for piece in pieces { try report(piece, map, &state, into: &bitmap) }
      if purpose == .beforeUnmap { for run in runs { state.map?.remove(run) } }
    }
  }

  private func report<Words: DirtyWords & ~Copyable>(
    _ piece: Range<UInt64>, _ map: MappedMemory, _ state: inout State, into bitmap: inout DirtyBitmap<Words>
  ) throws(TrackerError) {
    let pageSize = state.pageSize
    try state.answer.add(piece, pageSize: pageSize, of: map.runs(touching: piece), to: &bitmap) {
      words throws(SystemError) in
      try device.addLogged(piece, pageSize: pageSize, to: words)
    }
  }

  /// Watches a run as well: at once where the log does so already, and by a new log where it doesn't.
  public func add(_ run: MappedRun, to map: MappedMemory) throws(TrackerError) -> TrackerContinuity {
    try state.withLock { state throws(TrackerError) in
      guard let watched = state.watched else { throw TrackerError(.device, .add, .notTracking) }
      if let pages = run.pages(of: state.pageSize), watched.covers(pages) {
        state.map = map
        return .kept
      }
      state.watched = nil
      try turnOff(.add, &state)
      try begin(map, &state)
      return .restarted
    }
  }

  /// Stops the log. Where that fails nothing is tracked any more, but the log may be on, and can be stopped again.
  /// The corresponding C constant is `VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP`.
  public func stop() throws(TrackerError) {
    try state.withLock { state throws(TrackerError) in
      guard state.watched != nil || state.isLogOn else { throw TrackerError(.device, .stop, .notTracking) }
      let isLogOn = state.isLogOn
      state = State()
      state.isLogOn = isLogOn
      try turnOff(.stop, &state)
    }
  }

  /// Stops the log if it was started here.
  private func turnOff(_ operation: TrackerError.Operation, _ state: inout State) throws(TrackerError) {
    if !state.isLogOn { return }
    try kind.asking(operation) { () throws(SystemError) in try device.stopLog() }
    state.isLogOn = false
  }

  /// Turns off whatever log a device has, whoever started it: for one that a killed program has left. Of a device without a
  /// running log most drivers say nothing. The corresponding C constant is `VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP`.
  public static func turnOff(_ device: KernelDevice) throws(TrackerError) {
    try TrackerKind.device.asking(.stop) { () throws(SystemError) in try device.stopLog() }
  }

  /// Starts the log with as many ranges as the device takes and in pages that it can't make larger.
  private func begin(_ map: MappedMemory, _ state: inout State) throws(TrackerError) {
    var pageSize = map.layout.pageSize
    // What the device itself made larger stays so.
    var least = DirtyLayout.unit
    var count = WatchedRanges.maximum
    while true {
      let wanted: WatchedRanges
      do throws(TrackerError) {
        wanted = try WatchedRanges(covering: map.runs, pageSize: pageSize, atMost: count, within: limits)
      } catch {
        // Smaller pages reach less far beyond the runs.
        guard pageSize > least else { throw error }
        pageSize /= 2
        continue
      }
      let chosen: UInt64
      do throws(SystemError) {
        // A log of nothing is refused by the kernel.
        chosen = wanted.ranges.isEmpty ? pageSize : try device.startLog(wanted.ranges, pageSize: pageSize)
      } catch {
        guard error.errno == E2BIG, wanted.ranges.count > 1 else {
          throw TrackerError(.device, .start, .errno(ErrorNumber(rawValue: error.errno)))
        }
        // What a device takes at most is not told. It is a power of two on all that are known.
        count = 1 << (Int.bitWidth - 1 - (wanted.ranges.count - 1).leadingZeroBitCount)
        continue
      }
      if !wanted.ranges.isEmpty { state.isLogOn = true }
      guard chosen.nonzeroBitCount == 1, DirtyLayout.pageSizes.contains(chosen) else {
        try turnOff(.start, &state)
        throw TrackerError(.device, .start, .pageSize(chosen))
      }
      if wanted.isAligned(to: chosen) {
        state.watched = wanted
        state.map = map
        state.pageSize = chosen
        return
      }
      // Rounded to the pages of the device, so that none of them reaches beyond what is asked for. They are larger than
      // those that were wished for, and larger each time.
      try turnOff(.start, &state)
      pageSize = chosen
      least = chosen
    }
  }
}
