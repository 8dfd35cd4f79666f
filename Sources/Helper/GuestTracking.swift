// SPDX-License-Identifier: Apache-2.0
internal import Engine
public import LinuxIO
public import Migration
internal import Synchronization

/// What one VM's devices may write to, and who tells what they have written: guest ranges, address spaces with their
/// mappings and devices, and one bitmap for all of it, which the VMM maps too.
///
/// **Whose the bitmap is.** Only ``read(_:)`` and ``count()`` write bits into it, and only `take` clears some: one thread
/// at a time makes these calls, the one that moves memory, and what it has lent to a VMM it does not touch. What comes
/// to be dirty on another thread's account (a mapping that goes, a device that is reset, pages that could not be sent)
/// is kept apart until the next reading adds it. So a bit can't come up between its clearing and the copying of its
/// page.
///
/// Every call may wait for a reading that is under way, the plain questions (``failures``, ``isOn``) excepted: mappings
/// change in one sequence with the readings.
public final class GuestTracking: Sendable {
  /// The devices of one address space, and what is mapped in it.
  struct Space: Sendable {
    var devices: [(handle: UInt32, choice: TrackerChoice)] = []
    /// What is mapped, while nothing is tracked; nil where nothing ever was.
    var map: MappedMemory?
    /// What is mapped and tracked.
    var tracked: TrackedMemory?
    /// How many of its trackers' failures have been told.
    var failuresTold = 0
  }

  struct Bitmap: ~Copyable, Sendable {
    var words: DirtyBitmap<SharedWords>
    /// What has become dirty and is not in the words yet.
    var pending: DirtyBitmap<PrivateWords>
    var hasPending = false
  }

  struct State: ~Copyable {
    var ranges: [Range<UInt64>] = []
    /// Over the ranges; nil where there are none.
    var layout: DirtyLayout?
    var spaces: [UInt32: Space] = [:]
    var mappings = 0
    var bitmap: Bitmap?
  }

  /// What may be asked at any time.
  private struct Told {
    var failures: [TrackedMemory.Failure] = []
    var layout: DirtyLayout?
  }

  /// The most mappings, all spaces together.
  public let maximumMappings: Int
  /// The most bytes that the bitmap may have. Some more of the same size are held while memory moves.
  public let maximumBitmapBytes: Int
  let state = Mutex(State())
  private let told = Mutex(Told())

  /// No memory, no mapping and no device at first.
  public init(maximumMappings: Int = 65_536, maximumBitmapBytes: Int = 1 << 28) {
    self.maximumMappings = maximumMappings
    self.maximumBitmapBytes = maximumBitmapBytes
  }

  /// What has failed since this was made, in order, and what took its place.
  public var failures: [TrackedMemory.Failure] { told.withLock { $0.failures } }

  /// Whether memory is tracked.
  public var isOn: Bool { layout != nil }

  /// Where in the bitmap the bit of a page is; nil while nothing is tracked.
  public var layout: DirtyLayout? { told.withLock { $0.layout } }

  /// The guest ranges, in ascending order.
  public var ranges: [Range<UInt64>] { state.withLock { $0.ranges } }

  // MARK: Tracking

  /// Turns all trackers on, with a fresh bitmap in which everything is dirty.
  /// - Parameter pageSize: bytes that a bit stands for.
  /// - Returns: a second descriptor of the bitmap's file, which the caller owns, for whoever shares it.
  /// - Throws: where there is no guest memory, or none for the bitmap; where it is on already.
  public func start(pageSize: UInt64) throws(GuestTrackingError) -> Descriptor {
    try state.withLock { state throws(GuestTrackingError) in
      if state.bitmap != nil { throw .isTracked }
      let layout: DirtyLayout
      let file: Descriptor
      do {
        layout = try DirtyLayout(ranges: state.ranges, pageSize: pageSize)
        if layout.wordCount > maximumBitmapBytes / 8 { throw GuestTrackingError.bitmapTooLarge(maximumBitmapBytes) }
        let words = try DirtyBitmap(sharing: layout)
        file = try words.duplicateDescriptor()
        state.bitmap = Bitmap(words: words, pending: DirtyBitmap(layout: layout))
      } catch let error as DirtyBitmapError {
        throw .memory(error)
      } catch let error as GuestTrackingError {
        throw error
      } catch let error as SystemError {
        throw .system(error)
      } catch {
        preconditionFailure("\(error)")
      }
      told.withLock { $0.layout = layout }
      for number in state.spaces.keys.sorted() { begin(number, layout, &state) }
      // What is mapped is part of everything.
      state.bitmap!.settle()
      state.bitmap!.words.markAll()
      return file
    }
  }

