// SPDX-License-Identifier: Apache-2.0
public import LinuxIO
public import Migration

/// Drives a session on real devices and a real channel: a control lane and a data lane for each device, one lane for
/// each direction of the channel, and the calling thread, which alone touches the session.
public final class SessionRunner: Sendable {
  /// What a session tells those who watch it. Called on the thread that runs the session.
  public struct Observer {
    /// Something happened.
    public var note: (SessionNote, MonotonicTime) -> Void
    /// Now and then: how far it is.
    public var progress: ([DeviceProgress], MonotonicTime) -> Void
    /// The session waits until the vCPUs have stopped: have that done, and ``SessionRunner/tellVCPUsStopped()``.
    public var stopVCPUs: () -> Void
    /// Microseconds between two calls of ``progress``.
    public var interval: UInt64

    /// One that ignores what it is not given a closure for.
    public init(
      interval: UInt64 = 200_000, note: @escaping (SessionNote, MonotonicTime) -> Void = { _, _ in },
      progress: @escaping ([DeviceProgress], MonotonicTime) -> Void = { _, _ in },
      stopVCPUs: @escaping () -> Void = {}
    ) {
      self.interval = interval
      self.stopVCPUs = stopVCPUs
      self.note = note
      self.progress = progress
    }
  }

  private let devices: [any MigratableDevice]
  private let memory: (any MovingMemory)?
  private let limiters: [(any RateLimiter)?]
  private let channel: any Channel
  private let checksum: StreamChecksum
  private let buffers: [TransferBuffer]
  private let events = BlockingQueue<SessionEvent>()

  /// - Parameters:
  ///   - devices: in the session's order; they stay the caller's and open.
  ///   - memory: guest memory that moves with them, where the session's configuration says that it does.
  ///   - limiters: for the devices, in their order, those that the configuration calls throttled at least; or none.
  ///   - buffers: how many transfer buffers to take, as many as the session's configuration says.
  public init(
    devices: [any MigratableDevice], memory: (any MovingMemory)? = nil, limiters: [(any RateLimiter)?] = [],
    channel: any Channel, checksum: StreamChecksum, buffers: Int
  ) throws(SystemError) {
    // A device that is to be limited and has no limiter would never be.
    precondition(limiters.isEmpty || limiters.count == devices.count, "limiters are for devices")
    self.devices = devices
    self.memory = memory
    self.limiters = limiters.isEmpty ? devices.map { _ in nil } : limiters
    self.channel = channel
    self.checksum = checksum
    var taken: [TransferBuffer] = []
    for _ in 0..<buffers { taken.append(try TransferBuffer(count: StreamFormat.maximumDataSize)) }
    self.buffers = taken
  }

  /// Ends the session from any thread: everything goes back. Said again, devices that hang are given up.
  public func interrupt(reason: String) { events.put(.interrupt(reason: reason)) }

  /// Tells the session, from any thread, that the VM's vCPUs do not run and that nobody else touches the devices'
  /// regions until the session is over.
  public func tellVCPUsStopped() { events.put(.vcpusStopped) }

  /// Gives the session, from any thread, an order that it waits for, or will.
  public func order(_ order: SessionOrder) { events.put(.order(order)) }

  /// Tells the session, from any thread, to wait no longer for that device: see ``SessionEvent/declareDead(device:)``.
  public func declareDead(device: Int) { events.put(.declareDead(device: device)) }

  /// Runs a session to its outcome.
  /// - Parameter ended: told of the session as it ended. Of one without a fault this is before its threads have ended,
  ///   who have nothing to do any more: what depends on the outcome need not wait for them.
  /// - Returns: the session as it ended; its outcome is set.
  /// - Throws: where threads could not be had; no device was touched then.
  @discardableResult
  public func run<Machine: SessionMachine>(
    _ session: Machine, observer: Observer = Observer(), ended: (Machine) -> Void = { _ in }
  ) throws(SystemError) -> Machine {
    var machine = session
    let lanes = try SessionLanes(
      devices: devices, memory: memory, limiters: limiters, channel: channel, checksum: checksum, buffers: buffers,
      events: events)
    var now = MonotonicTime(microseconds: monotonicMicroseconds())
    var nextProgress = now
    lanes.perform(machine.begin(at: now), stopVCPUs: observer.stopVCPUs) { observer.note($0, now) }
    while machine.outcome == nil {
      if now >= nextProgress {
        observer.progress(machine.progress, now)
        nextProgress = now.adding(microseconds: observer.interval)
      }
      let deadline = machine.deadline
      let wakeUp = min(deadline ?? nextProgress, nextProgress).microseconds
      let event = events.take(until: wakeUp, atLeast: machine.quorum)
      now = MonotonicTime(microseconds: monotonicMicroseconds())
      if let event = event ?? deadline.flatMap({ $0 <= now ? .time : nil }) {
        lanes.perform(machine.handle(event, at: now), stopVCPUs: observer.stopVCPUs) { observer.note($0, now) }
      }
    }
    observer.progress(machine.progress, now)
    // After a fault memory may still be read, or sent.
    let isClean = machine.outcome?.fault == nil
    if isClean { ended(machine) }
    lanes.finish(hung: machine.outcome?.devices.map(\.isHung) ?? [])
    if !isClean { ended(machine) }
    return machine
  }
}
