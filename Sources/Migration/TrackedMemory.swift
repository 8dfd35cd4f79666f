// SPDX-License-Identifier: Apache-2.0

/// One address space of devices, what is mapped in it, and the trackers that tell what the devices have written.
///
/// A written page is never missed (contract 4). Whatever goes wrong in a tracker makes all that is mapped dirty, after
/// the next tracker of the devices concerned has begun: so what is written meanwhile is either in that or known to the next.
/// This goes on down to ``TrackerKind/everything``, which can't fail.
///
/// Every operation is given the bitmap that takes what is dirty; it must be over the layout that the memory was made with.
/// Map changes and readings are one sequence: one owner makes them, in the order in which they happen.
public struct TrackedMemory: Sendable {
  /// A tracker that failed, and what took its place.
  public struct Failure: Hashable, Sendable {
    /// What went wrong.
    public let error: TrackerError
    /// The devices that it tracked, or should have tracked again, each with the kind of tracker that it has from then on.
    public let replacements: [Replacement]
  }

  /// A device that has another tracker than before.
  public struct Replacement: Hashable, Sendable {
    /// The device.
    public let device: DeviceName
    /// What tracks it now, unless that has failed too: see the next ``Failure``.
    public let kind: TrackerKind
  }

  private struct Device: Sendable {
    let choice: TrackerChoice
    var position = 0
    /// Where in the chain the device's own log is, if it was replaced because a reading of it failed.
    var lostLog: Int?
    var tracker: any DirtyTracker { choice.chain[position] }
  }

  /// What is mapped.
  public private(set) var map: MappedMemory
  /// Whether the trackers are on.
  public private(set) var isOn = false
  /// What has failed so far, in order.
  public private(set) var failures: [Failure] = []
  private var devices: [Device]

  /// Devices that share an address space, with nothing mapped and nothing turned on.
  public init(layout: DirtyLayout, _ choices: [TrackerChoice]) {
    map = MappedMemory(layout: layout)
    devices = choices.map { Device(choice: $0) }
  }

  /// Devices that share an address space in which something is mapped already, with nothing turned on.
  public init(_ map: MappedMemory, _ choices: [TrackerChoice]) {
    self.map = map
    devices = choices.map { Device(choice: $0) }
  }

  /// What tracks each device now, in the order of the choices.
  public var current: [Replacement] {
    devices.map { Replacement(device: $0.choice.device, kind: $0.tracker.kind) }
  }

  /// The trackers in use, each once however many devices it is for.
  private var trackers: [any DirtyTracker] {
    var trackers: [any DirtyTracker] = []
    for device in devices where !trackers.contains(where: { $0 === device.tracker }) { trackers.append(device.tracker) }
    return trackers
  }

  /// Turns the trackers on, and makes all that is mapped dirty: nobody knows what was written before.
  public mutating func start<Words: DirtyWords & ~Copyable>(into bitmap: inout DirtyBitmap<Words>) {
    if isOn { return }
    isOn = true
    for tracker in trackers {
      do throws(TrackerError) {
        try tracker.start(map)
      } catch {
        replace(tracker, error)
      }
    }
    bitmap.mark(map.runs)
  }

  /// Adds what was written since the last reading. The last reading comes after the last device has stopped.
  ///
  /// Without ``start(into:)`` before it, everything that is mapped is dirty.
  public mutating func read<Words: DirtyWords & ~Copyable>(into bitmap: inout DirtyBitmap<Words>) {
    read(map.runs, for: .next, into: &bitmap)
  }

  /// Takes in memory that has just been mapped, before it is read or mapped otherwise.
  /// - Throws: where it can't be so. Nothing has changed then.
  public mutating func add<Words: DirtyWords & ~Copyable>(
    _ run: MappedRun, into bitmap: inout DirtyBitmap<Words>
  ) throws(MappedMemoryError) {
    try map.add(run)
    if !isOn { return }
    var isKept = true
    for tracker in trackers {
      do throws(TrackerError) {
        if try tracker.add(run, to: map) == .restarted { isKept = false }
      } catch {
        replace(tracker, error)
        isKept = false
      }
    }
    if !isKept { bitmap.mark(map.runs) }
  }

