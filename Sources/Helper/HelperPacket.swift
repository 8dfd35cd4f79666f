// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import LinuxIO

/// A request as it came, with what its reply has to carry.
public struct HelperCall: Hashable, Sendable {
  /// The VMM's number for it; not 0.
  public var number: UInt32
  /// The corresponding C constants are `VFIO_FERRY_HELLO` and those after it.
  public var type: UInt32
  /// What is asked.
  public var request: HelperRequest

  /// A request.
  public init(number: UInt32, type: UInt32, _ request: HelperRequest) {
    self.number = number
    self.type = type
    self.request = request
  }
}

/// A packet that is refused.
public struct HelperPacketError: Error, Hashable, Sendable {
  /// The packet's number, where it has one.
  public var number: UInt32
  /// Its type, where it has one.
  public var type: UInt32
  /// Why.
  public var failure: HelperFailure

  /// Whether what comes after it can't be trusted either: the connection ends with this error.
  public var hangsUp: Bool { failure.code == .badPacket || failure.code == .version }

  /// A refusal.
  public init(number: UInt32, type: UInt32, _ failure: HelperFailure) {
    self.number = number
    self.type = type
    self.failure = failure
  }
}

/// Packets, as `include/vfio_ferry.h` lays them out.
public enum HelperPacket {
  /// The most bytes of one. The corresponding C constant is `VFIO_FERRY_MAX_PACKET`.
  public static let maximumSize = Int(VFIO_FERRY_MAX_PACKET)

  /// The number and the type that a packet has at its head; zeros where there is no head.
  public static func head(of bytes: Span<UInt8>) -> (number: UInt32, type: UInt32) {
    guard bytes.count >= MemoryLayout<vfio_ferry_header>.size else { return (0, 0) }
    let header = bytes.load(as: vfio_ferry_header.self)
    return (header.number, header.type)
  }

  /// Reads a request. Whatever is in the packet, this does no harm and takes no memory to speak of.
  ///
  /// What is wrong is told apart: `badPacket` is a wrong size, number, count of descriptors, reserved field or end of a
  /// name, after which the helper hangs up; `unknownRequest`; `limit` for a blob that is too large; `version` for a HELLO
  /// that can't be read and says another major version (one that can be read is the session's to refuse); and `badArgument`
  /// for everything else.
  /// - Parameters:
  ///   - bytes: the whole packet.
  ///   - descriptors: how many came with it; they are the caller's.
  public static func request(
    _ bytes: Span<UInt8>, descriptors: Int
  ) throws(HelperPacketError) -> HelperCall {
    let (number, type) = head(of: bytes)
    do throws(HelperFailure) {
      try checkHead(bytes, descriptors: descriptors)
      if number == 0 { throw WireField.layout("the request's number is 0") }
      let request = try HelperRequest(bytes, type: type)
      if descriptors != request.descriptors {
        throw WireField.layout("request \(type) came with \(descriptors) descriptors and takes \(request.descriptors)")
      }
      return HelperCall(number: number, type: type, request)
    } catch {
      throw HelperPacketError(number: number, type: type, error)
    }
  }

  /// That a packet is what its head says, whatever its type.
  static func checkHead(_ bytes: Span<UInt8>, descriptors: Int) throws(HelperFailure) {
    guard bytes.count >= MemoryLayout<vfio_ferry_header>.size else {
      throw WireField.layout("a packet of \(bytes.count) bytes has no header")
    }
    let header = bytes.load(as: vfio_ferry_header.self)
    if Int(header.size) != bytes.count {
      throw WireField.layout("a packet of \(bytes.count) bytes says that it has \(header.size)")
    }
    if Int(header.descriptors) != descriptors {
      throw WireField.layout("a packet with \(descriptors) descriptors says that it has \(header.descriptors)")
    }
  }

  /// The structure that a packet is.
  static func structure<Structure: BitwiseCopyable>(_ bytes: Span<UInt8>) throws(HelperFailure) -> Structure {
    let size = MemoryLayout<Structure>.size
    if bytes.count != size { throw WireField.layout("a packet of \(bytes.count) bytes, where \(size) belong") }
    return bytes.load()
  }

  /// The bytes of a packet whose structure has everything but its header.
  static func bytes(
    _ structure: some BitwiseCopyable, type: UInt32, number: UInt32, descriptors: Int
  ) -> [UInt8] {
    var bytes = [UInt8](bytesOf: structure)
    let header = vfio_ferry_header(
      type: type, size: UInt32(bytes.count), number: number, descriptors: UInt32(descriptors))
    bytes.replaceSubrange(..<MemoryLayout<vfio_ferry_header>.size, with: [UInt8](bytesOf: header))
    return bytes
  }
}
