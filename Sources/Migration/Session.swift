// SPDX-License-Identifier: Apache-2.0
// What a session is to whoever drives it: threads on a kernel, or an event queue in a simulation.

/// One device of a session, as it was found before the first transition.
public struct SessionDevice: Hashable, Sendable {
  /// The device's name here.
  public var name: String
  /// Its kernel driver's name.
  public var driver: String
  /// What the driver supports.
  public var features: MigrationFeatures
  /// The state that it was found in, and to which every failure returns it.
  public var state: MigrationState
  /// What must match on the other side (DA7): a ``CompatibilityTag``'s text, or nothing.
  public var tag: [UInt8]
  /// What the VMM keeps for the device itself, to be carried along.
  public var vmmState: [UInt8]?

  /// A device as it was found; see the properties.
  public init(
    name: String, driver: String, features: MigrationFeatures, state: MigrationState, tag: [UInt8] = [],
    vmmState: [UInt8]? = nil
  ) {
    self.name = name
    self.driver = driver
    self.features = features
    self.state = state
    self.tag = tag
    self.vmmState = vmmState
  }
}

/// A request on a device's control lane. Each device has at most one under way.
public enum ControlRequest: Hashable, Sendable {
  /// ``MigratableDevice/setMigrationState(_:)``; what it opens becomes the device's data session.
  case setState(MigrationState)
  /// ``MigratableDevice/migrationState()``.
  case readState
  /// ``MigrationData/preCopyInfo()`` of the device's data session.
  case preCopyInfo
  /// ``MigratableDevice/stopCopySize()``.
  case stopCopySize
  /// ``MigratableDevice/flush()``.
  case flush
  /// ``MigratableDevice/reset()``.
  case reset
}

/// What a device answered on its control lane.
public enum ControlAnswer: Hashable, Sendable {
  /// It is in the state that was asked for.
  case moved(openedData: Bool)
  /// It is in this state.
  case state(MigrationState)
  /// How much pre-copy data it has.
  case preCopyInfo(PreCopyInfo)
  /// How many bytes it expects to give in STOP_COPY.
  case stopCopySize(UInt64?)
  /// Its configuration space was read.
  case flushed
  /// It was reset.
  case reset
}

/// What a session wants done. Effects of one lane are carried out in order; those of different lanes at the same time.
public enum SessionEffect: Hashable, Sendable {
  /// On the device's control lane.
  case control(device: Int, ControlRequest)
  /// On the device's data lane: read into the whole of this buffer.
  case read(device: Int, buffer: Int)
  /// On the device's data lane: write the first bytes of this buffer.
  case write(device: Int, buffer: Int, bytes: Int)
  /// On the channel.
  case send(OutgoingFrame)
  /// On the channel, after the last frame: see ``Channel/finish()``.
  case finishChannel
  /// On the channel's other direction: take in the next frame; a payload of device data goes into this buffer. A
  /// source, which expects answers only, gives none.
  case receive(buffer: Int?)
  /// Whoever owns the VM: stop its vCPUs, and everything else that touches the devices' regions, and say so by
  /// ``SessionEvent/vcpusStopped``. Until then the session waits, and pre-copy has ended.
  case stopVCPUs
  /// On the memory lane: read the trackers of dirty pages, and answer with ``SessionEvent/dirty(_:)``.
  case readPages(DirtyMoment)
  /// On the memory lane: send what the last reading found, and answer with ``SessionEvent/pagesSent(bytes:)``.
  case sendPages
  /// On the memory lane: see ``MovingMemory/restartTracking(device:)``. There is no answer.
  case restartTracking(device: Int)
  /// Limit what comes in to a device to so many bytes a second, or no longer, and answer with
  /// ``SessionEvent/limited(device:_:)``. See ``RateLimiter``.
  case limit(device: Int, bytesPerSecond: UInt64?)
  /// Tell whoever watches. Indirect because a note is large, and an effect is copied from list to list.
  indirect case note(SessionNote)
}