  /// Lets go of memory that is about to be unmapped. It has been read for the last time when this returns, and is to be
  /// unmapped after that.
  ///
  /// What a device writes between the two is known to nobody. Whoever unmaps knows that none does, as an IOMMU's driver in
  /// the guest has to.
  /// - Parameter addresses: the I/O addresses of one run, all of them.
  /// - Throws: where they are not. Nothing has changed then.
  public mutating func remove<Words: DirtyWords & ~Copyable>(
    _ addresses: Range<UInt64>, into bitmap: inout DirtyBitmap<Words>
  ) throws(MappedMemoryError) {
    let run = try map.run(at: addresses)
    if isOn { read([run], for: .beforeUnmap, into: &bitmap) } else { bitmap.mark([run]) }
    map.remove(run)
  }

  /// The guest has reset a device, and with it a log that the device kept: it is started anew, and all that is mapped is
  /// dirty. What the IOMMU or a container knows has outlived the reset.
  ///
  /// A reading may have found the log ended before anybody said that there was a reset, and replaced it. It is taken back
  /// then, if it starts; where it doesn't, the device stays with what has tracked it since.
  ///
  /// A log may also have outlived the reset (mlx5), but nobody can ask whether it has: one that was ended and started by
  /// somebody else, or that lost what it knew, answers a reading just the same. So it is started anew.
  public mutating func restart<Words: DirtyWords & ~Copyable>(
    _ device: DeviceName, into bitmap: inout DirtyBitmap<Words>
  ) {
    guard isOn, let index = devices.firstIndex(where: { $0.choice.device == device }) else { return }
    if let lost = devices[index].lostLog {
      takeBack(lost, index, into: &bitmap)
      return
    }
    let tracker = devices[index].tracker
    guard tracker.kind == .device else { return }
    // It may have ended by itself.
    _ = try? tracker.stop()
    do throws(TrackerError) {
      try tracker.start(map)
    } catch {
      replace(tracker, error)
    }
    bitmap.mark(map.runs)
  }

  /// Has a device go on with its own log again, and with what tracks it now where the log doesn't start.
  private mutating func takeBack<Words: DirtyWords & ~Copyable>(
    _ lost: Int, _ index: Int, into bitmap: inout DirtyBitmap<Words>
  ) {
    let log = devices[index].choice.chain[lost]
    do throws(TrackerError) {
      try log.start(map)
    } catch {
      _ = try? log.stop()
      failures.append(
        Failure(
          error: error,
          replacements: [Replacement(device: devices[index].choice.device, kind: devices[index].tracker.kind)]))
      return
    }
    let until = devices[index].tracker
    devices[index].position = lost
    devices[index].lostLog = nil
    // What it knows of this device is dirty with all the rest.
    if !trackers.contains(where: { $0 === until }) { _ = try? until.stop() }
    bitmap.mark(map.runs)
  }

  /// Turns the trackers off, after the last reading. What they did not do is told; nothing is lost by it.
  @discardableResult
  public mutating func stop() -> [TrackerError] {
    if !isOn { return [] }
    isOn = false
    var errors: [TrackerError] = []
    for tracker in trackers {
      do throws(TrackerError) {
        try tracker.stop()
      } catch {
        errors.append(error)
      }
    }
    return errors
  }

  private mutating func read<Words: DirtyWords & ~Copyable>(
    _ runs: [MappedRun], for purpose: ReadingPurpose, into bitmap: inout DirtyBitmap<Words>
  ) {
    guard isOn else {
      bitmap.mark(runs)
      return
    }
    for tracker in trackers {
      do throws(TrackerError) {
        try tracker.read(runs, for: purpose, into: &bitmap)
      } catch {
        if tracker.kind == .device {
          for index in devices.indices where devices[index].tracker === tracker {
            devices[index].lostLog = devices[index].position
          }
        }
        replace(tracker, error)
        bitmap.mark(map.runs)
      }
    }
  }

  /// Has every device of a tracker that failed go on with its next one that starts. The caller marks what is mapped, after
  /// this has returned.
  private mutating func replace(_ failed: any DirtyTracker, _ error: TrackerError) {
    // Whatever it says: it is not asked again.
    _ = try? failed.stop()
    var replacements: [Replacement] = []
    var next: [any DirtyTracker] = []
    let inUse = trackers.filter { $0 !== failed }
    for index in devices.indices where devices[index].tracker === failed {
      devices[index].position += 1
      let tracker = devices[index].tracker
      replacements.append(Replacement(device: devices[index].choice.device, kind: tracker.kind))
      if !inUse.contains(where: { $0 === tracker }), !next.contains(where: { $0 === tracker }) { next.append(tracker) }
    }
    failures.append(Failure(error: error, replacements: replacements))
    for tracker in next {
      do throws(TrackerError) {
        try tracker.start(map)
      } catch {
        replace(tracker, error)
      }
    }
  }
}
