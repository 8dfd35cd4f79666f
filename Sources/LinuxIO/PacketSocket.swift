// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import Glibc

/// A connected Unix socket of whole packets (`SOCK_SEQPACKET`), with which descriptors can come.
///
/// Any thread may use it at any time. It closes when its last owner lets it go.
public final class PacketSocket: Sendable {
  /// The most descriptors that are taken with one packet.
  public static let maximumDescriptors = Int(VF_PACKET_DESCRIPTORS)

  /// The socket's own descriptor, to wait for it.
  public let descriptor: Descriptor

  /// Takes a socket; on failure it is closed.
  /// - Throws: where it is not such a socket: ENOTSOCK, EAFNOSUPPORT for another family, EPROTOTYPE for another type,
  ///   EINVAL for one that listens, ENOTCONN for one that is not connected.
  public init(adopting descriptor: consuming Descriptor) throws(SystemError) {
    try PacketSocketKind.connected.check(descriptor.rawValue, descriptor.subject)
    vf_receive_descriptors_only(descriptor.rawValue)
    self.descriptor = descriptor
  }

  /// Takes a socket that this process was started with, and makes it close-on-exec. On failure the number, which may be
  /// something else's, stays as it is.
  /// - Throws: as ``init(adopting:)``; EBADF where nothing is open.
  public convenience init(inherited number: Int32, subject: String) throws(SystemError) {
    try PacketSocketKind.connected.check(number, subject)
    let descriptor = Descriptor(owning: number, subject: subject)
    try descriptor.setCloseOnExec(true)
    try self.init(adopting: descriptor)
  }

  /// Two sockets that are connected to each other, close-on-exec.
  public static func pair(subject: String = "a pair of sockets") throws(SystemError) -> (PacketSocket, PacketSocket) {
    var numbers: [Int32] = [-1, -1]
    let type = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue)
    let result = unsafe socketpair(AF_UNIX, type, 0, &numbers)
    let error = errno
    if result != 0 { throw SystemError("making", subject, errno: error) }
    let first = Descriptor(owning: numbers[0], subject: subject)
    let second = Descriptor(owning: numbers[1], subject: subject)
    return (try PacketSocket(adopting: first), try PacketSocket(adopting: second))
  }

  /// Takes the next packet.
  /// - Parameters:
  ///   - buffer: for its bytes.
  ///   - waits: whether to wait for one, also where the descriptor is in non-blocking mode.
  public func receive(into buffer: inout MutableSpan<UInt8>, waits: Bool = true) throws(SystemError) -> PacketArrival {
    let room = buffer.count
    while true {
      var packet = vf_packet()
      let result = unsafe buffer.withUnsafeMutableBytes { bytes in
        unsafe vf_receive_packet(descriptor.rawValue, bytes.baseAddress, UInt(bytes.count), &packet)
      }
      let error = errno
      if result == 0 { return Self.arrival(packet, room: room, subject: descriptor.subject) }
      switch error {
      // The other end has closed and left packets of ours unread. It is said once; what it sent before is still there.
      case EINTR, ECONNRESET: continue
      case EAGAIN where !waits: return .nothing
      case EAGAIN: try descriptor.wait(for: POLLIN)
      default: throw SystemError("receiving from", descriptor.subject, errno: error)
      }
    }
  }

  private static func arrival(_ packet: vf_packet, room: Int, subject: String) -> PacketArrival {
    let size = Int(packet.size)
    let descriptors = ReceivedDescriptors(
      first: packet.count > 0 ? Descriptor(owning: packet.descriptors.0, subject: "from \(subject)") : nil,
      second: packet.count > 1 ? Descriptor(owning: packet.descriptors.1, subject: "from \(subject)") : nil)
    if size > room { return .tooLong(size: size) }
    if packet.missing != 0 {
      // The kernel stops at the first that it can't install.
      return packet.count < maximumDescriptors ? .descriptorsLost(size: size) : .tooManyDescriptors(size: size)
    }
    if size == 0, packet.count == 0 { return .hungUp }
    return .packet(size: size, descriptors)
  }

  /// Sends a packet.
  /// - Parameter waits: whether to wait until there is room for it, also where the descriptor is in non-blocking mode.
  /// - Returns: whether it was sent; false only without `waits`.
  /// - Throws: EPIPE or ECONNRESET where the other end is gone; no signal is raised.
  @discardableResult
  public func send(_ bytes: Span<UInt8>, waits: Bool = true) throws(SystemError) -> Bool {
    try send(bytes, numbers: [], waits: waits)
  }

  /// The same with a descriptor, of which the other end gets a duplicate; ownership stays here.
  @discardableResult
  public func send(
    _ bytes: Span<UInt8>, with first: borrowing Descriptor, waits: Bool = true
  ) throws(SystemError) -> Bool {
    try send(bytes, numbers: [first.rawValue], waits: waits)
  }

  /// The same with two descriptors.
  @discardableResult
  public func send(
    _ bytes: Span<UInt8>, with first: borrowing Descriptor, _ second: borrowing Descriptor, waits: Bool = true
  ) throws(SystemError) -> Bool {
    try send(bytes, numbers: [first.rawValue, second.rawValue], waits: waits)
  }

  func send(_ bytes: Span<UInt8>, numbers: [Int32], waits: Bool) throws(SystemError) -> Bool {
    while true {
      let result = unsafe bytes.withUnsafeBytes { bytes in
        unsafe vf_send_packet(
          descriptor.rawValue, bytes.baseAddress, UInt(bytes.count), numbers, Int32(numbers.count))
      }
      let error = errno
      if result == 0 { return true }
      switch error {
      case EINTR: continue
      case EAGAIN where !waits: return false
      case EAGAIN: try descriptor.wait(for: POLLOUT)
      default: throw SystemError("sending to", descriptor.subject, errno: error)
      }
    }
  }

  /// Ends the connection for both ends, also for threads that are waiting here. What was sent before can still be
  /// received.
  public func hangUp() { shutdown(descriptor.rawValue, Int32(SHUT_RDWR)) }

  /// Who connected, or who made the pair that it is one of. The corresponding C constant is `SO_PEERCRED`.
  public var peerCredentials: PeerCredentials {
    get throws(SystemError) {
      var credentials = PeerCredentials(pid: 0, uid: 0, gid: 0)
      let result = unsafe vf_peer_credentials(
        descriptor.rawValue, &credentials.pid, &credentials.uid, &credentials.gid)
      let error = errno
      if result != 0 { throw SystemError("asking who is behind", descriptor.subject, errno: error) }
      return credentials
    }
  }
}

