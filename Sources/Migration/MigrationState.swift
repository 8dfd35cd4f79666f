// SPDX-License-Identifier: Apache-2.0

/// One of the eight states of the VFIO migration protocol, version 2.
///
/// The raw values are the kernel's (`enum vfio_device_mig_state`).
public enum MigrationState: UInt32, CaseIterable, Hashable, Sendable {
  /// The device failed and answers only to a reset. The corresponding C constant is `VFIO_DEVICE_STATE_ERROR`.
  case error = 0
  /// No DMA, no interrupts, internal state does not change. The corresponding C constant is `VFIO_DEVICE_STATE_STOP`.
  case stop = 1
  /// Normal work. The corresponding C constant is `VFIO_DEVICE_STATE_RUNNING`.
  case running = 2
  /// Stopped, and its state can be read to the end. The corresponding C constant is `VFIO_DEVICE_STATE_STOP_COPY`.
  case stopCopy = 3
  /// Stopped, and a state can be written into it. The corresponding C constant is `VFIO_DEVICE_STATE_RESUMING`.
  case resuming = 4
  /// Running, but it starts no transfer to another device. DMA to guest memory may go on.
  /// The corresponding C constant is `VFIO_DEVICE_STATE_RUNNING_P2P`.
  case runningP2P = 5
  /// Running, and state can be read ahead of the stop (DA8). The corresponding C constant is
  /// `VFIO_DEVICE_STATE_PRE_COPY`.
  case preCopy = 6
  /// Both of the above: pre-copy goes on and no transfer to another device starts.
  /// The corresponding C constant is `VFIO_DEVICE_STATE_PRE_COPY_P2P`.
  case preCopyP2P = 7

  /// The name that users see: the uAPI's, in lower case with dashes.
  public var name: String {
    switch self {
    case .error: "error"
    case .stop: "stop"
    case .running: "running"
    case .stopCopy: "stop-copy"
    case .resuming: "resuming"
    case .runningP2P: "running-p2p"
    case .preCopy: "pre-copy"
    case .preCopyP2P: "pre-copy-p2p"
    }
  }

  /// The state of that name. Underscores and capitals are taken too, because the kernel's debugfs and its
  /// documentation print `RUNNING_P2P`.
  public init?(name: some StringProtocol) {
    let wanted = name.lowercased().split(separator: "_", omittingEmptySubsequences: false).joined(separator: "-")
    guard let state = Self.allCases.first(where: { $0.name == wanted }) else { return nil }
    self = state
  }

  /// In the saving group the data descriptor gives state; moves inside the group keep it open.
  public var isSaving: Bool {
    self == .preCopy || self == .preCopyP2P || self == .stopCopy
  }

  /// The kernel hands out a data descriptor on entry to these states, and only then.
  public var hasDataDescriptor: Bool { isSaving || self == .resuming }

  /// Whether the device may start transfers to other devices: what the first phase of quiescing ends (DA12).
  public var mayStartPeerTransfers: Bool { self == .running || self == .preCopy }

  /// Whether the device may write guest memory. The P2P states are among these: they end peer transfers only.
  public var mayWriteMemory: Bool {
    switch self {
    case .running, .runningP2P, .preCopy, .preCopyP2P: true
    case .error, .stop, .stopCopy, .resuming: false
    }
  }

  /// The state in which a device is active in the same way but not saving: what it goes back to when pre-copy ends.
  public var withoutPreCopy: MigrationState {
    switch self {
    case .preCopy: .running
    case .preCopyP2P: .runningP2P
    default: self
    }
  }
}

extension MigrationState: CustomStringConvertible {
  public var description: String { name }
}

/// The optional parts of the protocol that a device's driver supports.
///
/// Only the bits that this code knows are kept apart; ``unknown`` holds the rest, so that a newer kernel's answer is
/// reported instead of being misread.
public struct MigrationFeatures: OptionSet, Hashable, Sendable {
  /// The kernel's bits (`VFIO_MIGRATION_*`), unknown ones included.
  public let rawValue: UInt64
  /// The bits as the kernel gave them.
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// The device can be stopped and its state copied: the base that every migratable device has.
  /// The corresponding C constant is `VFIO_MIGRATION_STOP_COPY`.
  public static let stopCopy = MigrationFeatures(rawValue: 1 << 0)
  /// The P2P states exist. The corresponding C constant is `VFIO_MIGRATION_P2P`.
  public static let p2p = MigrationFeatures(rawValue: 1 << 1)
  /// The pre-copy states exist. The corresponding C constant is `VFIO_MIGRATION_PRE_COPY`.
  public static let preCopy = MigrationFeatures(rawValue: 1 << 2)

  /// Every combination that the uAPI defines: stop-copy with or without each of the others.
  public static let definedCombinations: [MigrationFeatures] = [
    [.stopCopy], [.stopCopy, .p2p], [.stopCopy, .preCopy], [.stopCopy, .p2p, .preCopy],
  ]

  /// Bits that a newer kernel may set and this code does not know.
  public var unknown: UInt64 { rawValue & ~0b111 }

  /// The names that users see, in the uAPI's order.
  public var names: [String] {
    var names: [String] = []
    if contains(.stopCopy) { names.append("stop-copy") }
    if contains(.p2p) { names.append("p2p") }
    if contains(.preCopy) { names.append("pre-copy") }
    if unknown != 0 { names.append("unknown(0x\(String(unknown, radix: 16)))") }
    return names
  }
}
