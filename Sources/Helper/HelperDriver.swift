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
    let device = Mutex<AdoptedDevice?>(nil)

    init(_ wanted: HelperDevice) throws(SystemError) {
      id = wanted.device
      self.wanted = wanted
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
    /// Devices that are being let go of, by the request that waits for that.
    var releases: [UInt32: Held] = [:]
    /// Guest memory that comes in with the running session.
    var arriving: ArrivingMemory?
  }

  let host: any HelperHost
  let mailbox: HelperMailbox
  let planning: Lane
  let memory: HelperMemoryLane
  let state = Mutex(State())

  init(host: any HelperHost, mailbox: HelperMailbox) throws(SystemError) {
    self.host = host
    self.mailbox = mailbox
    planning = try Lane(name: "planning")
    memory = try HelperMemoryLane(mailbox: mailbox)
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
    case .release(let id): release(id, number)
    case .keepBlob(let id, let offset, let size):
      planning.put { [self] in
        answer(number) { () throws(HelperFailure) in
          let bytes = try carried.file().bytes(at: offset, count: Int(size))
          state.withLock { $0.blobs[id] = bytes }
          return .done
        }
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
      held = try Held(wanted)
    } catch {
      return mailbox.put(.finished(number, .failure(HelperFailure(error, device: wanted.device))))
    }
    state.withLock { $0.devices[wanted.device] = held }
    held.lane.put { [self] in
      do throws(HelperFailure) {
        let adopted = try host.adopt(wanted, carried.take())
        held.device.withLock { $0 = adopted }
        mailbox.put(.finished(number, .device(try describe(held))))
      } catch {
        forget(held)
        mailbox.put(.finished(number, .failure(error)))
      }
    }
  }

  private func forget(_ held: Held) {
    state.withLock { state in
      // Another device may have its number by now.
      guard state.devices[held.id] === held else { return }
      state.devices[held.id] = nil
      state.blobs[held.id] = nil
      state.arrivedBlobs[held.id] = nil
    }
    held.device.withLock { $0 = nil }
    held.lane.abandon()
  }

  private func asking(
    _ held: Held, _ body: (any MigratableDevice) throws(DeviceError) -> Void
  ) throws(HelperFailure) {
    guard let adopted = held.device.withLock({ $0 }) else {
      throw HelperFailure(.noSuch, device: held.id, "device \(held.id) is gone")
    }
    do throws(DeviceError) {
      try body(adopted.device)
    } catch {
      throw HelperFailure(.device, device: held.id, errno: error.errno, "\(held.wanted.name): \(error)")
    }
  }

  private func describe(_ held: Held) throws(HelperFailure) -> HelperDeviceInfo {
    guard let adopted = held.device.withLock({ $0 }) else {
      throw HelperFailure(.noSuch, device: held.id, "device \(held.id) is gone")
    }
    var offers = TrackerOffers()
    let choice = try held.wanted.choice(adopted.offers(&offers))
    var info = HelperDeviceInfo(
      device: held.id, state: nil, features: [], can: [], tracker: choice.kind, stopCopyBytes: nil,
      driver: adopted.driver, reason: choice.reason)
    try asking(held) { (device) throws(DeviceError) in
      info.features = try device.migrationFeatures()
      info.state = try device.migrationState()
      info.stopCopyBytes = try device.stopCopySize()
    }
    info.can = .from(info.state)
    return info
  }

  private func reset(_ ids: [UInt32], _ number: UInt32) {
    planning.put { [self] in
      answer(number) { () throws(HelperFailure) in
        var last: HelperDeviceInfo?
        var first: HelperFailure?
        for id in ids {
          guard let held = held(id) else { continue }
          do throws(HelperFailure) {
            try asking(held) { (device) throws(DeviceError) in try device.reset() }
            last = try describe(held)
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

  private func release(_ id: UInt32, _ number: UInt32) {
    guard let held = held(id) else {
      return mailbox.put(.finished(number, .failure(HelperFailure(.noSuch, device: id, "device \(id) is gone"))))
    }
    state.withLock { $0.releases[number] = held }
    // Its tracker holds it too.
    memory.forget(id) { [self] in
      let leave: @Sendable () -> Void = { [self] in
        forget(held)
        let isAwaited = state.withLock { state in
          guard state.releases[number] === held else { return false }
          state.releases[number] = nil
          return true
        }
        if isAwaited { mailbox.put(.finished(number, .done)) }
      }
      // Nothing is done on a lane that was given up.
      if !held.lane.offer(leave) { leave() }
    }
  }

  /// Nobody waits any longer for a device that is being let go of.
  /// - Returns: whether that was still under way; otherwise its end is in the mailbox.
  func giveUpRelease(_ number: UInt32) -> Bool {
    state.withLock { $0.releases.removeValue(forKey: number) != nil }
  }

  /// Closes all that is held of every device.
  func letGo() {
    let all = state.withLock { state in
      state.runner = nil
      return Array(state.devices.values)
    }
    for held in all { forget(held) }
    memory.letGo()
  }

  /// The devices with what there is to track them, each with its address space.
  private func trackers() throws(HelperFailure) -> [HelperMemoryLane.Tracked] {
    var offers = TrackerOffers()
    var all: [HelperMemoryLane.Tracked] = []
    let devices = state.withLock { $0.devices.values.sorted { $0.id < $1.id } }
    for held in devices {
      guard let adopted = held.device.withLock({ $0 }) else { continue }
      adopted.endLeftLog()
      let choice = try held.wanted.choice(adopted.offers(&offers))
      all.append(HelperMemoryLane.Tracked(id: held.id, space: held.wanted.space, choice: choice))
    }
    return all
  }

  // MARK: Blobs

  private func giveBlob(_ id: UInt32, _ number: UInt32) {
    planning.put { [self] in
      let bytes = state.withLock { $0.arrivedBlobs[id] } ?? []
      if bytes.isEmpty { return mailbox.put(.finished(number, .blob(device: id, size: 0))) }
      do throws(SystemError) {
        let file = try Descriptor.sealed(bytes.span, name: "blob of device \(id)")
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