/// What has come, or has not.
public enum PacketArrival: ~Copyable, Sendable {
  /// A packet of so many bytes, which are in the buffer, and its descriptors.
  case packet(size: Int, ReceivedDescriptors)
  /// There is none yet. Only where the caller did not want to wait.
  case nothing
  /// The other end is gone, and no packet of it is left. An empty packet looks the same.
  case hungUp
  /// A packet of so many bytes, more than the buffer has; the rest is lost, and its descriptors are closed.
  case tooLong(size: Int)
  /// A packet of so many bytes with more than ``PacketSocket/maximumDescriptors``, which are closed.
  case tooManyDescriptors(size: Int)
  /// A packet of so many bytes whose descriptors this process had no room for, or was not allowed to have; those that it
  /// got are closed.
  case descriptorsLost(size: Int)
}

/// The descriptors of a packet, close-on-exec. What its owner does not take out of it is closed with it.
public struct ReceivedDescriptors: ~Copyable, Sendable {
  /// The first; nil where there was none, or it was taken (`take()`).
  public var first: Descriptor?
  /// The second.
  public var second: Descriptor?

  /// Takes ownership of them.
  public init(first: consuming Descriptor? = nil, second: consuming Descriptor? = nil) {
    self.first = first
    self.second = second
  }

  /// How many there are.
  public var count: Int { (first == nil ? 0 : 1) + (second == nil ? 0 : 1) }
}

/// A process, as it was when it connected.
public struct PeerCredentials: Hashable, Sendable {
  /// Its number; 0 where it is in a PID namespace that can't be seen from here.
  public var pid: Int32
  /// Its user.
  public var uid: UInt32
  /// Its group.
  public var gid: UInt32

  /// A process.
  public init(pid: Int32, uid: UInt32, gid: UInt32) {
    self.pid = pid
    self.uid = uid
    self.gid = gid
  }
}

extension PeerCredentials: CustomStringConvertible {
  public var description: String { "process \(pid) of user \(uid) and group \(gid)" }
}
