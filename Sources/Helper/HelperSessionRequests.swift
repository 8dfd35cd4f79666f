// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Migration

/// What may be asked when, and what comes of it: the table in docs/helper-protocol.md.
extension HelperSession {
  /// The most requests that may wait for their replies.
  private static let mostWaiting = 4096

  mutating func take(_ request: HelperRequest, _ number: UInt32) -> [Action] {
    if waiting[number] != nil {
      let text = "request \(number) has no reply yet: give each request a number of its own"
      isOver = true
      return [.reply(number, .failure(HelperFailure(.badPacket, text))), .end(1, text)]
    }
    do throws(HelperFailure) {
      if case .hello(let major, let minor, let theirs, _) = request { return try greet(number, major, minor, theirs) }
      guard minor != nil else { throw HelperFailure(.wrongPhase, "say hello first (VFIO_FERRY_HELLO)") }
      guard waiting.count < Self.mostWaiting else {
        throw HelperFailure(.limit, "\(waiting.count) requests have no reply yet: wait for some")
      }
      return try carryOut(request, number)
    } catch {
      guard error.code == .version else { return [.reply(number, .failure(error))] }
      isOver = true
      return [.reply(number, .failure(error)), .end(1, error.text)]
    }
  }

  private mutating func greet(
    _ number: UInt32, _ major: UInt32, _ minor: UInt32, _ theirs: HelperFeatures
  ) throws(HelperFailure) -> [Action] {
    guard self.minor == nil else { throw HelperFailure(.wrongPhase, "hello was said already") }
    guard major == HelperVersion.major else {
      throw HelperFailure(
        .version,
        "the VMM speaks version \(major) of the protocol, and this helper \(HelperVersion.major): use another helper")
    }
    let common = min(minor, HelperVersion.minor)
    self.minor = common
    return [.reply(number, .hello(minor: common, features: features.intersection(theirs), limits, version: version))]
  }

  private mutating func carryOut(_ request: HelperRequest, _ number: UInt32) throws(HelperFailure) -> [Action] {
    switch request {
    case .hello: return []
    case .status: return [.reply(number, .status(status))]
    case .estimate: return [.reply(number, .estimate(estimate))]
    case .vcpusStopped:
      vcpusAreStopped = true
      return [.reply(number, .done)]
    case .describe(let id):
      let device = try device(id)
      // A device that is being moved is not asked: its session knows.
      guard run != nil, var info = device.info else { return perform(number, .describe(id), waiting: .device(id)) }
      if device.isHung { info.can.insert(.isHung) }
      return [.reply(number, .device(info))]
    case .declareDead(let id):
      _ = try device(id)
      guard run != nil else { throw HelperFailure(.wrongPhase, device: id, "nothing waits for device \(id)") }
      return [.reply(number, .done), .declareDead(id)]
    case .abort: return try abort(number)
    case .resume: return try resume(number)
    case .removeDevice(let id): return try remove(id, number)
    case .addDevice(let device): return try add(device, number)
    case .arc, .reset, .link, .tag, .blob, .readBlob: return try changeDevice(request, number)
    case .addMemory, .addMapping, .removeMapping, .startTracking, .readTracking, .stopTracking, .addDirtyPages:
      return try changeMemory(request, number)
    case .beginSave, .step, .quiesce, .complete, .commit, .beginLoad: return try move(request, number)
    }
  }

  /// Refuses a request in other phases than these.
  func require(_ phases: HelperPhase..., hint: String = "") throws(HelperFailure) {
    if phases.contains(phase) { return }
    let wanted = phases.map(\.name).joined(separator: ", or ")
    throw HelperFailure(
      .wrongPhase, "the session is in \(phase.name), and this is for \(wanted)" + (hint.isEmpty ? "" : ": \(hint)"))
  }

  /// Whether the VMM speaks a version of the protocol that has tags.
  var knowsTags: Bool { minor ?? 0 >= HelperVersion.tags }

  mutating func perform(_ number: UInt32, _ task: Task, waiting what: Waiting = .task) -> [Action] {
    waiting[number] = what
    return [.perform(number, task)]
  }

  // MARK: Devices

