// SPDX-License-Identifier: Apache-2.0
public import LinuxIO
public import Migration

/// Why something can't be done with what tracks a guest's memory. Nothing has changed then.
public enum GuestTrackingError: Error, Hashable, Sendable {
  /// Not while memory is tracked: its layout stays as it is.
  case isTracked
  /// Only while memory is tracked.
  case isNotTracked
  /// The device has been added already.
  case deviceExists(UInt32)
  /// There is no such device.
  case noSuchDevice(UInt32)
  /// A guest range that can't be, or that overlaps another.
  case memory(DirtyBitmapError)
  /// A mapping that can't be made or that is not there.
  case mapping(space: UInt32, MappedMemoryError)
  /// More than so many mappings, all spaces together.
  case tooManyMappings(Int)
  /// A bitmap of more than so many bytes.
  case bitmapTooLarge(Int)
  /// There is no memory for the bitmap.
  case system(SystemError)
}

extension GuestTrackingError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .isTracked: "guest memory is tracked, and its layout stays as it is until that is stopped"
    case .isNotTracked: "guest memory is not tracked"
    case .deviceExists(let device): "device \(device) is tracked already"
    case .noSuchDevice(let device): "there is no device \(device)"
    case .memory(let error): "\(error)"
    case .mapping(let space, let error): "address space \(space): \(error)"
    case .tooManyMappings(let most): "more than \(most) mappings"
    case .bitmapTooLarge(let most): "a bitmap of more than \(most) bytes: let a bit stand for a larger page"
    case .system(let error): "\(error)"
    }
  }
}
