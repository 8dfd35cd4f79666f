// SPDX-License-Identifier: Apache-2.0
import Glibc
import Synchronization
import Testing

@testable import LinuxIO

@Suite("Sockets of whole packets, with descriptors", .serialized)
struct PacketSocketTests {
  static let name = "passed-under-test"

  private var passed: Int {
    Files.names(in: "/proc/self/fd").count { number in
      Files.link("/proc/self/fd/\(number)")?.contains(Self.name) == true
    }
  }

  private func file(_ content: String) throws -> Descriptor {
    let file = try Descriptor.inMemory(name: Self.name)
    try file.writeAll(Array(content.utf8).span, at: 0)
    return file
  }

  /// What came, in words, and what is in the files that came.
  private func receive(_ socket: PacketSocket, room: Int = 16, waits: Bool = false) throws -> String {
    var bytes = [UInt8](repeating: 0, count: room)
    var span = bytes.mutableSpan
    switch try socket.receive(into: &span, waits: waits) {
    case .packet(let size, var descriptors):
      var text = String(decoding: bytes[..<size], as: UTF8.self)
      if let first = descriptors.first.take() { text += "+" + content(first) }
      if let second = descriptors.second.take() { text += "+" + content(second) }
      return text
    case .nothing: return "nothing"
    case .hungUp: return "hung up"
    case .tooLong(let size): return "too long: \(size)"
    case .tooManyDescriptors(let size): return "too many: \(size)"
    case .descriptorsLost(let size): return "lost: \(size)"
    }
  }

  private func content(_ file: consuming Descriptor) -> String {
    var bytes = [UInt8](repeating: 0, count: 16)
    var span = bytes.mutableSpan
    let count = (try? file.read(into: &span, at: 0)) ?? 0
    let isClosedInCommands = fcntl(file.rawValue, F_GETFD) & FD_CLOEXEC != 0
    return String(decoding: bytes[..<count], as: UTF8.self) + (isClosedInCommands ? "" : " inherited")
  }

  @Test("packets come whole and in order, with the descriptors that were sent with them, close-on-exec")
  func passes() throws {
    let (one, other) = try PacketSocket.pair()
    let a = try file("a")
    let b = try file("b")
    try one.send(Array("none".utf8).span)
    try one.send(Array("one".utf8).span, with: a)
    try one.send(Array("two".utf8).span, with: a, b)
    try other.send(Array("back".utf8).span, with: b)
    #expect(try receive(other) == "none")
    #expect(try receive(other) == "one+a")
    #expect(try receive(other) == "two+a+b")
    #expect(try receive(other) == "nothing")
    #expect(try receive(one) == "back+b")
    #expect(passed == 2)
  }

  @Test("what is not taken out of a packet is closed, also where the packet was never received")
  func untaken() throws {
    let (one, other) = try PacketSocket.pair()
    do {
      let a = try file("a")
      let b = try file("b")
      for _ in 0..<3 { try one.send([1].span, with: a, b) }
    }
    var bytes = [UInt8](repeating: 0, count: 16)
    do {
      var span = bytes.mutableSpan
      guard case .packet(1, var descriptors) = try other.receive(into: &span) else { throw Unexpected() }
      #expect(descriptors.count == 2 && passed == 2)
      let first = descriptors.first.take()
      #expect(descriptors.count == 1 && first != nil)
    }
    #expect(passed == 0)
    do {
      var span = bytes.mutableSpan
      _ = try other.receive(into: &span)
    }
    #expect(passed == 0)
  }

  @Test("a packet that is too long is told apart from one that just fits, and its descriptors are closed")
  func tooLong() throws {
    let (one, other) = try PacketSocket.pair()
    let a = try file("a")
    try one.send([UInt8](repeating: 65, count: 16).span, with: a)
    try one.send([UInt8](repeating: 65, count: 17).span, with: a)
    try one.send([UInt8](repeating: 65, count: 70000).span)
    try one.send(Array("next".utf8).span)
    #expect(try receive(other) == "AAAAAAAAAAAAAAAA+a")
    #expect(try receive(other) == "too long: 17")
    #expect(try receive(other) == "too long: 70000")
    #expect(try receive(other) == "next")
    #expect(passed == 1)
  }

  @Test("more than two descriptors are told apart from two, and all are closed", arguments: [3, 4])
  func tooMany(count: Int) throws {
    let (one, other) = try PacketSocket.pair()
    let a = try file("a")
    let sent = try one.send([1, 2].span, numbers: Array(repeating: a.rawValue, count: count), waits: false)
    #expect(sent)
    try one.send(Array("next".utf8).span, with: a, a)
    #expect(try receive(other) == "too many: 2")
    #expect(passed == 1)
    #expect(try receive(other) == "next+a+a")
  }

