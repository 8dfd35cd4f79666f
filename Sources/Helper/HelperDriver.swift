// SPDX-License-Identifier: Apache-2.0
internal import Engine
internal import LinuxIO
internal import Migration
internal import Synchronization
internal import VFIO

/// Carries out what a ``HelperSession`` decides: on a lane for each device, one for memory, one for plans, and a thread for the
/// session that runs. Whatever blocks does so there.
final class HelperDriver: Sendable {
  /// A device that is held, and the lane on which it is asked.
  final class Held: Sendable {
    let id: UInt32
    let wanted: HelperDevice
    let lane: Lane
    /// Nil until it was adopted, and once it was let go of.
    let device = Mutex<HeldDevice?>(nil)
    /// Whether it is being let go of: no tracker takes it any more.
    let isLeaving = Atomic(false)
    /// Of the device, or of the attempt to adopt it.
    let departure: Departure

    init(_ wanted: HelperDevice, _ mailbox: HelperMailbox) throws(SystemError) {
      id = wanted.device
      self.wanted = wanted
      departure = Departure(mailbox)
      lane = try Lane(name: "device \(id)")
    }
  }

  struct State {
    var devices: [UInt32: Held] = [:]
    var runner: SessionRunner?
    /// What is to be told to the session that is being made ready; nil while none is.
    var untold: [@Sendable (SessionRunner) -> Void]?
    /// The devices of the running session, in its order.
    var order: [UInt32] = []
    /// What the VMM keeps of each device, on its way to the other side; and what came from there.
    var blobs: [UInt32: [UInt8]] = [:]
    var arrivedBlobs: [UInt32: [UInt8]] = [:]
    /// The files of those that the VMM has asked for.
    var blobFiles: [UInt32: SentFile] = [:]
    /// How many of the first kind are still being read from their files.
    var blobsUnderWay = 0
    /// Guest memory that comes in with the running session.
    var arriving: ArrivingMemory?
  }

  let host: any HelperHost
  let mailbox: HelperMailbox
  let planning: Lane
  let memory: HelperMemoryLane
  let gate = DeviceGate()
  let state = Mutex(State())

  let limits: HelperLimits

  init(host: any HelperHost, limits: HelperLimits, mailbox: HelperMailbox) throws(SystemError) {
    self.host = host
    self.limits = limits
    self.mailbox = mailbox
    planning = try Lane(name: "planning")
    memory = try HelperMemoryLane(limits: limits, mailbox: mailbox)
  }

  // MARK: Tasks

  /// Begins a task; its end comes by the mailbox.
  /// - Parameter descriptors: the request's own.
  func perform(_ number: UInt32, _ task: HelperSession.Task, _ descriptors: consuming ReceivedDescriptors) {
    let carried = Carried(descriptors)
    switch task {
    case .adopt(let device): adopt(number, device, carried)
    case .describe(let id):
      on(id, number) { [self] (held) throws(HelperFailure) in .device(try describe(held)) }
    case .arc(let id, let state):
      on(id, number) { [self] (held) throws(HelperFailure) in
        try asking(held) { (device) throws(DeviceError) in _ = try device.setMigrationState(state) }
        return .device(try describe(held))
      }
    case .reset(let ids): reset(ids, number)
    case .release(let id): _ = release(id, number)
    case .keepBlob(let id, let offset, let size):
      let held = held(id)
      state.withLock { $0.blobsUnderWay += 1 }
      planning.put { [self] in
        answer(number) { () throws(HelperFailure) in
          defer { state.withLock { $0.blobsUnderWay -= 1 } }
          let bytes = try carried.file().bytes(at: offset, count: Int(size))
          // The device may be gone meanwhile, and another have its number.
          state.withLock { if let held, $0.devices[id] === held { $0.blobs[id] = bytes } }
          return .done
        }
      }
    case .takeTag(let id, let offset, let size):
      on(id, number) { (held) throws(HelperFailure) in
        let text = try carried.file().bytes(at: offset, count: Int(size))
        guard let device = held.device.withLock({ $0 }) else {
          throw HelperFailure(.noSuch, device: id, "device \(id) is gone")
        }
        try device.take(tag: text, id)
        return .done
      }
    case .giveBlob(let id): giveBlob(id, number)
    case .addMemory, .addMapping, .removeMapping, .startTracking, .readTracking, .stopTracking, .addDirtyPages,
      .takeBack:
      memory.perform(number, task, carried) { [self] () throws(HelperFailure) in try trackers() }
    case .save(let save, let ids, let links):
      prepare(ids)
      plan(number) { [self] () throws(HelperFailure) in try begin(save, ids, links, carried) }
    case .load(let load, let ids, let links):
      prepare(ids)
      plan(number) { [self] () throws(HelperFailure) in try begin(load, ids, links, carried) }
    case .resume(let ids, let links):
      prepare(ids)
      plan(number) { [self] () throws(HelperFailure) in try resume(ids, links) }
    }
  }

