// SPDX-License-Identifier: Apache-2.0
import Glibc
import Migration
import Synchronization
import Testing
import Transport

@testable import LinuxIO

@Suite("Two sides come to each other", .serialized)
struct RendezvousTests {
  /// A side that is gone is written to.
  init() { Signals.ignoreBrokenPipes() }

  static let kinds = ["tcp:127.0.0.1:0", "tcp:[::1]:0", "unix"]
  /// Where a test has to let time pass.
  static let few = ["tcp:127.0.0.1:0", "unix"]

  /// Somebody who waits to be called, in a thread of its own.
  final class Waiting: Sendable {
    let rendezvous: Rendezvous
    let refused = Mutex<[PeerCredentials]>([])
    private let events = BlockingQueue<String>()
    private let thread: BlockingThread
    private let result: Box

    private final class Box: Sendable {
      let channel = Mutex<Result<any ConnectedChannel, TransportError>?>(nil)
    }

    init(_ address: String, wait: UInt32? = nil) throws {
      let place = try StreamAddress(address).resolved(listens: true)
      let rendezvous = try Rendezvous(place, Rendezvous.Terms(wait: wait, deadAfter: 30))
      let (events, box) = (events, Box())
      self.rendezvous = rendezvous
      result = box
      thread = try BlockingThread(name: "waits") {
        do throws(TransportError) {
          let channel = try rendezvous.answer(
            listening: { events.put($0) }, refused: { _ in }, connected: { events.put($0) })
          box.channel.withLock { $0 = .success(channel) }
        } catch {
          box.channel.withLock { $0 = .failure(error) }
        }
        events.close()
      }
    }

    /// Where it listens, and then who came; nil where it gave up.
    func next() -> String? { events.take() }

    func end() throws -> any ConnectedChannel {
      thread.join()
      return try #require(result.channel.withLock { $0 }).get()
    }
  }

  /// Calls with an address of that kind. The socket's folder is removed.
  static func withAddress(_ kind: String, _ body: (String) throws -> Void) throws {
    guard kind == "unix" else { return try body(kind) }
    var template = Array("/tmp/ferry-rendezvous-XXXXXX".utf8CString)
    _ = unsafe mkdtemp(&template)
    let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer {
      for name in Files.names(in: folder) { Files.remove("\(folder)/\(name)") }
      unsafe _ = rmdir(folder)
    }
    try body("unix:\(folder)/socket")
  }

  static func caller(_ address: String, wait: UInt32 = 60) throws -> Rendezvous {
    try Rendezvous(
      try StreamAddress(address).resolved(listens: false), Rendezvous.Terms(wait: wait, deadAfter: 30))
  }

