// SPDX-License-Identifier: Apache-2.0
import Glibc
import LinuxIO
import Migration
import Synchronization

@testable import Helper

/// A VMM with a server at the other end of its connection, and what it may expect of that.
final class HostileVMM {
  /// What is waited for, where it comes soon.
  enum Wish { case replies, loadedOrReady, status }

  let devices: [FuzzDevice]
  private let socket: PacketSocket
  private let server: HelperServer
  private let ended = BlockingQueue<HelperServer.Ending>()
  private var ending: HelperServer.Ending?
  private var number: UInt32 = 0
  /// Requests that have no reply yet.
  private var waiting: [UInt32: UInt32] = [:]
  /// What is at the other ends of descriptors that were sent.
  private var kept: [SentFile] = []
  private var sawLoadedOrReady = false
  private var committed: UInt32?
  /// How often the devices had been started when COMMIT had its reply.
  private var startsAtCommit: [Int]?
  private var hasHungUp = false

  /// A server does its work on this thread, one after the other.
  private static let serving = try! Lane(name: "server")
  /// Microseconds after which what has not come never will.
  private static let patience: UInt64 = 15_000_000

  init(devices: Int, failing: Int = .max) throws {
    let (mine, theirs) = try PacketSocket.pair()
    self.devices = (0..<devices).map { FuzzDevice(RequestChoice.device(1, named: UInt32($0)).name, failing: failing) }
    socket = mine
    server = try HelperServer(socket: theirs, host: FuzzHost(self.devices), version: "fuzz")
    // It is used on one thread at a time: here until it runs, and there from then on.
    nonisolated(unsafe) let server = server
    Self.serving.put { [ended] in
      let ending = unsafe server.run()
      theirs.hangUp()
      ended.put(ending)
    }
  }

  /// Whether the server has ended, or is about to.
  var isOver: Bool { hasHungUp || ending != nil }

  /// The devices as a stream for them would name them.
  var manifest: [StreamManifest.Device] {
    devices.map { StreamManifest.Device(name: "\($0.name)", driver: "fake", features: [.stopCopy, .p2p, .preCopy]) }
  }

  // MARK: Out

  /// Asks, with these descriptors or none.
  func ask(_ request: HelperRequest, _ files: [HostileFile]) throws {
    number += 1
    if request == .commit { committed = number }
    try send(request.packet(number: number), files)
  }

  /// Sends anything, with up to two descriptors.
  func send(_ bytes: [UInt8], _ files: [HostileFile]) throws {
    if isOver || bytes.isEmpty { return }
    try expect(bytes, files.count)
    let files = try files.prefix(2).map { keep(try $0.make()) }
    do throws(SystemError) {
      switch files.count {
      case 0: try socket.send(bytes.span)
      case 1: try socket.send(bytes.span, with: files[0].descriptor)
      default: try socket.send(bytes.span, with: files[0].descriptor, files[1].descriptor)
      }
    } catch {
      // It is gone already.
      try waitForEnd()
    }
  }

  private func keep(_ ends: consuming HostileEnds) -> SentFile {
    if let other = ends.kept.take() { kept.append(SentFile(other)) }
    return SentFile(ends.sent)
  }

  /// What is to come of a packet.
  private func expect(_ bytes: [UInt8], _ descriptors: Int) throws {
    let number: UInt32
    do throws(HelperPacketError) {
      number = try HelperPacket.request(bytes.span, descriptors: min(descriptors, 2)).number
    } catch {
      number = error.number
    }
    waiting[number, default: 0] += 1
  }

  /// Whoever is at the other ends of the streams goes.
  func endStreams() {
    for file in kept { shutdown(file.descriptor.rawValue, Int32(SHUT_RDWR)) }
    kept = []
  }

  func end(hangsUp: Bool) throws {
    if hangsUp {
      hasHungUp = true
      socket.hangUp()
    } else {
      server.terminate("fuzz")
    }
    try waitForEnd()
  }

  // MARK: In

  /// Waits a little for what may come, or never.
  func wait(_ wish: Wish) throws {
    if wish == .status { try ask(.status, []) }
    let asked = number
    let deadline = monotonicMicroseconds() + 2_000
    while !isOver, monotonicMicroseconds() < deadline {
      switch wish {
      case .replies: if waiting.isEmpty { return }
      case .loadedOrReady: if sawLoadedOrReady { return }
      case .status: if waiting[asked] == nil { return }
      }
      try takeOne(until: deadline)
    }
  }

