// SPDX-License-Identifier: Apache-2.0
public import Migration

/// What a helper replies to one request. A failure is a reply too.
public enum HelperReply: Hashable, Sendable {
  /// It is done: `struct vfio_ferry_done`.
  case done
  /// `struct vfio_ferry_hello`.
  case hello(minor: UInt32, features: HelperFeatures, HelperLimits, version: String)
  /// `struct vfio_ferry_device_info`.
  case device(HelperDeviceInfo)
  /// `struct vfio_ferry_bitmap`. The first of them has the bitmap's file with it.
  case bitmap(pageSize: UInt64, words: UInt64, dirty: UInt64)
  /// `struct vfio_ferry_estimate`.
  case estimate(HelperEstimate)
  /// `struct vfio_ferry_blob`, with the file that holds it where it is not empty.
  case blob(device: UInt32, size: UInt32)
  /// `struct vfio_ferry_status`.
  case status(HelperStatus)
  /// `struct vfio_ferry_error`.
  case failure(HelperFailure)
}

/// What a helper tells unasked. The corresponding C constants are `VFIO_FERRY_EVENT_*`.
public enum HelperEvent: Hashable, Sendable {
  /// The session has come to another phase.
  case phase(HelperPhase)
  /// How far a device is.
  case progress(device: UInt32, DeviceProgress)
  /// A device has made an arc, or has failed to.
  case arc(device: UInt32, from: MigrationState?, to: MigrationState, error: ErrorNumber?, microseconds: UInt64)
  /// A device has not answered for so long.
  case hung(device: UInt32, HelperPhase, microseconds: UInt64, String)
  /// Something else has taken so long.
  case slow(device: UInt32, HelperPhase, microseconds: UInt64, String)
  /// Its guest has reset a device, for the so-many-th time.
  case reset(device: UInt32, HelperPhase, String)
  /// What a round has shown.
  case decision(HelperEstimate)
  /// The vCPUs are to be stopped.
  case ready(HelperEstimate)
  /// The vCPUs are to be slowed down.
  case throttle(HelperPhase, String)
  /// A tracker was replaced.
  case tracker(device: UInt32, HelperPhase, String)
  /// The stream is broken.
  case linkLost(HelperPhase, String)
  /// Everything is in the devices, which are stopped.
  case loaded
  /// The session has failed, and has gone back.
  case failed(HelperFailure)
  /// A device's tag and its source's differ in something that refuses nothing, and should be known.
  case tag(device: UInt32, HelperPhase, String)
}

/// Where a session is. The corresponding C constants are `VFIO_FERRY_PHASE_*`.
public enum HelperPhase: UInt32, CaseIterable, Hashable, Sendable {
  /// Nothing moves.
  case setup = 1
  /// Source: state and pages are read ahead of the stop.
  case preCopy = 2
  /// Source: the devices are being stopped.
  case quiescing = 3
  /// Source: all devices have stopped; the rest goes out.
  case stopped = 4
  /// Source: everything has gone out.
  case complete = 5
  /// Source: the devices were let go of.
  case committed = 6
  /// Destination: state goes into the devices.
  case loading = 7
  /// Destination: all of it is in them.
  case loaded = 8
  /// The devices are being started.
  case resuming = 9
  /// The devices go back to where they were.
  case goingBack = 10
}

/// Why something failed. The corresponding C constants are `VFIO_FERRY_CODE_*`.
public enum HelperCode: UInt32, CaseIterable, Hashable, Sendable {
  /// The packet's layout is wrong.
  case badPacket = 1
  /// This version does not know the request.
  case unknownRequest = 2
  /// Another major version.
  case version = 3
  /// A field has a value that it can't have.
  case badArgument = 4
  /// The request has no meaning now.
  case wrongPhase = 5
  /// There is nothing like that.
  case noSuch = 6
  /// There is one already.
  case exists = 7
  /// More than this helper allows.
  case limit = 8
  /// It can't work, and nothing was touched.
  case refused = 9
  /// A system call failed.
  case system = 10
  /// A device did not do what it was asked.
  case device = 11
  /// The stream broke off.
  case link = 12
  /// What came in is no stream, or not for these devices.
  case stream = 13
  /// Guest memory could not be sent.
  case memory = 14
  /// The guest dirties more than can be sent.
  case outrun = 15
  /// The VMM aborted it.
  case aborted = 16
  /// A device did not answer, and was declared dead.
  case hung = 17
}