  /// Adds to the bitmap all that was written since the reading before, and what has become dirty otherwise.
  /// - Parameter moment: with the first, everything is dirty, whatever was sent before: nothing is at this destination
  ///   yet.
  /// - Returns: what is dirty now. While nothing is tracked everything is, and there is no bitmap to say so.
  public func read(_ moment: DirtyMoment = .next) -> DirtyReading {
    state.withLock { state in
      guard state.bitmap != nil else {
        let bytes = state.ranges.reduce(0) { $0 + ($1.upperBound - $1.lowerBound) }
        return DirtyReading(pages: bytes / DirtyLayout.unit, bytes: bytes)
      }
      state.bitmap!.settle()
      for number in state.spaces.keys.sorted() {
        state.spaces[number]!.tracked?.read(into: &state.bitmap!.words)
        tellFailures(of: number, &state)
      }
      if moment == .first { state.bitmap!.words.markAll() }
      return state.bitmap!.words.reading
    }
  }

  /// Counts what is dirty, and reads no tracker: what a VMM has left of a bitmap that it hands back. Called by its
  /// owner.
  public func count() -> DirtyReading? {
    state.withLock { state in
      guard state.bitmap != nil else { return nil }
      state.bitmap!.settle()
      return state.bitmap!.words.reading
    }
  }

  /// Turns all trackers off, and lets go of the bitmap. What they did not do is told; nothing is lost by it.
  @discardableResult
  public func stop() -> [TrackerError] {
    state.withLock { state in
      var errors: [TrackerError] = []
      for number in state.spaces.keys.sorted() {
        guard var tracked = state.spaces[number]!.tracked else { continue }
        state.spaces[number]!.tracked = nil
        errors += tracked.stop()
        state.spaces[number]!.map = tracked.map
      }
      state.bitmap = nil
      told.withLock { $0.layout = nil }
      return errors
    }
  }

  /// Turns the trackers of one space on, anew where they were on before: everything in it is dirty with the next
  /// reading.
  func begin(_ number: UInt32, _ layout: DirtyLayout, _ state: inout State) {
    var space = state.spaces[number]!
    if var before = space.tracked {
      before.stop()
      space.map = before.map
    }
    var map = space.map ?? MappedMemory(layout: layout)
    do throws(MappedMemoryError) {
      try map.move(to: layout)
    } catch {
      preconditionFailure("mapped where there is no guest memory: \(error)")
    }
    var tracked = TrackedMemory(map, space.devices.map(\.choice))
    tracked.start(into: &state.bitmap!.pending)
    state.bitmap!.hasPending = true
    space.tracked = tracked
    space.failuresTold = 0
    state.spaces[number] = space
    tellFailures(of: number, &state)
  }

  func tellFailures(of number: UInt32, _ state: inout State) {
    guard let space = state.spaces[number], let failures = space.tracked?.failures,
      failures.count > space.failuresTold
    else { return }
    told.withLock { $0.failures += failures[space.failuresTold...] }
    state.spaces[number]!.failuresTold = failures.count
  }

  // MARK: What is sent

  /// Takes dirty pages: they are clean from now on, and the caller's to send or to ``putBack(_:)``.
  /// - Parameters:
  ///   - range: guest addresses within one guest range, from where the call before ended.
  ///   - most: how many runs of pages at most.
  /// - Returns: the runs, in ascending order; nil where the layout is another, or there is none.
  func take(_ range: Range<UInt64>, most: Int, of layout: DirtyLayout) -> [Range<UInt64>]? {
    state.withLock { state in
      guard state.bitmap != nil, state.bitmap!.words.layout == layout else { return nil }
      var runs: [Range<UInt64>] = []
      let taken: Void? = try? state.bitmap!.words.takeRuns(in: range) { run in
        if runs.count == most { return false }
        runs.append(run)
        return true
      }
      return taken == nil ? nil : runs
    }
  }

  /// Makes pages dirty again that were taken and perhaps not received: they are in the bitmap with the next reading.
  func putBack(_ pages: inout DirtyBitmap<PrivateWords>) {
    state.withLock { state in
      // Where nothing is tracked any more, or over another layout, everything is dirty anyhow.
      guard state.bitmap != nil else { return }
      try? pages.takeAll(into: &state.bitmap!.pending)
      state.bitmap!.hasPending = true
    }
  }
}

extension GuestTracking.Bitmap {
  /// Adds what has become dirty since the last reading.
  mutating func settle() {
    if !hasPending { return }
    hasPending = false
    do throws(DirtyBitmapError) {
      try pending.takeAll(into: &words)
    } catch {
      preconditionFailure("\(error)")
    }
  }
}

extension DirtyBitmap where Words: ~Copyable {
  /// How many pages are dirty, and how many bytes are in them.
  var reading: DirtyReading {
    var bytes: UInt64 = 0
    forEachRun { run in
      bytes += run.upperBound - run.lowerBound
      return true
    }
    return DirtyReading(pages: UInt64(count), bytes: bytes)
  }
}