  /// Takes a packet where one comes in time.
  private func takeOne(until deadline: UInt64) throws {
    var polled = pollfd(fd: socket.descriptor.rawValue, events: Int16(POLLIN), revents: 0)
    let now = monotonicMicroseconds()
    let left = deadline > now ? Int32((deadline - now + 999) / 1000) : 0
    guard unsafe poll(&polled, 1, left) > 0 else { return }
    switch try arrival() {
    case .nothing: return
    case .packet(let bytes, let descriptors): try take(bytes, descriptors)
    case .gone: try waitForEnd()
    }
  }

  private enum Arrival {
    case packet([UInt8], descriptors: Int)
    case nothing, gone
  }

  private func arrival() throws -> Arrival {
    var buffer = [UInt8](repeating: 0, count: HelperPacket.maximumSize)
    var span = buffer.mutableSpan
    switch try socket.receive(into: &span, waits: false) {
    case .packet(let size, let descriptors): return .packet(Array(buffer[..<size]), descriptors: descriptors.count)
    case .nothing: return .nothing
    default: return .gone
    }
  }

  private func take(_ bytes: [UInt8], _ descriptors: Int) throws {
    switch try HelperPacket.message(bytes.span, descriptors: descriptors) {
    case .reply(let number, _, let reply):
      guard let count = waiting[number] else {
        throw FuzzFinding("a reply to \(number), which waits for none: \(reply)")
      }
      waiting[number] = count == 1 ? nil : count - 1
      if number == committed, reply == .done { startsAtCommit = devices.map(\.starts) }
    case .event(.loaded), .event(.ready): sawLoadedOrReady = true
    case .event: break
    }
  }

  /// Takes all that is still there, and how the server has ended.
  private func waitForEnd() throws {
    if ending != nil { return }
    guard let ended = ended.take(until: monotonicMicroseconds() + Self.patience) else {
      throw FuzzFinding("the server does not end")
    }
    ending = ended
    // What was sent before has to be readable.
    while case .packet(let bytes, let descriptors) = try arrival() { try take(bytes, descriptors) }
  }

  // MARK: The end

  /// Everything comes to an end. A server that is still there has answered everything by then.
  func settle() throws {
    if !isOver {
      endStreams()
      if waiting[0] == nil { try ask(.abort, []) }
      let deadline = monotonicMicroseconds() + Self.patience
      while !isOver, !waiting.isEmpty {
        guard monotonicMicroseconds() < deadline else {
          throw FuzzFinding("no replies to \(waiting.keys.sorted()) in \(Self.patience / 1_000_000) seconds")
        }
        try takeOne(until: deadline)
      }
      if !isOver { try end(hangsUp: true) }
    }
    endStreams()
    if let startsAtCommit, startsAtCommit != devices.map(\.starts) {
      throw FuzzFinding("a device was sent towards running after COMMIT")
    }
    // A process would end here, and with it whatever still waits for an order.
    server.driver.interrupt("fuzz")
    for device in devices { device.pull() }
    try Leftovers.shared.look()
  }
}

/// What stays behind in the process: threads and descriptors, looked at now and then.
private final class Leftovers: Sendable {
  static let shared = Leftovers()
  private let state = Mutex((runs: 0, base: 0))

  func look() throws(FuzzFinding) {
    guard FuzzTarget.isAlone.load(ordering: .relaxed) else { return }
    let (runs, base) = state.withLock { state in
      state.runs += 1
      return (state.runs, state.base)
    }
    guard runs % 200 == 0 else { return }
    // Threads end by themselves.
    let deadline = monotonicMicroseconds() + 20_000_000
    while count() > base + 40, base > 0 {
      if monotonicMicroseconds() > deadline { throw FuzzFinding("\(count()) threads and descriptors, after \(base)") }
      Pause.milliseconds(1)
    }
    if base == 0 { state.withLock { $0.base = count() } }
  }

  private func count() -> Int { Files.names(in: "/proc/self/fd").count + Files.names(in: "/proc/self/task").count }
}