/// A failure as a VMM gets it: `struct vfio_ferry_error`.
public struct HelperFailure: Error, Hashable, Sendable {
  /// Its kind.
  public var code: HelperCode
  /// The device that it is about; 0 where it is about none.
  public var device: UInt32
  /// The error number behind it, where there is one.
  public var errno: ErrorNumber?
  /// One line for a person: what, where, why, what to do.
  public var text: String

  /// A failure.
  public init(_ code: HelperCode, device: UInt32 = 0, errno: ErrorNumber? = nil, _ text: String) {
    self.code = code
    self.device = device
    self.errno = errno
    self.text = text
  }
}

/// What a helper allows one session: see `struct vfio_ferry_hello`. The most are the `VFIO_FERRY_MAX_*` of the header.
public struct HelperLimits: Hashable, Sendable {
  /// Devices.
  public var devices = 256
  /// Ranges of guest memory.
  public var memory = 4096
  /// Mappings of I/O addresses, all spaces together.
  public var mappings = 65536
  /// Bytes of a VMM's own state of one device.
  public var blob = 1 << 20
  /// Bytes of all of these together, given by the VMM; and as many may come from the other side.
  public var blobs = 1 << 25
  /// Bytes of the bitmap of dirty pages.
  public var bitmap = 1 << 28

  /// The most that the protocol allows.
  public init() {}
}

/// What a device is and can do: `struct vfio_ferry_device_info`.
public struct HelperDeviceInfo: Hashable, Sendable {
  /// What can be done from the state that a device was found in. The corresponding C constants are
  /// `VFIO_FERRY_DEVICE_CAN_*`, `_NEEDS_RESET` and `_IS_HUNG`.
  public struct Possibilities: OptionSet, Hashable, Sendable {
    /// It can be moved from here.
    public static let save = Possibilities(rawValue: 1 << 0)
    /// It can take another's state.
    public static let load = Possibilities(rawValue: 1 << 1)
    /// It can go back to running with what is in it.
    public static let resume = Possibilities(rawValue: 1 << 2)
    /// Only a reset brings it back.
    public static let needsReset = Possibilities(rawValue: 1 << 3)
    /// A call on it has not come back.
    public static let isHung = Possibilities(rawValue: 1 << 4)

    /// The bits of `can`.
    public let rawValue: UInt32

    /// Those bits.
    public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// What both sides call it.
  public var device: UInt32
  /// Nil where it does not say.
  public var state: MigrationState?
  /// What its driver supports.
  public var features: MigrationFeatures
  /// What can be done from here.
  public var can: Possibilities
  /// What its writes are, or would be, tracked by.
  public var tracker: TrackerKind
  /// The driver's estimate of its image in bytes, where it gives one.
  public var stopCopyBytes: UInt64?
  /// Its driver.
  public var driver: String
  /// Why that tracker.
  public var reason: String
}

/// For how long the guest would stand still, and from what that is told: `struct vfio_ferry_estimate`.
public struct HelperEstimate: Hashable, Sendable {
  /// What the last round has shown; nil before the first.
  public var decision: PreCopyDecision?
  /// What both sides call the device that the decision waits for; 0 where it waits for none.
  public var awaited: UInt32
  /// Pages of the bitmap that are set.
  public var dirty: UInt64
  /// Read after the last device stopped.
  public var isLast: Bool
  /// Bytes a second to which what comes in is limited, where it is.
  public var inboundLimit: UInt64?

  /// An estimate.
  public init(
    decision: PreCopyDecision?, awaited: UInt32 = 0, dirty: UInt64 = 0, isLast: Bool = false,
    inboundLimit: UInt64? = nil
  ) {
    self.decision = decision
    self.awaited = awaited
    self.dirty = dirty
    self.isLast = isLast
    self.inboundLimit = inboundLimit
  }
}

/// How far a session is: `struct vfio_ferry_status`.
public struct HelperStatus: Hashable, Sendable {
  /// Where it is.
  public var phase: HelperPhase
  /// Devices that were added.
  public var devices: Int
  /// Of these, those that hang.
  public var hung: Int
  /// The vCPUs do not run.
  public var vcpusAreStopped: Bool
  /// Bytes of device state that were moved.
  public var bytes: UInt64
  /// Bytes of it in all, as far as the devices say.
  public var expectedBytes: UInt64?
  /// Bytes of guest memory that the helper has moved.
  public var memoryBytes: UInt64
}