  private func answer(_ number: UInt32, _ body: () throws(HelperFailure) -> HelperReply) {
    do throws(HelperFailure) {
      mailbox.put(.finished(number, try body()))
    } catch {
      mailbox.put(.finished(number, .failure(error)))
    }
  }

  /// Makes a session. Where that fails nobody is left who could be told anything.
  ///
  /// What the session tells comes behind the word that it has begun, or a later request of that number would get that.
  private func plan(_ number: UInt32, _ body: @escaping @Sendable () throws(HelperFailure) -> HelperStart) {
    planning.put { [self] in
      do throws(HelperFailure) {
        let start = try body()
        mailbox.put(.finished(number, .done))
        start.put(())
      } catch {
        state.withLock { $0.untold = nil }
        mailbox.put(.finished(number, .failure(error)))
      }
    }
  }

  func held(_ id: UInt32) -> Held? { state.withLock { $0.devices[id] } }

  /// Has a device's lane do something with it.
  private func on(
    _ id: UInt32, _ number: UInt32, _ body: @escaping @Sendable (Held) throws(HelperFailure) -> HelperReply
  ) {
    guard let held = held(id) else {
      return mailbox.put(.finished(number, .failure(HelperFailure(.noSuch, device: id, "device \(id) is gone"))))
    }
    let isTaken = held.lane.offer { [self] in answer(number) { () throws(HelperFailure) in try body(held) } }
    // A device that could not be taken over has given up its lane in the meantime.
    if !isTaken {
      mailbox.put(.finished(number, .failure(HelperFailure(.noSuch, device: id, "device \(id) is gone"))))
    }
  }

  // MARK: Devices

  private func adopt(_ number: UInt32, _ wanted: HelperDevice, _ carried: Carried) {
    let held: Held
    do throws(SystemError) {
      held = try Held(wanted, mailbox)
    } catch {
      return mailbox.put(.finished(number, .failure(HelperFailure(error, device: wanted.device))))
    }
    state.withLock { $0.devices[wanted.device] = held }
    held.lane.put { [self] in
      do throws(HelperFailure) {
        let adopted = try host.adopt(wanted, carried.take()).behind(gate)
        held.device.withLock { $0 = HeldDevice(adopted, held.departure) }
        mailbox.put(.finished(number, .device(try describe(held))))
      } catch {
        forget(held)
        held.departure.note()
        mailbox.put(.finished(number, .failure(error)))
      }
    }
  }

  /// Lets go of a device here. A session that hangs in a call on it may have it still.
  private func forget(_ held: Held) {
    state.withLock { state in
      // Another device may have its number by now.
      guard state.devices[held.id] === held else { return }
      state.devices[held.id] = nil
      state.blobs[held.id] = nil
      state.arrivedBlobs[held.id] = nil
      state.blobFiles[held.id] = nil
    }
    // It may be closed by this, which is not for the lock to wait for.
    _ = held.device.withLock { $0.take() }
    held.lane.abandon()
  }

  private func asking(
    _ held: Held, _ body: (any MigratableDevice) throws(DeviceError) -> Void
  ) throws(HelperFailure) {
    guard let device = held.device.withLock({ $0 }) else {
      throw HelperFailure(.noSuch, device: held.id, "device \(held.id) is gone")
    }
    do throws(DeviceError) {
      try body(device)
    } catch {
      throw HelperFailure(.device, device: held.id, errno: error.errno, "\(held.wanted.name): \(error)")
    }
  }

  private func describe(_ held: Held) throws(HelperFailure) -> HelperDeviceInfo {
    guard let device = held.device.withLock({ $0 }) else {
      throw HelperFailure(.noSuch, device: held.id, "device \(held.id) is gone")
    }
    var offers = TrackerOffers()
    let choice = try held.wanted.choice(device.offers(&offers))
    var info = HelperDeviceInfo(
      device: held.id, state: nil, features: [], can: [], tracker: choice.kind, stopCopyBytes: nil,
      driver: device.driver, reason: choice.reason)
    try asking(held) { (device) throws(DeviceError) in
      info.features = try device.migrationFeatures()
      info.state = try device.migrationState()
      info.stopCopyBytes = try device.stopCopySize()
    }
    info.can = .from(info.state)
    return info
  }