  private mutating func add(_ device: HelperDevice, _ number: UInt32) throws(HelperFailure) -> [Action] {
    try require(.setup)
    let id = device.device
    if devices[id] != nil { throw HelperFailure(.exists, device: id, "device \(id) was added already") }
    if let other = order.first(where: { devices[$0]?.name == device.name }) {
      throw HelperFailure(.exists, device: id, "\(device.name) is device \(other) already")
    }
    guard devices.count < limits.devices else {
      throw HelperFailure(.limit, device: id, "this helper takes \(limits.devices) devices")
    }
    if isTracking {
      throw HelperFailure(.wrongPhase, device: id, "the trackers are on: stop them before devices are added")
    }
    devices[id] = Device(name: device.name, space: device.space)
    order.append(id)
    return perform(number, .adopt(device), waiting: .adopt(id))
  }

  private mutating func remove(_ id: UInt32, _ number: UInt32) throws(HelperFailure) -> [Action] {
    let device = try device(id)
    if phase == .loaded {
      phaseBefore = .setup
      return enter(.goingBack) + perform(number, .reset(order), waiting: .remove(id))
    }
    if phase == .complete {
      waiting[number] = .remove(id)
      return runAgain(number)
    }
    if run == nil {
      if isTracking {
        throw HelperFailure(.wrongPhase, device: id, "the trackers are on: stop them before devices are removed")
      }
      forget(id)
      return perform(number, .release(id))
    }
    // What runs goes back first, as after an abort.
    waiting[number] = .remove(id)
    // Said again, it would give up every device that hangs, and not only this one.
    let back: [Action] = isAborting ? [] : interrupt("device \(id) is removed")
    return device.isHung ? back + [.declareDead(id)] : back
  }

  /// Each device that was added has its reply: one that is still being taken over would be left out.
  func requireAdded() throws(HelperFailure) {
    for id in order where devices[id]?.info == nil {
      throw HelperFailure(.wrongPhase, device: id, "device \(id) is still being added: wait for the reply")
    }
  }

  mutating func forget(_ id: UInt32) {
    devices[id] = nil
    order.removeAll { $0 == id }
    // What was said of it is not true of the next that has its number.
    links = links.filter { $0.key.from != id && $0.key.to != id }
    // What it still answers is not about another device of its number.
    for (number, what) in waiting where [.device(id), .adopt(id), .tag(id)].contains(what) { waiting[number] = .task }
  }

  private mutating func changeDevice(_ request: HelperRequest, _ number: UInt32) throws(HelperFailure) -> [Action] {
    switch request {
    case .arc(let id, let state):
      try require(.setup)
      _ = try device(id)
      return perform(number, .arc(id, state), waiting: .device(id))
    case .reset(let id):
      try require(.setup)
      _ = try device(id)
      return perform(number, .reset([id]), waiting: .device(id))
    case .link(let from, let to, _):
      try require(.setup)
      _ = try device(from)
      _ = try device(to)
      guard from != to else { throw HelperFailure(.badArgument, device: from, "a device needs no link to itself") }
      links[Link(from: from, to: to)] = if case .link(_, _, let isThere) = request { isThere } else { false }
      return [.reply(number, .done)]
    case .tag(let id, let offset, let size):
      guard knowsTags else {
        throw HelperFailure(
          .unknownRequest,
          "tags are handed over in version \(HelperVersion.major).\(HelperVersion.tags) of the protocol, and the VMM speaks an older one"
        )
      }
      try require(.setup, hint: "a tag comes before the move in which it counts")
      guard try !device(id).hasTag else {
        throw HelperFailure(
          .exists, device: id, "device \(id) was given a tag already: to give it another, remove it and add it anew")
      }
      devices[id]?.hasTag = true
      return perform(number, .takeTag(id, offset: offset, size: size), waiting: .tag(id))
    case .blob(let id, let offset, let size):
      try require(.setup, .preCopy, .quiescing, .stopped, hint: "the stream is finished, or none was begun here")
      _ = try device(id)
      guard size <= UInt32(limits.blob) else {
        throw HelperFailure(.limit, device: id, "this helper takes blobs of \(limits.blob) bytes")
      }
      // One that can't be read leaves the one before in its place: the larger counts.
      let counted = max(Int(size), devices[id]?.blobBytes ?? 0)
      let others = devices.reduce(0) { $0 + ($1.key == id ? 0 : $1.value.blobBytes) }
      guard others + counted <= limits.blobs else {
        throw HelperFailure(
          .limit, device: id, "this helper takes \(limits.blobs) bytes of blobs, of all devices together")
      }
      devices[id]?.blobBytes = counted
      return perform(number, .keepBlob(id, offset: offset, size: size))
    case .readBlob(let id):
      try require(.loaded)
      _ = try device(id)
      return perform(number, .giveBlob(id))
    default: return []
    }
  }

