// SPDX-License-Identifier: Apache-2.0

/// Why a device does not take a record of an image, or what is loaded is not a whole one.
enum DeviceImageError: Error, Hashable, Sendable {
  /// Only a device in RESUMING takes records.
  case notResuming
  /// No image of such a device has that record.
  case noSuchRecord
  /// A record comes before the one that it follows.
  case outOfOrder
  /// Its length is not what it says or should be.
  case wrongLength
  /// It is of no kind, not of the kind that is there already, or of a device of another kind.
  case wrongKind
  /// A value can't be what it is.
  case wrongValue
  /// It names an object by the number of another, or one that is not there.
  case wrongNumber
  /// Records are missing at the end.
  case incomplete
}