  private func reset(_ ids: [UInt32], _ number: UInt32) {
    // One alone is asked in its turn, like everything that the VMM asks of it.
    if ids.count == 1, let id = ids.first {
      return on(id, number) { [self] (held) throws(HelperFailure) in .device(try reset(held)) }
    }
    planning.put { [self] in
      answer(number) { () throws(HelperFailure) in
        var last: HelperDeviceInfo?
        var first: HelperFailure?
        for id in ids {
          guard let held = held(id) else { continue }
          do throws(HelperFailure) {
            last = try reset(held)
          } catch {
            // What was loaded into the others goes all the same.
            first = first ?? error
          }
        }
        if let first { throw first }
        // A device that could not be taken over, which the session does not know yet.
        guard let last else {
          throw HelperFailure(.noSuch, device: ids.first ?? 0, "there is nothing to reset any more")
        }
        return .device(last)
      }
    }
  }

  private func reset(_ held: Held) throws(HelperFailure) -> HelperDeviceInfo {
    try asking(held) { (device) throws(DeviceError) in try device.reset() }
    return try describe(held)
  }

  /// Begins to let go of a device; the request is answered when that is closed.
  /// - Returns: where to stop waiting for it; nil where the answer is in the mailbox.
  func release(_ id: UInt32, _ number: UInt32) -> Departure? {
    guard let held = held(id) else {
      mailbox.put(.finished(number, .failure(HelperFailure(.noSuch, device: id, "device \(id) is gone"))))
      return nil
    }
    held.departure.answer(number)
    held.isLeaving.store(true, ordering: .sequentiallyConsistent)
    // Its tracker holds it too.
    memory.forget(id) { [self] in
      // Nothing is done on a lane that was given up.
      if !held.lane.offer({ [self] in forget(held) }) { forget(held) }
    }
    return held.departure
  }

  /// Closes all that is held of every device.
  func letGo() {
    let (all, _) = state.withLock { (Array($0.devices.values), $0.runner.take()) }
    for held in all { forget(held) }
    memory.letGo()
  }

  /// The devices with what there is to track them, each with its address space.
  private func trackers() throws(HelperFailure) -> [HelperMemoryLane.Tracked] {
    var offers = TrackerOffers()
    var all: [HelperMemoryLane.Tracked] = []
    let devices = state.withLock { $0.devices.values.sorted { $0.id < $1.id } }
    for held in devices {
      guard !held.isLeaving.load(ordering: .sequentiallyConsistent), let device = held.device.withLock({ $0 }) else {
        continue
      }
      device.endLeftLog()
      let choice = try held.wanted.choice(device.offers(&offers))
      all.append(HelperMemoryLane.Tracked(id: held.id, space: held.wanted.space, choice: choice))
    }
    return all
  }

  // MARK: Blobs

  /// What was given for a move goes with no other. Blobs that come later stay.
  func forgetBlobs() {
    let forget: @Sendable () -> Void = { [self] in state.withLock { $0.blobs = [:] } }
    // Behind those that came before; mostly none is on its way any more.
    if state.withLock({ $0.blobsUnderWay > 0 }) { planning.put(forget) } else { forget() }
  }

  private func giveBlob(_ id: UInt32, _ number: UInt32) {
    let held = held(id)
    planning.put { [self] in
      let (bytes, made) = state.withLock { ($0.arrivedBlobs[id] ?? [], $0.blobFiles[id]) }
      if bytes.isEmpty { return mailbox.put(.finished(number, .blob(device: id, size: 0))) }
      do throws(SystemError) {
        // One for each device, however often a VMM asks and does not read: it can't be changed.
        let file =
          if let made { made } else { SentFile(try Descriptor.sealed(bytes.span, name: "blob of device \(id)")) }
        state.withLock { if let held, $0.devices[id] === held { $0.blobFiles[id] = file } }
        mailbox.put(.finished(number, .blob(device: id, size: UInt32(bytes.count))), with: file)
      } catch {
        mailbox.put(.finished(number, .failure(HelperFailure(error, device: id))))
      }
    }
  }
}

extension HelperDevice {
  /// What tracks it, of what there is.
  func choice(_ offers: [TrackerOffer]) throws(HelperFailure) -> TrackerChoice {
    do throws(TrackerRefusal) {
      return try TrackerChoice(for: name, tracker, from: offers)
    } catch {
      throw HelperFailure(.refused, device: device, "\(error)")
    }
  }
}

extension HelperFailure {
  /// A system call that failed.
  init(_ error: SystemError, device: UInt32 = 0) {
    self.init(.system, device: device, errno: ErrorNumber(rawValue: error.errno), "\(error)")
  }
}
