// SPDX-License-Identifier: Apache-2.0
public import LinuxIO
public import Migration

/// Drives a session on real devices and a real channel: a control lane and a data lane for each device, one lane for
/// each direction of the channel, and one for the session itself.
public final class SessionRunner: Sendable {
  /// What a session tells those who watch it. Called by whatever thread takes the session's step, one call at a time: while it
  /// waits, the session does.
  public struct Observer: Sendable {
    /// Something happened.
    public var note: @Sendable (SessionNote, MonotonicTime) -> Void
    /// Now and then: how far it is.
    public var progress: @Sendable ([DeviceProgress], MonotonicTime) -> Void
    /// The session waits until the vCPUs have stopped: have that done, and ``SessionRunner/tellVCPUsStopped()``.
    public var stopVCPUs: @Sendable () -> Void
    /// Microseconds between two calls of ``progress``.
    public var interval: UInt64

    /// One that ignores what it is not given a closure for.
    public init(
      interval: UInt64 = 200_000, note: @escaping @Sendable (SessionNote, MonotonicTime) -> Void = { _, _ in },
      progress: @escaping @Sendable ([DeviceProgress], MonotonicTime) -> Void = { _, _ in },
      stopVCPUs: @escaping @Sendable () -> Void = {}
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
  private let inbox = SessionInbox()

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
  public func interrupt(reason: String) { inbox.tell(.interrupt(reason: reason)) }

  /// Tells the session, from any thread, that the VM's vCPUs do not run and that nobody else touches the devices'
  /// regions until the session is over.
  public func tellVCPUsStopped() { inbox.tell(.vcpusStopped) }

  /// Gives the session, from any thread, an order that it waits for, or will.
  public func order(_ order: SessionOrder) { inbox.tell(.order(order)) }

  /// Tells the session, from any thread, to wait no longer for that device: see ``SessionEvent/declareDead(device:)``.
  public func declareDead(device: Int) { inbox.tell(.declareDead(device: device)) }

  /// Runs a session to its outcome. The calling thread has the clock, and waits.
  /// - Parameter ended: told of the session as it ended. Of one without a fault this is before its threads have ended,
  ///   who have nothing to do any more but to notice: what depends on the outcome need not wait for them.
  /// - Returns: the session as it ended; its outcome is set.
  /// - Throws: where threads could not be had; no device was touched then.
  @discardableResult
  public func run<Machine: SessionMachine>(
    _ session: Machine, observer: Observer = Observer(), ended: @escaping @Sendable (Machine) -> Void = { _ in }
  ) throws(SystemError) -> Machine {
    let lanes = try SessionLanes(
      devices: devices, memory: memory, limiters: limiters, channel: channel, checksum: checksum, buffers: buffers,
      inbox: inbox)
    let steps = SessionSteps(session, lanes: lanes, inbox: inbox, observer: observer, ended: ended)
    lanes.begin(steps)
    var alarm: MonotonicTime?
    waiting: while true {
      switch steps.words.take(until: alarm?.microseconds) {
      case .alarm(let time): alarm = time
      case .over: break waiting
      case nil:
        alarm = nil
        inbox.tell(.time)
      }
    }
    let machine = steps.machine
    lanes.finish(hung: machine.outcome?.devices.map(\.isHung) ?? [])
    if machine.outcome?.fault != nil { ended(machine) }
    return machine
  }
}
