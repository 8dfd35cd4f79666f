// SPDX-License-Identifier: Apache-2.0

/// Which frame may follow which: the rules of docs/stream-format.md, for both ends.
///
/// The writing end asks it for headers, the reading end shows it every frame; so a stream that this code writes is one
/// that it reads.
struct StreamGrammar: Hashable, Sendable {
  struct DeviceProgress: Hashable, Sendable {
    var bytes: UInt64 = 0
    var frames: UInt64 = 0
    var initialComplete = false
    var ended = false
    var hasVMMState = false
    var voids = 0
  }

  /// Why a frame may not stand where it stands.
  struct Violation: Error, Hashable { let reason: String }

  private(set) var devices: [DeviceProgress]?
  private(set) var nextSequence: UInt64 = 0
  /// The frame that ends the state has come.
  private(set) var hasEnd = false
  /// Nothing may follow.
  private(set) var isEnded = false
  private var commits = false
  /// Answers of the whole group so far, in their order.
  private var answers: [FrameType] = []

  /// Takes note of a frame that was checked.
  /// - Parameter numbers: the payload's fields, for the frames that state totals; the source passes its own.
  mutating func take(_ type: FrameType, device: Int?, length: Int, numbers: [UInt64] = []) throws(Violation) {
    func demand(_ condition: Bool, _ reason: @autoclosure () -> String) throws(Violation) {
      if !condition { throw Violation(reason: reason()) }
    }
    try demand(!isEnded, "it stands after the end frame")
    try demand(type.payloadSizes.contains(length), "a \(type.name) frame can't have \(length) bytes")
    try demand((device != nil) == type.isAboutOneDevice, "its device field does not fit its type")
    if type.isAnswer {
      // It has its place in the other direction, where there is no manifest.
      try demand(devices == nil, "it is an answer, and this is the direction of the state")
      try demand(type != .running || answers == [.loaded], "running must follow loaded, once")
      try demand(type != .loaded || answers.isEmpty, "a second loaded")
      if type != .initialLoaded { answers.append(type) }
      isEnded = type == .running || type == .givenUp
      nextSequence += 1
      return
    }
    guard var devices else {
      throw Violation(reason: "the manifest must come first")
    }
    try demand(type != .manifest, "a second manifest")
    try demand(hasEnd == (type == .commit), hasEnd ? "it stands after the end frame" : "it stands before the end frame")
    if let device {
      try demand(
        devices.indices.contains(device), "it is about device \(device), and the manifest has \(devices.count)")
      try demand(!devices[device].ended || type == .vmmState, "the state of its device has ended already")
      switch type {
      case .deviceData:
        devices[device].bytes += UInt64(length)
        devices[device].frames += 1
      case .initialComplete:
        devices[device].initialComplete = true
      case .void:
        devices[device].bytes = 0
        devices[device].frames = 0
        devices[device].initialComplete = false
        devices[device].voids += 1
      case .vmmState:
        try demand(!devices[device].hasVMMState, "a second vmm-state for its device")
        devices[device].hasVMMState = true
      case .deviceEnd:
        let counted = [devices[device].bytes, devices[device].frames]
        try demand(
          numbers == counted,
          "it states \(numbers[0]) bytes in \(numbers[1]) frames, and \(counted[0]) in \(counted[1]) came")
        devices[device].ended = true
      case .manifest, .end, .commit, .initialLoaded, .loaded, .running, .givenUp:
        break
      }
    } else if type == .commit {
      isEnded = true
    } else {
      try demand(devices.allSatisfy(\.ended), "not every device's state has ended")
      try demand(numbers == [nextSequence], "it states \(numbers[0]) frames, and \(nextSequence) came")
      hasEnd = true
      isEnded = !commits
    }
    self.devices = devices
    nextSequence += 1
  }

  /// Takes note of the manifest.
  mutating func take(manifest: StreamManifest) throws(Violation) {
    if devices != nil { throw Violation(reason: "a second manifest") }
    if nextSequence != 0 { throw Violation(reason: "the manifest must come first") }
    devices = Array(repeating: DeviceProgress(), count: manifest.devices.count)
    commits = manifest.commits
    nextSequence += 1
  }

  /// Takes note of an optional frame of an unknown type.
  mutating func skip() { nextSequence += 1 }
}
