// SPDX-License-Identifier: Apache-2.0
public import Migration

extension SimulatedDevice {
  /// What a device is like.
  public struct Configuration: Hashable, Sendable {
    /// The name that messages use.
    public var name: String
    /// The driver's name.
    public var driver = "simulated"
    /// What the driver supports.
    public var features: MigrationFeatures = [.stopCopy, .p2p, .preCopy]
    /// The state that it is in at first: running, running-p2p or stop.
    public var initialState = MigrationState.running
    /// Whether a guest uses it, so that there is something in it.
    public var isInUse = true
    /// Bytes of its state.
    public var stateBytes = 1 << 20
    /// Bytes of a page, the unit in which its state changes and is sent.
    public var pageBytes = 4096
    /// Two devices with different seeds hold different contents.
    public var seed: UInt64 = 1
    /// Bytes that pre-copy offers as initial data; nil is the whole state.
    public var initialBytes: Int?
    /// Bytes of its state that change in a microsecond while it may run.
    public var changedBytesPerMicrosecond: UInt64 = 0
    /// Only the first so many bytes of its state change; nil is all.
    public var hotBytes: Int?
    /// As mlx5 does: what has changed can be read only after the pre-copy info was asked for.
    public var offersOnInfoOnly = false
    /// Whether changes are offered in PRE_COPY_P2P too; mlx5 can't.
    public var offersInPreCopyP2P = true
    /// Whether RESUMING to STOP refuses an image that is not whole; mlx5 takes it without a word.
    public var verifiesImage = true
    /// Whether the driver estimates the size of what STOP_COPY will give.
    public var tellsStopCopySize = true
    /// Microseconds that one arc takes.
    public var arcMicroseconds: UInt64 = 200
    /// Microseconds that the arc to STOP_COPY takes.
    public var stopCopyArcMicroseconds: UInt64 = 1000
    /// Microseconds that any other call takes, and that a read or a write takes beside its bytes.
    public var callMicroseconds: UInt64 = 5
    /// Microseconds that a reset takes.
    public var resetMicroseconds: UInt64 = 10_000
    /// Bytes that can be read in a microsecond.
    public var readBytesPerMicrosecond: UInt64 = 10_000
    /// Bytes that can be written in a microsecond.
    public var writeBytesPerMicrosecond: UInt64 = 10_000
    /// The most bytes that one read gives.
    public var mostBytesPerRead = Int.max
    /// What must match between source and destination.
    public var tag: [UInt8] = []
    /// What the VMM keeps for it.
    public var vmmState: [UInt8]?
    /// What goes wrong.
    public var failures: [ScriptedFailure] = []

    /// - Parameter name: printable ASCII.
    public init(name: String) { self.name = name }
  }
}