  // MARK: Memory

  private mutating func changeMemory(_ request: HelperRequest, _ number: UInt32) throws(HelperFailure) -> [Action] {
    switch request {
    case .addMemory(let memory):
      try require(.setup)
      if isTracking { throw HelperFailure(.wrongPhase, "the trackers are on: stop them before memory is added") }
      guard memoryRanges < limits.memory else {
        throw HelperFailure(.limit, "this helper takes \(limits.memory) ranges of guest memory")
      }
      if memory.mapping != nil { try countMapping() }
      memoryRanges += 1
      return perform(number, .addMemory(memory), waiting: .memory(mappings: memory.mapping == nil ? 0 : 1))
    case .addMapping(let mapping):
      try require(.setup, .preCopy)
      try countMapping()
      return perform(number, .addMapping(mapping), waiting: .mapping)
    case .removeMapping(let mapping):
      try require(.setup, .preCopy)
      return perform(number, .removeMapping(mapping), waiting: .unmapping)
    case .startTracking(let pageSize):
      try require(.setup)
      if isTracking { throw HelperFailure(.exists, "the trackers are on already") }
      try requireAdded()
      isTracking = true
      return perform(number, .startTracking(pageSize: pageSize), waiting: .tracking)
    case .readTracking:
      try require(.setup, hint: "while the VMM sends pages, VFIO_FERRY_STEP reads")
      try requireTracking()
      return perform(number, .readTracking)
    case .addDirtyPages:
      try require(.setup, .preCopy, hint: "the last of them come before VFIO_FERRY_QUIESCE")
      try requireTracking()
      return perform(number, .addDirtyPages, waiting: .marking)
    case .stopTracking:
      try require(.setup)
      try requireTracking()
      isTracking = false
      return perform(number, .stopTracking)
    default: return []
    }
  }

  private mutating func countMapping() throws(HelperFailure) {
    guard mappings < limits.mappings else {
      throw HelperFailure(.limit, "this helper takes \(limits.mappings) mappings of I/O addresses")
    }
    mappings += 1
  }

  func requireTracking() throws(HelperFailure) {
    guard isTracking else { throw HelperFailure(.wrongPhase, "start the trackers first (VFIO_FERRY_TRACKING_START)") }
    // It may fail yet, and then there is no bitmap.
    if waiting.values.contains(.tracking) {
      throw HelperFailure(
        .wrongPhase, "the trackers are being started: wait for the reply to VFIO_FERRY_TRACKING_START")
    }
  }

  // MARK: What can always be asked

  /// How many devices have a call that has not come back.
  var hung: Int { order.count { devices[$0]?.isHung ?? false } }

  var status: HelperStatus {
    let all = order.compactMap { devices[$0] }
    let expected = all.map { $0.progress?.expectedBytes ?? $0.info?.stopCopyBytes }
    return HelperStatus(
      phase: phase, devices: order.count, hung: hung, vcpusAreStopped: vcpusAreStopped,
      bytes: all.reduce(0) { $0 &+ ($1.progress?.bytes ?? 0) },
      expectedBytes: expected.contains(nil) ? nil : expected.reduce(0) { $0 &+ ($1 ?? 0) }, memoryBytes: memoryBytes)
  }

  var estimate: HelperEstimate {
    var estimate = HelperEstimate(decision: decision, dirty: dirty, isLast: hasLastReading)
    if case .awaitInitial(let index) = decision?.verdict { estimate.awaited = number(index) }
    if case .throttle(let rate) = decision?.verdict { estimate.inboundLimit = rate }
    return estimate
  }
}

/// The version of the protocol that the header is.
private enum HelperVersion {
  static let major = UInt32(VFIO_FERRY_VERSION_MAJOR)
  static let minor = UInt32(VFIO_FERRY_VERSION_MINOR)
  /// The first minor version with tags.
  static let tags: UInt32 = 1
}
