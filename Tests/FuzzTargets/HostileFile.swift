// SPDX-License-Identifier: Apache-2.0
import Glibc
import LinuxIO

/// A descriptor that is sent, and what is kept at its other end.
struct HostileEnds: ~Copyable {
  var sent: Descriptor
  var kept: Descriptor?
  /// The number of that.
  private let other: Int32

  init(sent: consuming Descriptor, kept: consuming Descriptor? = nil, other: Int32 = -1) {
    self.sent = sent
    self.kept = kept
    self.other = other
  }

  /// Says as much as there is room for: nobody reads yet.
  borrowing func fill(_ bytes: [UInt8]) throws {
    let part = Array(bytes.prefix(1 << 15))
    if part.isEmpty { return }
    guard unsafe write(other, part, part.count) == part.count else { throw FuzzFinding("no room: \(errno)") }
  }

  borrowing func endWriting() { shutdown(other, Int32(SHUT_WR)) }
}

/// What a VMM may send as a descriptor.
enum HostileFile {
  /// A file in memory.
  case memory([UInt8])
  /// An empty one, which takes everything.
  case sink
  /// A stream socket, at whose other end somebody has said this, and then hung up or not.
  case socket([UInt8], isOpen: Bool)
  /// The end of a pipe that can be read, with what is in it.
  case pipe([UInt8], isOpen: Bool)
  /// The other end, which nobody reads.
  case stuckPipe
  /// `/dev/null`.
  case null
  /// `/dev/zero`, which has no end.
  case zero
  /// A folder.
  case folder
  /// A socket that is connected to nothing.
  case loneSocket
  /// A connection of packets.
  case packets

  func make() throws -> HostileEnds {
    switch self {
    case .memory(let bytes):
      let file = try Descriptor.inMemory(name: "fuzz")
      try file.writeAll(bytes.span, at: 0)
      return HostileEnds(sent: file)
    case .sink: return HostileEnds(sent: try Descriptor.inMemory(name: "fuzz"))
    case .socket(let bytes, let isOpen):
      let ends = try Self.pair(Int32(SOCK_STREAM.rawValue))
      try ends.fill(bytes)
      if !isOpen { ends.endWriting() }
      return ends
    case .pipe(let bytes, let isOpen):
      var ends = try Self.pipe(sendsReader: true)
      try ends.fill(bytes)
      if !isOpen { ends.kept = nil }
      return ends
    case .stuckPipe: return try Self.pipe(sendsReader: false)
    case .null: return HostileEnds(sent: try .open("/dev/null", O_RDWR))
    case .zero: return HostileEnds(sent: try .open("/dev/zero", O_RDWR))
    case .folder: return HostileEnds(sent: try .open("/", O_RDONLY))
    case .loneSocket:
      let number = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
      return HostileEnds(sent: Descriptor(owning: number, subject: "fuzz"))
    case .packets: return try Self.pair(Int32(SOCK_SEQPACKET.rawValue))
    }
  }

  private static func pair(_ type: Int32) throws -> HostileEnds {
    var numbers: [Int32] = [-1, -1]
    guard unsafe socketpair(AF_UNIX, type | Int32(SOCK_CLOEXEC.rawValue), 0, &numbers) == 0 else {
      throw FuzzFinding("no sockets: \(errno)")
    }
    return HostileEnds(
      sent: Descriptor(owning: numbers[0], subject: "fuzz"), kept: Descriptor(owning: numbers[1], subject: "fuzz"),
      other: numbers[1])
  }

  private static func pipe(sendsReader: Bool) throws -> HostileEnds {
    var numbers: [Int32] = [-1, -1]
    guard unsafe Glibc.pipe(&numbers) == 0 else { throw FuzzFinding("no pipe: \(errno)") }
    let (sent, kept) = sendsReader ? (numbers[0], numbers[1]) : (numbers[1], numbers[0])
    return HostileEnds(
      sent: Descriptor(owning: sent, subject: "fuzz"), kept: Descriptor(owning: kept, subject: "fuzz"), other: kept)
  }
}