/// What happened.
public enum SessionEvent: Sendable {
  /// A control request ended.
  case control(device: Int, ControlRequest, Result<ControlAnswer, DeviceError>, RequestTimes)
  /// A read ended.
  case read(device: Int, buffer: Int, Result<DataRead, DeviceError>)
  /// A write ended; nil where it succeeded.
  case written(device: Int, buffer: Int, DeviceError?)
  /// A frame has gone out, in the order of sending.
  case sent(OutgoingFrame.Payload)
  /// The channel was finished.
  case channelFinished
  /// A frame came in.
  case received(buffer: Int?, StreamItem)
  /// What came in is not a stream, or no longer.
  case streamFailed(StreamError)
  /// The channel failed.
  case channelFailed(ChannelError)
  /// Time has passed: the moment of ``SessionMachine/deadline`` is here.
  case time
  /// The VM's vCPUs do not run, and nobody else touches the devices' regions, until the session is over and its devices
  /// run. May be said at any time, once.
  case vcpusStopped
  /// Nobody waits any longer for a device that has not answered: the session fails, the device is left alone, and the
  /// others go back. Ignored for a device that has nothing to answer.
  case declareDead(device: Int)
  /// The trackers were read.
  case dirty(DirtyReading)
  /// What was read last has gone out.
  case pagesSent(bytes: UInt64)
  /// It has not.
  case memoryFailed(MovingMemoryError)
  /// What comes in to a device is limited as was asked, or no longer; or that failed, and it is as it was.
  case limited(device: Int, RateLimiterError?)
  /// The caller says that something may go on which its configuration has wait for that.
  case order(SessionOrder)
  /// A person or a signal ends the session: everything goes back. Said again, every device that was reported as hung is
  /// declared dead.
  case interrupt(reason: String)
}

/// What a session does when it is told to, where its configuration says so. An order that comes early is kept.
public enum SessionOrder: Hashable, Sendable {
  /// The next round of guest memory: see ``PreCopyConfiguration/roundsOnOrder``.
  case round
  /// The group is to stop, whatever was decided: see ``SaveSession/Configuration/stopsOnOrder``.
  case stop
  /// The stream is to be finished, with these bytes of the VMM's own for each device: see
  /// ``SaveSession/Configuration/finishesOnOrder``.
  case finish(vmmStates: [[UInt8]?])
}

/// What a person who watches is told.
public enum SessionNote: Hashable, Sendable {
  /// The session enters a part of its way.
  case phase(String)
  /// A device made one arc, or failed to.
  case arc(ArcReport)
  /// The group has ended a step, or was broken off in it.
  case stepEnded(StepReport)
  /// What does not keep the stream from a device, and the guest's peers may notice (DA2).
  case unlike(device: Int, TagComparison.Finding)
  /// A device was reset, and is empty.
  case reset(device: Int)
  /// What the pre-copy loop decided.
  case decided(PreCopyDecision)
  /// Enough was read ahead of the stop, which waits for an order. Said anew where it was not true in between.
  case ready
  /// What comes in to a device could not be limited.
  case notLimited(device: Int, RateLimiterError)
  /// What comes in to a device is still limited: twice the limit could not be lifted.
  case stillLimited(device: Int, RateLimiterError)
  /// The guest reset a device during pre-copy; its state is sent anew.
  case restarted(device: Int, times: Int)
  /// A device has not answered for this long.
  case hung(device: Int, ControlRequest, microseconds: UInt64)
  /// Something that the session waits for has taken this long, and goes on.
  case slow(SlowCall, microseconds: UInt64)
}

/// A call, other than one on a device, that may take long.
public enum SlowCall: Hashable, Sendable {
  /// The trackers of dirty pages are being read.
  case readingPages
  /// What comes in to a device is being limited, or let in again.
  case limiting(device: Int)
}

/// Why a session failed.
public enum SessionFault: Error, Hashable, Sendable {
  /// A device did not do what it was asked.
  case device(Int, DeviceError)
  /// The channel failed.
  case channel(ChannelError)
  /// What came in is not a stream.
  case stream(StreamError)
  /// The stream does not fit the devices: nothing was changed.
  case mismatch(String)
  /// The destination ended the move, and says why.
  case givenUp(StreamReason)
  /// The guest reset a device again and again, this many times.
  case keptResetting(Int, times: Int)
  /// Guest memory could not be sent.
  case memory(MovingMemoryError)
  /// What comes in to a device is still limited: its limiter failed twice, or (nil) has not answered when nobody waited any
  /// longer. The next process that cleans up after this one can try again.
  case stillLimited(Int, RateLimiterError?)
  /// The guest reset the device when it was to be stopped: what has to go over anew would all do so in the stop.
  case resetAtLastMoment(Int)
  /// The guest dirties more than can be sent, and the caller did not want it stopped for that long.
  case outrun(PreCopyDecision)
  /// A device did not answer, and its caller no longer waits for it.
  case declaredDead(Int)
  /// A person or a signal ended it.
  case interrupted(String)
}

