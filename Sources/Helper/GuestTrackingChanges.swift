// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
public import Migration
internal import Synchronization

/// What changes: guest memory while nothing is tracked, mappings and devices at any time.
extension GuestTracking {
  /// Adds a guest range, before memory is tracked.
  /// - Parameter range: guest addresses in bytes, in units of ``DirtyLayout/unit``; none of another range.
  public func addMemory(_ range: Range<UInt64>) throws(GuestTrackingError) {
    try state.withLock { state throws(GuestTrackingError) in
      if state.bitmap != nil { throw .isTracked }
      var ranges = state.ranges
      ranges.insert(range, at: ranges.firstIndex { $0.lowerBound >= range.lowerBound } ?? ranges.count)
      do throws(DirtyBitmapError) {
        state.layout = try DirtyLayout(ranges: ranges, pageSize: DirtyLayout.unit)
      } catch {
        throw .memory(error)
      }
      state.ranges = ranges
    }
  }

  /// Takes a guest range out again, before memory is tracked or anything of it is mapped. Ignored where it is not there.
  func removeMemory(_ range: Range<UInt64>) {
    state.withLock { state in
      let ranges = state.ranges.filter { $0 != range }
      guard state.bitmap == nil, ranges.count < state.ranges.count else { return }
      state.ranges = ranges
      state.layout = ranges.isEmpty ? nil : try? DirtyLayout(ranges: ranges, pageSize: DirtyLayout.unit)
    }
  }

  /// Takes in a mapping that has been made in an address space, before it is changed again.
  ///
  /// A tracker that can't take it in is replaced, and what that costs is dirty with the next reading.
  public func addMapping(_ run: MappedRun, in space: UInt32) throws(GuestTrackingError) {
    try state.withLock { state throws(GuestTrackingError) in
      guard state.mappings < maximumMappings else { throw .tooManyMappings(maximumMappings) }
      guard let layout = state.layout else { throw .mapping(space: space, .outside(run.guestAddresses)) }
      let isNew = state.makeSpace(space)
      do throws(MappedMemoryError) {
        if state.bitmap == nil {
          var map = state.spaces[space]!.map ?? MappedMemory(layout: layout)
          if map.layout != layout { try map.move(to: layout) }
          state.spaces[space]!.map = nil
          defer { state.spaces[space]!.map = map }
          try map.add(run)
        } else {
          if isNew { begin(space, state.bitmap!.words.layout, &state) }
          try state.spaces[space]!.tracked!.add(run, into: &state.bitmap!.pending)
          state.bitmap!.hasPending = true
        }
      } catch {
        throw .mapping(space: space, error)
      }
      state.mappings += 1
      tellFailures(of: space, &state)
    }
  }

  /// Lets go of a mapping that is about to be undone: it has been read for the last time when this returns.
  /// - Parameter run: as it was added, and all of it.
  public func removeMapping(_ run: MappedRun, in space: UInt32) throws(GuestTrackingError) {
    try state.withLock { state throws(GuestTrackingError) in
      let map = state.spaces[space].flatMap { $0.tracked?.map ?? $0.map }
      guard let map, map.contains(run) else { throw .mapping(space: space, .notMapped(run.addresses)) }
      if state.bitmap == nil {
        state.spaces[space]!.map?.remove(run)
      } else {
        do throws(MappedMemoryError) {
          try state.spaces[space]!.tracked!.remove(run.addresses, into: &state.bitmap!.pending)
        } catch {
          throw .mapping(space: space, error)
        }
        state.bitmap!.hasPending = true
      }
      state.mappings -= 1
      tellFailures(of: space, &state)
    }
  }

  /// Adds a device to an address space. While memory is tracked, the trackers of that space begin anew, and everything
  /// that is mapped in it is dirty with the next reading.
  /// - Parameters:
  ///   - handle: what the caller calls it.
  ///   - choice: what is to track it. Its trackers stay the caller's to make, and must not be in another space.
  public func addDevice(_ handle: UInt32, space: UInt32, _ choice: TrackerChoice) throws(GuestTrackingError) {
    try state.withLock { state throws(GuestTrackingError) in
      if state.space(of: handle) != nil { throw .deviceExists(handle) }
      _ = state.makeSpace(space)
      change(space, &state) { $0.append((handle, choice)) }
    }
  }

  /// Takes a device away. While memory is tracked, what it has written is read before; the trackers of its space begin
  /// anew, and everything that is mapped in it is dirty with the next reading.
  public func removeDevice(_ handle: UInt32) throws(GuestTrackingError) {
    try state.withLock { state throws(GuestTrackingError) in
      guard let space = state.space(of: handle) else { throw .noSuchDevice(handle) }
      change(space, &state) { devices in devices.removeAll { $0.handle == handle } }
    }
  }

  /// The guest has reset a device: a log of its own begins anew, and all that it may have written is dirty with the
  /// next reading.
  public func restart(device handle: UInt32) {
    state.withLock { state in
      guard let space = state.space(of: handle), state.bitmap != nil,
        let device = state.spaces[space]!.devices.first(where: { $0.handle == handle })
      else { return }
      state.spaces[space]!.tracked?.restart(device.choice.device, into: &state.bitmap!.pending)
      state.bitmap!.hasPending = true
      tellFailures(of: space, &state)
    }
  }

  /// Makes pages dirty that somebody else has written to, with the next reading. Without tracking there is nothing to
  /// do.
  /// - Parameter range: guest addresses in bytes, all of them guest memory.
  public func mark(_ range: Range<UInt64>) throws(GuestTrackingError) {
    try state.withLock { state throws(GuestTrackingError) in
      guard state.bitmap != nil else { return }
      do throws(DirtyBitmapError) {
        try state.bitmap!.pending.mark(range)
      } catch {
        throw .memory(error)
      }
      state.bitmap!.hasPending = true
    }
  }

  /// The same for a part of a bitmap of the same layout.
  /// - Parameters:
  ///   - bytes: whole words, in the machine's byte order.
  ///   - first: the word that the first of them is. Words that there are none of are ignored.
  func add(_ bytes: Span<UInt8>, atWord first: Int) {
    state.withLock { state in
      guard state.bitmap != nil else { return }
      state.bitmap!.pending.withMutableWords { words in
        for index in 0..<min(bytes.count / 8, max(0, words.count - first)) {
          words[first + index] |= bytes.extracting(index * 8..<index * 8 + 8).load(as: UInt64.self)
        }
      }
      state.bitmap!.hasPending = true
    }
  }

  /// Changes which devices are in a space.
  private func change(
    _ number: UInt32, _ state: inout State, _ body: (inout [(handle: UInt32, choice: TrackerChoice)]) -> Void
  ) {
    body(&state.spaces[number]!.devices)
    guard state.bitmap != nil else { return }
    // All that is mapped there is marked when its trackers have begun anew; a reading before would tell nothing more.
    // What is mapped no longer was read when it went.
    begin(number, state.bitmap!.words.layout, &state)
  }
}

extension GuestTracking.State {
  /// The space that a device is in.
  func space(of handle: UInt32) -> UInt32? {
    spaces.first { $0.value.devices.contains { $0.handle == handle } }?.key
  }

  /// Makes a space where there is none yet.
  /// - Returns: whether there was none.
  mutating func makeSpace(_ number: UInt32) -> Bool {
    if spaces[number] != nil { return false }
    spaces[number] = GuestTracking.Space()
    return true
  }
}