  @Test("a process that can have no more descriptors is told so, and not that there were too many")
  func lost() async {
    await #expect(processExitsWith: .success) {
      let (one, other) = try PacketSocket.pair()
      let file = try Descriptor.inMemory(name: Self.name)
      var limit = rlimit(rlim_cur: 256, rlim_max: 256)
      guard unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { exit(1) }
      // Threads of the test's own may open and close something meanwhile: then it is done again.
      for _ in 0..<1000 {
        try one.send([1].span, with: file, file)
        var last: Int32 = -1
        while true {
          let filler = fcntl(file.rawValue, F_DUPFD, 0)
          if filler < 0 { break }
          last = filler
        }
        // Room for one.
        close(last)
        var bytes: [UInt8] = [0]
        var span = bytes.mutableSpan
        let isLost = if case .descriptorsLost(1) = try other.receive(into: &span) { true } else { false }
        // What did arrive is closed: its number is free again.
        let again = fcntl(file.rawValue, F_DUPFD, 0)
        close(again)
        if isLost, again == last { return }
      }
      exit(2)
    }
  }

  @Test("an end that is gone is told apart from one that has nothing to say, after what it had said")
  func hangsUp() throws {
    let (one, other) = try PacketSocket.pair()
    #expect(try receive(other) == "nothing")
    try one.send(Array("last".utf8).span)
    one.hangUp()
    #expect(try receive(other) == "last")
    #expect(try receive(other) == "hung up")
    #expect(try receive(other) == "hung up")
    #expect(throws: SystemError("sending to", "a pair of sockets", errno: EPIPE)) { try other.send([1].span) }
  }

  @Test("what was said before an end was closed is received, even if that end has left something unread")
  func closes() throws {
    let one = try endOfPair()
    #expect(try receive(one) == "commit")
    // Another test's child may have the other end for a moment, until it has become another program.
    #expect(try receive(one, waits: true) == "hung up")
  }

  /// One end, whose other end has sent something, left something unread, and was closed.
  private func endOfPair() throws -> PacketSocket {
    let (one, other) = try PacketSocket.pair()
    try one.send(Array("an event".utf8).span)
    try other.send(Array("commit".utf8).span)
    return one
  }

  @Test("a thread that waits gets what comes, and is woken by a hang-up; the descriptor's mode does not matter")
  func waits() throws {
    let (one, other) = try PacketSocket.pair()
    #expect(fcntl(other.descriptor.rawValue, F_SETFL, O_NONBLOCK) == 0)
    let seen = Mutex<[String]>([])
    let thread = try BlockingThread(name: "receiver") {
      while true {
        let text = (try? receive(other, waits: true)) ?? "failed"
        seen.withLock { $0.append(text) }
        if text == "hung up" || text == "failed" { return }
      }
    }
    try one.send(Array("first".utf8).span)
    try one.send(Array("second".utf8).span)
    other.hangUp()
    thread.join()
    let all = seen.withLock { $0 }
    #expect(["first", "second"].starts(with: all.dropLast()) && all.last == "hung up")
  }

  @Test("a send that does not wait says when there is no room; one that waits goes on when there is")
  func full() throws {
    let (one, other) = try PacketSocket.pair()
    let packet = [UInt8](repeating: 65, count: 512)
    var sent = 0
    while try one.send(packet.span, waits: false) { sent += 1 }
    #expect(sent > 0)
    let failed = Atomic(false)
    let thread = try BlockingThread(name: "sender") {
      do { try one.send([1].span) } catch { failed.store(true, ordering: .relaxed) }
    }
    for _ in 0..<sent { _ = try receive(other, room: 512, waits: true) }
    #expect(try receive(other, waits: true) == "\u{1}")
    thread.join()
    let hasFailed = failed.load(ordering: .relaxed)
    #expect(!hasFailed)
  }

  @Test("who made a pair is told")
  func credentials() throws {
    let (one, _) = try PacketSocket.pair()
    #expect(try one.peerCredentials == PeerCredentials(pid: getpid(), uid: geteuid(), gid: getegid()))
  }

  @Test("no other kind of descriptor is taken, and each is told what it is not; it stays open where it was inherited")
  func kinds() throws {
    func opened(_ family: Int32, _ type: __socket_type) -> Int32 { socket(family, Int32(type.rawValue), 0) }
    let file = try file("")
    let numbers: [(Int32, Int32)] = [
      (fcntl(file.rawValue, F_DUPFD_CLOEXEC, 0), ENOTSOCK), (opened(AF_UNIX, SOCK_STREAM), EPROTOTYPE),
      (opened(AF_UNIX, SOCK_DGRAM), EPROTOTYPE), (opened(AF_INET, SOCK_STREAM), EAFNOSUPPORT),
      (opened(AF_UNIX, SOCK_SEQPACKET), ENOTCONN), (9999, EBADF), (-1, EBADF),
    ]
    for (number, error) in numbers {
      let thrown = #expect(throws: SystemError.self) { _ = try PacketSocket(inherited: number, subject: "the VMM") }
      #expect(thrown?.errno == error && thrown?.subject == "the VMM")
      if error == EBADF { continue }
      #expect(fcntl(number, F_GETFD) >= 0)
      #expect(throws: SystemError.self) {
        _ = try PacketSocket(adopting: Descriptor(owning: number, subject: "the VMM"))
      }
    }
    #expect(passed == 1)
  }

  @Test("an inherited socket is used by its own number, close-on-exec, and only descriptors come with its packets")
  func inherited() throws {
    var numbers: [Int32] = [-1, -1]
    #expect(unsafe socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &numbers) == 0)
    var on: Int32 = 1
    #expect(unsafe setsockopt(numbers[0], SOL_SOCKET, SO_PASSCRED, &on, 4) == 0)
    let one = try PacketSocket(inherited: numbers[0], subject: "the VMM")
    let other = try PacketSocket(inherited: numbers[1], subject: "the helper")
    #expect(one.descriptor.rawValue == numbers[0])
    #expect(fcntl(numbers[0], F_GETFD) & FD_CLOEXEC != 0)
    let file = try file("a")
    try other.send(Array("two".utf8).span, with: file, file)
    #expect(try receive(one) == "two+a+a")
  }

  private struct Unexpected: Error {}
}
