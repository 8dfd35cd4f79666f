// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import VFIO

/// Takes one device through states, and reads after each request where it is.
struct StateStepper {
  /// One request and what came of it.
  struct Step {
    let from: MigrationState
    let asked: MigrationState
    /// Where the device was read to be afterwards; nil where it did not say.
    let state: MigrationState?
    let microseconds: UInt64
    let error: DeviceError?
    /// Bytes of device state that were read or written around it.
    var bytes: UInt64?

    var line: String {
      var line = "\(from) -> \(asked): " + (error.map { "\($0), " } ?? "") + "\(state?.name ?? "unknown")"
      line += " in \(Figures.time(microseconds))"
      if let bytes { line += ", \(bytes) bytes" }
      return line
    }

    var json: JSON {
      .object([
        "from": .string(from.name), "asked": .string(asked.name), "state": JSON(state?.name),
        "time_us": .unsigned(microseconds), "bytes": JSON(bytes), "errno": JSON(error?.errno?.name),
        "error": JSON(error.map { "\($0)" }),
      ])
    }
  }

  let device: KernelDevice
  let graph: StateGraph
  /// The state that was read last.
  private(set) var state: MigrationState
  /// Whether the device said where it is when it was asked last.
  private(set) var isKnown = true

  /// Where the device is; nil where it did not say.
  var knownState: MigrationState? { isKnown ? state : nil }

  /// The same, as the end of a message.
  var place: String { isKnown ? "it is in \(state) now" : "it does not say where it is, and was in \(state) before" }
  /// The data session of the present state. Dropping it closes its descriptor.
  private(set) var data: (any MigrationData)?

  init(_ device: KernelDevice) throws(DeviceError) {
    self.device = device
    graph = StateGraph(features: try device.migrationFeatures())
    state = try device.migrationState()
  }

  mutating func step(to next: MigrationState) -> Step {
    let from = state
    let begin = monotonicMicroseconds()
    var failure: DeviceError?
    do throws(DeviceError) {
      if let opened = try device.setMigrationState(next) { data = opened }
    } catch {
      failure = error
    }
    let end = monotonicMicroseconds()
    let now: MigrationState?
    do throws(DeviceError) {
      now = try device.migrationState()
    } catch {
      now = nil
      if failure == nil { failure = error }
    }
    isKnown = now != nil
    if let now { state = now }
    if !state.hasDataDescriptor { data = nil }
    if failure == nil, now != next {
      failure = DeviceError(.setState(next), now.map { .unexpectedState($0) } ?? .errno(.inputOutput))
    }
    return Step(from: from, asked: next, state: now, microseconds: end - begin, error: failure)
  }

  /// - Returns: whether the device was reset; it is in RUNNING then, and empty.
  mutating func reset(_ console: Console) -> Bool {
    do throws(DeviceError) {
      try device.reset()
      isKnown = false
      state = try device.migrationState()
      isKnown = true
    } catch {
      console.note("\(device.name): \(error)")
      return false
    }
    data = nil
    console.note("\(device.name) was reset: what its guest had in it is lost")
    return true
  }
}