  static func read(_ channel: any Channel) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 100)
    var span = bytes.mutableSpan
    let count = try channel.read(into: &span)
    return Array(bytes[..<count])
  }

  @Test("both sides hear each other, the path is this user's, and it is gone when somebody has come", arguments: kinds)
  func talk(kind: String) throws {
    try Self.withAddress(kind) { address in
      let waiting = try Waiting(address)
      let place = try #require(waiting.next())
      let path = place.hasPrefix("unix:") ? String(place.dropFirst(5)) : nil
      if let path { #expect(PacketListenerTests.mode(path) == 0o600) }
      let here = try Self.caller(place).call()
      #expect(here.isTwoWay)
      try here.write([1, 2].span, [3].span)
      #expect(waiting.next() != nil)
      let there = try waiting.end()
      if let path { #expect(!Files.exists(path)) }
      #expect(try Self.read(there) == [1, 2, 3])
      try there.write([4].span, Span())
      #expect(try Self.read(here) == [4])
      here.hangUp(within: 0)
      #expect(try Self.read(there) == [])
    }
  }

  @Test("a second caller finds nobody, and is told so", arguments: few)
  func second(kind: String) throws {
    try Self.withAddress(kind) { address in
      let waiting = try Waiting(address)
      let place = try #require(waiting.next())
      let first = try Self.caller(place).call()
      try first.write([1].span, Span())
      let taken = try waiting.end()
      let error = #expect(throws: TransportError.self) { _ = try Self.caller(place, wait: 1).call() }
      guard case .unreached(let errors, seconds: 1) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      #expect([ECONNREFUSED, ENOENT].contains(errors[0].errno))
      #expect("\(TransportError.unreached(errors, seconds: 1))".contains("vfio-ferry receive"))
      withExtendedLifetime(taken) {}
    }
  }

  @Test("once somebody has come nobody else is let in, whether or not something was said yet", arguments: few)
  func nobodyElse(kind: String) throws {
    try Self.withAddress(kind) { address in
      let waiting = try Waiting(address)
      let place = try #require(waiting.next())
      let first = try Self.caller(place).call()
      #expect(waiting.next() != nil)
      #expect(throws: TransportError.self) { _ = try Self.caller(place, wait: 1).call() }
      try first.write([7].span, Span())
      #expect(try Self.read(waiting.end()) == [7])
    }
  }

  @Test("who calls too early tries again until the other side is there")
  func early() throws {
    try Self.withAddress("unix") { address in
      let called = BlockingQueue<Bool>()
      let caller = try Self.caller(address)
      let thread = try BlockingThread(name: "calls") {
        called.put((try? caller.call().write([9].span, Span())) != nil)
      }
      // It has failed at least once when it is found waiting; whether or not, it gets through.
      let waiting = try Waiting(address)
      #expect(try Self.read(waiting.end()) == [9])
      thread.join()
      #expect(called.take() == true)
    }
  }

  @Test("nobody comes, or comes and says nothing: at the end of its time it gives up and says which", arguments: few)
  func timeLimits(kind: String) throws {
    try Self.withAddress(kind) { address in
      let alone = try Waiting(address, wait: 1)
      let place = try #require(alone.next())
      #expect(throws: TransportError.nobodyCame(at: place, seconds: 1)) { _ = try alone.end() }
      let waiting = try Waiting(address, wait: 2)
      let silent = try Self.caller(try #require(waiting.next())).call()
      let error = #expect(throws: TransportError.self) { _ = try waiting.end() }
      guard case .silent(_, seconds: 2) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      // It was hung up on.
      #expect((try? Self.read(silent)) ?? [] == [])
    }
  }

  @Test("whoever waits can be told to stop, before and while it does", arguments: kinds)
  func cancelled(kind: String) throws {
    try Self.withAddress(kind) { address in
      let waiting = try Waiting(address)
      let place = try #require(waiting.next())
      waiting.rendezvous.cancel()
      #expect(throws: TransportError.cancelled) { _ = try waiting.end() }
      let caller = try Self.caller(place)
      let result = BlockingQueue<TransportError?>()
      let thread = try BlockingThread(name: "calls") {
        do throws(TransportError) {
          _ = try caller.call()
          result.put(nil)
        } catch {
          result.put(error)
        }
      }
      caller.cancel()
      thread.join()
      #expect(result.take() == .some(.cancelled))
    }
  }

  @Test("all addresses of a name are tried, in order")
  func allAddresses() throws {
    let waiting = try Waiting("tcp:127.0.0.1:0")
    let place = try #require(waiting.next())
    let address = try StreamAddress(place)
    guard case .tcp(_, let good) = try address.resolved(listens: false),
      case .tcp(_, let bad) = try StreamAddress("tcp:[::1]:1").resolved(listens: false)
    else { return }
    let caller = try Rendezvous(.tcp(address, bad + good), Rendezvous.Terms(wait: 60, deadAfter: 30))
    let channel = try caller.call()
    #expect(channel.name.contains(good[0].name))
    try channel.write([1].span, Span())
    _ = try waiting.end()
    let nobody = try Rendezvous(.tcp(address, bad + bad), Rendezvous.Terms(wait: 1, deadAfter: 30))
    let error = #expect(throws: TransportError.self) { _ = try nobody.call() }
    guard case .unreached(let errors, _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(errors.count == 2)
  }

  @Test("a path whose listener died is taken over; one that is listened on, or is something else, is not")
  func stalePaths() throws {
    try Self.withAddress("unix") { address in
      let path = String(address.dropFirst(5))
      do {
        // Bound and let go of, as by a process that was killed.
        let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        let dead = Descriptor(owning: number, subject: path)
        #expect(unsafe try UnixAddress(path).with { unsafe Int(bind(number, $0, $1)) } == 0)
        withExtendedLifetime(dead) {}
      }
      #expect(Files.exists(path))
      let waiting = try Waiting(address)
      #expect(waiting.next() == address)
      let late = try Waiting(address)
      let inUse = #expect(throws: TransportError.self) { _ = try late.end() }
      guard case .system(let cause) = inUse else {
        Issue.record("\(String(describing: inUse))")
        return
      }
      #expect(cause.errno == EADDRINUSE)
      // Whoever looked was not taken for somebody who calls.
      let caller = try Self.caller(address).call()
      try caller.write([5].span, Span())
      #expect(try Self.read(waiting.end()) == [5])
      _ = try Descriptor.open(path, O_CREAT | O_WRONLY)
      let other = #expect(throws: TransportError.self) { _ = try Waiting(address).end() }
      guard case .system(let cause) = other else {
        Issue.record("\(String(describing: other))")
        return
      }
      #expect(cause.errno == EEXIST && Files.exists(path))
    }
  }

  @Test("a socket that was inherited is taken when it is connected; anything else is refused and left as it was")
  func inherited() throws {
    func attempt(_ number: Int32) throws -> TransportError? {
      let rendezvous = try Rendezvous(.descriptor(number), Rendezvous.Terms(wait: 1, deadAfter: 30))
      do throws(TransportError) {
        _ = try rendezvous.call()
        return nil
      } catch {
        return error
      }
    }
    var pair: [Int32] = [0, 0]
    #expect(unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
    let other = Descriptor(owning: pair[1], subject: "the other end")
    do {
      let channel = try Rendezvous(.descriptor(pair[0]), Rendezvous.Terms(wait: nil, deadAfter: 30)).call()
      #expect(fcntl(pair[0], F_GETFD) & FD_CLOEXEC != 0 && channel.isSame(as: pair[0]))
      try channel.write([1].span, Span())
      var byte: [UInt8] = [0]
      var span = byte.mutableSpan
      #expect(try other.read(into: &span) == 1 && byte == [1])
    }
    // It was the channel's own.
    var byte: [UInt8] = [0]
    var span = byte.mutableSpan
    #expect(try other.read(into: &span) == 0)
    let pipe = try Descriptor.inMemory(name: "no socket")
    let packets = Descriptor(owning: socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0), subject: "packets")
    let alone = Descriptor(owning: socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0), subject: "alone")
    let listens = Descriptor(owning: socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0), subject: "listens")
    #expect(listen(listens.rawValue, 1) == 0)
    for (number, reason) in [
      (Int32(1_000_000), "no such descriptor"), (pipe.rawValue, "no socket"), (packets.rawValue, "SOCK_STREAM"),
      (alone.rawValue, "not connected"), (listens.rawValue, "it listens"),
    ] {
      let error = try attempt(number)
      #expect(error?.isMisuse == true && error.map { "\($0)" }?.contains(reason) == true, "\(reason)")
      if number < 1_000_000 { #expect(fcntl(number, F_GETFD) >= 0) }
    }
    withExtendedLifetime((pipe.rawValue, packets.rawValue, alone.rawValue)) {}
  }

  @Test("a TCP connection notices a dead peer in the stated time, and does not wait to send")
  func options() throws {
    var pair: [Int32] = [0, 0]
    #expect(unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
    // A Unix socket has none of these, and is left alone.
    for number in pair { try Descriptor(owning: number, subject: "a pair").watchPeer(seconds: 5) }
    let socket = Descriptor(owning: Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0), subject: "a socket")
    for (seconds, idle) in [(UInt32(1), Int32(1)), (30, 10), (86_400, 28_800)] {
      try socket.watchPeer(seconds: seconds)
      for (name, expected) in [
        (TCP_USER_TIMEOUT, Int32(seconds) * 1000), (TCP_KEEPIDLE, idle), (TCP_KEEPINTVL, idle), (TCP_NODELAY, 1),
      ] {
        var value: Int32 = 0
        var size = socklen_t(4)
        #expect(unsafe getsockopt(socket.rawValue, Int32(IPPROTO_TCP), name, &value, &size) == 0)
        #expect(value == expected, "option \(name) for \(seconds) s")
      }
    }
  }

  @Test("a peer that is alive and takes nothing is given up too")
  func takesNothing() throws {
    let waiting = try Waiting("tcp:127.0.0.1:0")
    let place = try StreamAddress(try #require(waiting.next())).resolved(listens: false)
    let here = try Rendezvous(place, Rendezvous.Terms(wait: 60, deadAfter: 1)).call()
    try here.write([1].span, Span())
    let there = try waiting.end()
    let much = [UInt8](repeating: 1, count: 1 << 20)
    let error = #expect(throws: ChannelError.self) { while true { try here.write(much.span, Span()) } }
    #expect(error?.errno.rawValue == ETIMEDOUT)
    withExtendedLifetime(there) {}
  }

  @Test("what was said before hanging up is read by a side that is still sending")
  func farewell() throws {
    let waiting = try Waiting("tcp:127.0.0.1:0")
    let here = try Self.caller(try #require(waiting.next())).call()
    let much = [UInt8](repeating: 1, count: 1 << 20)
    try here.write([1].span, Span())
    let there = try waiting.end()
    let thread = try BlockingThread(name: "sends") {
      // More than any buffer holds, and nobody reads it.
      for _ in 0..<16 { guard (try? here.write(much.span, Span())) != nil else { return } }
      here.hangUp(within: 0)
    }
    try there.write([42].span, Span())
    there.hangUp(within: 60_000_000)
    thread.join()
    #expect(try Self.read(here) == [42])
  }

  @Test("a connection's beginning is read again after it was rewound, in pieces of any size, and then what follows")
  func rewound() throws {
    let waiting = try Waiting("tcp:127.0.0.1:0")
    let here = try Self.caller(try #require(waiting.next())).call()
    try here.write([1, 2, 3, 4, 5].span, Span())
    let there = RewoundChannel(try waiting.end())
    func read(_ count: Int) throws -> [UInt8] {
      var all: [UInt8] = []
      while all.count < count {
        var bytes = [UInt8](repeating: 0, count: min(2, count - all.count))
        var span = bytes.mutableSpan
        let got = try there.read(into: &span)
        if got == 0 { break }
        all += bytes[..<got]
      }
      return all
    }
    #expect(try read(3) == [1, 2, 3])
    there.rewind()
    #expect(try read(5) == [1, 2, 3, 4, 5])
    try here.write([6].span, Span())
    here.hangUp(within: 0)
    #expect(try read(2) == [6])
  }
}
