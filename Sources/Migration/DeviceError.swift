// SPDX-License-Identifier: Apache-2.0

/// A Linux error number. The values are the kernel's and the same on every architecture that VFIO runs on.
public struct ErrorNumber: RawRepresentable, Hashable, Sendable {
  /// The kernel's number, positive.
  public let rawValue: Int32
  /// Any number, whether this code has a name for it or not.
  public init(rawValue: Int32) { self.rawValue = rawValue }

  /// Interrupted by a signal. The corresponding C constant is `EINTR`.
  public static let interrupted = ErrorNumber(rawValue: 4)
  /// Input or output failed. The corresponding C constant is `EIO`.
  public static let inputOutput = ErrorNumber(rawValue: 5)
  /// No memory. The corresponding C constant is `ENOMEM`.
  public static let noMemory = ErrorNumber(rawValue: 12)
  /// The kernel could not use the memory that it was given. The corresponding C constant is `EFAULT`.
  public static let fault = ErrorNumber(rawValue: 14)
  /// Busy. The corresponding C constant is `EBUSY`.
  public static let busy = ErrorNumber(rawValue: 16)
  /// The session that a data descriptor belonged to is over: the device was reset or left the state.
  /// The corresponding C constant is `ENODEV`.
  public static let noDevice = ErrorNumber(rawValue: 19)
  /// Not possible as asked. The corresponding C constant is `EINVAL`.
  public static let invalidArgument = ErrorNumber(rawValue: 22)
  /// The process has as many descriptors as it may. The corresponding C constant is `EMFILE`.
  public static let tooManyFiles = ErrorNumber(rawValue: 24)
  /// The device does not know this request. The corresponding C constant is `ENOTTY`.
  public static let notTypewriter = ErrorNumber(rawValue: 25)
  /// Outside of what is possible. The corresponding C constant is `ERANGE`.
  public static let outOfRange = ErrorNumber(rawValue: 34)
  /// A pre-copy stream's temporary end. The corresponding C constant is `ENOMSG`.
  public static let noMessage = ErrorNumber(rawValue: 42)
  /// The driver does not support this. The corresponding C constant is `EOPNOTSUPP`.
  public static let notSupported = ErrorNumber(rawValue: 95)

  private static let names: [Int32: String] = [
    1: "EPERM", 2: "ENOENT", 3: "ESRCH", 4: "EINTR", 5: "EIO", 6: "ENXIO", 7: "E2BIG", 9: "EBADF", 11: "EAGAIN",
    12: "ENOMEM", 13: "EACCES", 14: "EFAULT", 16: "EBUSY", 17: "EEXIST", 19: "ENODEV", 20: "ENOTDIR", 21: "EISDIR",
    22: "EINVAL", 23: "ENFILE", 24: "EMFILE", 25: "ENOTTY", 27: "EFBIG", 28: "ENOSPC", 29: "ESPIPE", 30: "EROFS",
    32: "EPIPE", 34: "ERANGE", 38: "ENOSYS", 40: "ELOOP", 42: "ENOMSG", 61: "ENODATA", 62: "ETIME", 71: "EPROTO",
    74: "EBADMSG", 75: "EOVERFLOW", 84: "EILSEQ", 90: "EMSGSIZE", 95: "EOPNOTSUPP", 104: "ECONNRESET", 105: "ENOBUFS",
    108: "ESHUTDOWN", 110: "ETIMEDOUT", 111: "ECONNREFUSED", 121: "EREMOTEIO", 125: "ECANCELED",
  ]

  /// The C constant's name, or `errno N` where this table has none.
  public var name: String { Self.names[rawValue] ?? "errno \(rawValue)" }
}

extension ErrorNumber: CustomStringConvertible {
  public var description: String { name }
}

/// What was asked of a device when it failed.
public enum DeviceOperation: Hashable, Sendable {
  /// Reading which parts of the protocol the driver supports (`VFIO_DEVICE_FEATURE_MIGRATION`).
  case readFeatures
  /// Reading the state (GET of `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE`).
  case readState
  /// Asking for a state (SET of `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE`).
  case setState(MigrationState)
  /// `read` on the data descriptor.
  case readData
  /// `write` on the data descriptor.
  case writeData
  /// `VFIO_MIG_GET_PRECOPY_INFO` on the data descriptor.
  case preCopyInfo
  /// `VFIO_DEVICE_FEATURE_MIG_DATA_SIZE`.
  case stopCopySize
  /// A read of the configuration space that flushes what is on its way.
  case flush
  /// `VFIO_DEVICE_RESET`.
  case reset
}

extension DeviceOperation: CustomStringConvertible {
  public var description: String {
    switch self {
    case .readFeatures: "reading the migration features"
    case .readState: "reading the state"
    case .setState(let state): "going to \(state)"
    case .readData: "reading device state"
    case .writeData: "writing device state"
    case .preCopyInfo: "asking for the pre-copy info"
    case .stopCopySize: "asking for the stop-copy size"
    case .flush: "reading the configuration space"
    case .reset: "resetting the device"
    }
  }
}

/// A request that a device did not carry out.
public struct DeviceError: Error, Hashable, Sendable {
  /// Why it failed.
  public enum Cause: Hashable, Sendable {
    /// The kernel answered with this error number.
    case errno(ErrorNumber)
    /// The kernel answered with a state that this code does not know: it is newer than this program.
    case unknownState(UInt32)
    /// The kernel gave no data descriptor on a request that opens a data session.
    case noDataDescriptor
    /// The kernel took fewer bytes than it was given, and none of the rest.
    case shortWrite(taken: Int, of: Int)
    /// The device is in another state than the protocol allows at this point.
    case unexpectedState(MigrationState)
    /// It did not answer, and was declared dead.
    case noAnswer
    /// It was not asked, because everything that moves it is over.
    case notAsked
  }

  /// What was asked.
  public let operation: DeviceOperation
  /// Why it failed.
  public let cause: Cause

  /// A failure and its cause.
  public init(_ operation: DeviceOperation, _ cause: Cause) {
    self.operation = operation
    self.cause = cause
  }

  /// The error number, where the kernel gave one.
  public var errno: ErrorNumber? {
    if case .errno(let number) = cause { number } else { nil }
  }
}

extension DeviceError: CustomStringConvertible {
  public var description: String {
    switch cause {
    case .errno(let number): "\(operation) failed with \(number)"
    case .unknownState(let value):
      "\(operation) gave state number \(value), which this program does not know: the kernel is newer"
    case .noDataDescriptor: "\(operation) gave no data descriptor"
    case .shortWrite(let taken, let all): "\(operation) took \(taken) of \(all) bytes"
    case .unexpectedState(let state): "\(operation) failed: the device is in \(state)"
    case .noAnswer: "\(operation) was never answered"
    case .notAsked: "\(operation) was not asked for any more: this process ends"
    }
  }
}