extension SessionFault {
  /// Whether it is this device's.
  func isAbout(_ device: Int) -> Bool {
    switch self {
    case .device(device, _), .keptResetting(device, _), .declaredDead(device): true
    default: false
    }
  }
}

/// Where a device is after a session.
public struct DeviceOutcome: Hashable, Sendable {
  /// The device's name.
  public var name: String
  /// The state that it was last known to be in; nil where it does not say.
  public var state: MigrationState?
  /// Whether it was reset on the way, and so is empty unless a state was loaded since.
  public var wasReset = false
  /// Whether a call that it never answered was given up.
  public var isHung = false

  /// A device that was last known to be in a state.
  public init(name: String, state: MigrationState?, wasReset: Bool = false, isHung: Bool = false) {
    self.name = name
    self.state = state
    self.wasReset = wasReset
    self.isHung = isHung
  }
}

/// How a session ended.
public struct SessionOutcome: Hashable, Sendable {
  /// The first fault; nil where the session succeeded.
  public var fault: SessionFault?
  /// What failed afterwards, on the way back.
  public var cleanupFaults: [SessionFault] = []
  /// Where every device is.
  public var devices: [DeviceOutcome]
  /// How far the two sides have agreed on who runs.
  public var commitment = Commitment.none

  /// An ending.
  public init(
    fault: SessionFault? = nil, cleanupFaults: [SessionFault] = [], devices: [DeviceOutcome],
    commitment: Commitment = .none
  ) {
    self.fault = fault
    self.cleanupFaults = cleanupFaults
    self.devices = devices
    self.commitment = commitment
  }
}

/// How far source and destination have agreed on who runs: never both, and never neither without a word.
public enum Commitment: Hashable, Sendable {
  /// Not at all, or there was nothing to agree on. The source's devices are its own.
  case none
  /// The destination has said that everything is loaded, and has had no answer: only the source knows whether it let go.
  /// The destination's devices do not run.
  case offered
  /// The source has let go. On the source: the destination has not said that its devices run, and they may; the source's
  /// are stopped, and must not run before somebody has made sure that the others do not. On the destination: a device did
  /// not come to run, and the outcome says which.
  case unanswered
  /// The destination's devices run, and the source's never will again by themselves.
  case complete
}

/// What a person who watches sees of one device.
public struct DeviceProgress: Hashable, Sendable {
  /// The state that it was last known to be in.
  public var state: MigrationState?
  /// Bytes of device state moved since the start or the last void.
  public var bytes: UInt64 = 0
  /// Of these, bytes moved before the stop.
  public var preCopyBytes: UInt64 = 0
  /// Bytes that it expects to give in all, as far as it says.
  public var expectedBytes: UInt64?

  /// As far as is known.
  public init(state: MigrationState? = nil, bytes: UInt64 = 0, preCopyBytes: UInt64 = 0, expectedBytes: UInt64? = nil) {
    self.state = state
    self.bytes = bytes
    self.preCopyBytes = preCopyBytes
    self.expectedBytes = expectedBytes
  }
}

/// A session as pure steps: events in, effects out. No clock, no threads, no descriptors.
public protocol SessionMachine: Sendable {
  /// The first effects.
  mutating func begin(at now: MonotonicTime) -> [SessionEffect]
  /// Takes an event.
  mutating func handle(_ event: SessionEvent, at now: MonotonicTime) -> [SessionEffect]
  /// When ``SessionEvent/time`` is due, if nothing else happens before.
  var deadline: MonotonicTime? { get }
  /// Set once the session is over. Nothing is under way on a device then, except on one that is reported as hung. On the
  /// channel a ``SessionEffect/receive(buffer:)`` may be and, after a fault, frames to send as well: the driver cancels
  /// the channel, and keeps the buffers until its lanes have ended.
  var outcome: SessionOutcome? { get }
  /// How many answers of devices have to come before the session can go on, as long as none of them is a failure and
  /// nothing else happens: all that a step still waits for, or 1. A driver that hands over fewer does no harm.
  var quorum: Int { get }
  /// One for each device.
  var progress: [DeviceProgress] { get }
  /// The steps that the group has ended so far, in order.
  var steps: [StepReport] { get }
}
