// SPDX-License-Identifier: Apache-2.0

/// Why a stream is refused, and at which frame.
public struct StreamError: Error, Hashable, Sendable {
  /// What is wrong with it.
  public enum Kind: Hashable, Sendable {
    /// It does not begin as a stream does.
    case notAStream
    /// Its preamble is damaged.
    case damagedPreamble
    /// It is of a major version that this program does not read.
    case unsupportedVersion(UInt16)
    /// It ends before its end frame.
    case incomplete
    /// The header's checksum does not match.
    case damagedHeader
    /// The payload's checksum does not match.
    case damagedPayload
    /// A frame that must be understood is of a type that this program does not know.
    case unknownMandatoryFrame(UInt16)
    /// A length, index or count is outside its cap, or a frame stands where it may not.
    case invalid(String)
    /// Bytes follow the end frame.
    case trailingBytes
  }

  /// What is wrong.
  public let kind: Kind
  /// Where: the frame's number and type or, where its header can't be believed, its number alone.
  public let place: String
  /// Offset of that place from the start of the stream, in bytes.
  public let offset: UInt64

  /// A fault and its place.
  public init(_ kind: Kind, place: String, offset: UInt64) {
    self.kind = kind
    self.place = place
    self.offset = offset
  }
}

extension StreamError: CustomStringConvertible {
  public var description: String {
    let what: String =
      switch kind {
      case .notAStream: "this is not a vfio-ferry stream"
      case .damagedPreamble: "is corrupt"
      case .unsupportedVersion(let major):
        "is of version \(major), and this program reads version \(StreamFormat.version.major)"
      case .incomplete: "the stream is incomplete: it ends in or before this frame"
      case .damagedHeader: "its header is corrupt"
      case .damagedPayload: "its payload is corrupt"
      case .unknownMandatoryFrame(let type):
        "its type is \(type), which this program does not know and must not skip: a newer vfio-ferry wrote it"
      case .invalid(let reason): reason
      case .trailingBytes: "bytes follow the end of the stream"
      }
    return "\(place) at byte \(offset): \(what)"
  }
}
